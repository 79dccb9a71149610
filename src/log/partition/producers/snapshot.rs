//! Producer state as bytes, twice: Kafka's `.snapshot` file, which keeps the last batch of each
//! producer, and our own full form for the checkpoint, which keeps all of them.
//!
//! Both are big-endian and begin `version i16, CRC32C u32 of all that follows`.
//!
//! ```text
//! Kafka's, version 1:  count i32, then per producer
//!     producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
//!     timestamp i64, coordinator epoch i32, first offset of the open transaction i64 (−1: none)
//! full, version 101:   end offset i64, count u32, then per producer, by id
//!     producer id i64, epoch i16, coordinator epoch i32, first offset of the open transaction i64,
//!     last timestamp i64, last append i64, batch count u8, then per batch, oldest first
//!         last sequence i32, last offset i64, offset delta i32, timestamp i64
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::{Buf, BufMut, TryGetError};

use super::{NO_SEQUENCE, ProducerEntry, ProducerStates, REMEMBERED_BATCHES, RememberedBatch};
use crate::model::{Offset, ProducerEpoch, ProducerId};

const KAFKA_VERSION: i16 = 1;
/// Apart from Kafka's numbers, so that neither form is taken for the other.
const FULL_VERSION: i16 = 101;
/// Version and checksum.
const HEAD_BYTES: usize = 6;
const KAFKA_ENTRY_BYTES: usize = 46;
/// A producer without batches.
const FULL_ENTRY_BYTES: usize = 39;

/// Why bytes are not producer state; the file is dropped and the state rebuilt from the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerSnapshotError {
    /// The bytes end too early.
    #[error("producer snapshot is cut short")]
    Truncated,
    /// Written by something newer.
    #[error("producer snapshot has version {0}, which is not known")]
    Version(i16),
    /// Bytes changed since they were written.
    #[error("producer snapshot fails its CRC")]
    Crc,
    /// The checksum holds and the content makes no sense.
    #[error("producer snapshot is malformed: {0}")]
    Malformed(&'static str),
}

impl From<TryGetError> for ProducerSnapshotError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

impl ProducerStates {
    /// Kafka's `.snapshot` file: the last batch of each producer.
    pub fn encode_kafka(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.len() * KAFKA_ENTRY_BYTES);
        body.put_i32(i32::try_from(self.len()).unwrap_or(i32::MAX));
        for (id, entry) in self.iter().take(i32::MAX as usize) {
            let last = entry.newest();
            body.put_i64(id.0);
            body.put_i16(entry.epoch().0);
            body.put_i32(entry.last_sequence());
            body.put_i64(entry.last_offset().0);
            body.put_i32(last.map_or(0, |batch| batch.offset_delta));
            body.put_i64(entry.last_timestamp_ms());
            body.put_i32(entry.coordinator_epoch());
            put_txn(&mut body, entry);
        }
        seal(KAFKA_VERSION, &body)
    }

    /// Reads Kafka's `.snapshot` file. Expiry counts from `now_ms`: the file does not say when the
    /// producers appended, only what timestamp their records had.
    pub fn decode_kafka(
        bytes: &[u8],
        max_producers: usize,
        now_ms: i64,
    ) -> Result<Self, ProducerSnapshotError> {
        let mut body = open(KAFKA_VERSION, bytes)?;
        let count = usize::try_from(body.try_get_i32()?)
            .map_err(|_| ProducerSnapshotError::Malformed("negative count"))?;
        if count.checked_mul(KAFKA_ENTRY_BYTES) != Some(body.len()) {
            return Err(ProducerSnapshotError::Malformed("count and length differ"));
        }
        let mut states = Self::new(max_producers);
        for _ in 0..count {
            let (id, entry) = kafka_entry(&mut body, now_ms)?;
            if !states.insert(id, entry) {
                return Err(ProducerSnapshotError::Malformed("producer listed twice"));
            }
        }
        Ok(states)
    }

    /// Everything known, as of `end_offset`: the state of exactly the batches below it.
    pub fn encode_full(&self, end_offset: Offset) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 12 + self.len() * FULL_ENTRY_BYTES);
        self.encode_full_into(end_offset, &mut bytes);
        bytes
    }

    /// The same, behind what is in `out`.
    pub fn encode_full_into(&self, end_offset: Offset, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_i16(FULL_VERSION);
        out.put_u32(0);
        out.put_i64(end_offset.0);
        out.put_u32(u32::try_from(self.len()).unwrap_or(u32::MAX));
        for (id, entry) in self.iter().take(u32::MAX as usize) {
            out.put_i64(id.0);
            out.put_i16(entry.epoch().0);
            out.put_i32(entry.coordinator_epoch());
            put_txn(out, entry);
            out.put_i64(entry.last_timestamp_ms());
            out.put_i64(entry.last_append_ms());
            out.put_u8(entry.batches().count() as u8);
            for batch in entry.batches() {
                put_batch(out, batch);
            }
        }
        let behind_head = out.get(start + HEAD_BYTES..).unwrap_or_default();
        let checksum = crc32c::crc32c(behind_head).to_be_bytes();
        if let Some(field) = out.get_mut(start + 2..start + HEAD_BYTES) {
            field.copy_from_slice(&checksum);
        }
    }

    /// Reads what [`ProducerStates::encode_full`] wrote: the offset to replay from, and the state.
    pub fn decode_full(
        bytes: &[u8],
        max_producers: usize,
    ) -> Result<(Offset, Self), ProducerSnapshotError> {
        let mut body = open(FULL_VERSION, bytes)?;
        let end_offset = Offset(body.try_get_i64()?);
        let count = body.try_get_u32()?;
        let mut states = Self::new(max_producers);
        for _ in 0..count {
            let (id, entry) = full_entry(&mut body)?;
            if entry.last_offset() >= end_offset {
                return Err(ProducerSnapshotError::Malformed("batch beyond the end"));
            }
            if !states.insert(id, entry) {
                return Err(ProducerSnapshotError::Malformed("producer listed twice"));
            }
        }
        match body.is_empty() {
            true => Ok((end_offset, states)),
            false => Err(ProducerSnapshotError::Malformed("bytes behind the end")),
        }
    }
}

fn seal(version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.put_i16(version);
    bytes.put_u32(crc32c::crc32c(body));
    bytes.put_slice(body);
    bytes
}

fn open(version: i16, mut bytes: &[u8]) -> Result<&[u8], ProducerSnapshotError> {
    let found = bytes.try_get_i16()?;
    if found != version {
        return Err(ProducerSnapshotError::Version(found));
    }
    if bytes.try_get_u32()? != crc32c::crc32c(bytes) {
        return Err(ProducerSnapshotError::Crc);
    }
    Ok(bytes)
}

fn put_txn(body: &mut Vec<u8>, entry: &ProducerEntry) {
    body.put_i64(entry.txn_first_offset().map_or(-1, |offset| offset.0));
}

fn put_batch(body: &mut Vec<u8>, batch: &RememberedBatch) {
    body.put_i32(batch.last_sequence);
    body.put_i64(batch.last_offset.0);
    body.put_i32(batch.offset_delta);
    body.put_i64(batch.timestamp_ms);
}

/// Four numbers, whatever they say.
fn get_numbers(body: &mut &[u8]) -> Result<RememberedBatch, ProducerSnapshotError> {
    Ok(RememberedBatch {
        last_sequence: body.try_get_i32()?,
        last_offset: Offset(body.try_get_i64()?),
        offset_delta: body.try_get_i32()?,
        timestamp_ms: body.try_get_i64()?,
    })
}

fn checked(batch: RememberedBatch) -> Result<RememberedBatch, ProducerSnapshotError> {
    let sane = batch.last_sequence >= NO_SEQUENCE
        && batch.offset_delta >= 0
        && batch.last_offset.0 >= i64::from(batch.offset_delta);
    match sane {
        true => Ok(batch),
        false => Err(ProducerSnapshotError::Malformed("impossible batch")),
    }
}

fn get_txn(body: &mut &[u8]) -> Result<Option<Offset>, ProducerSnapshotError> {
    let first_offset = body.try_get_i64()?;
    Ok((first_offset >= 0).then_some(Offset(first_offset)))
}

fn kafka_entry(
    body: &mut &[u8],
    now_ms: i64,
) -> Result<(ProducerId, ProducerEntry), ProducerSnapshotError> {
    let id = ProducerId(body.try_get_i64()?);
    let mut entry = ProducerEntry::new(ProducerEpoch(body.try_get_i16()?));
    let last = get_numbers(body)?;
    // An offset of −1 is a producer of which only markers are known.
    if last.last_offset.0 >= 0 {
        entry.remember(checked(last)?);
    }
    entry.set_last_timestamp_ms(last.timestamp_ms);
    entry.set_coordinator_epoch(body.try_get_i32()?);
    entry.set_txn_first_offset(get_txn(body)?);
    entry.set_last_append_ms(now_ms);
    Ok((id, entry))
}

fn full_entry(body: &mut &[u8]) -> Result<(ProducerId, ProducerEntry), ProducerSnapshotError> {
    let id = ProducerId(body.try_get_i64()?);
    let mut entry = ProducerEntry::new(ProducerEpoch(body.try_get_i16()?));
    entry.set_coordinator_epoch(body.try_get_i32()?);
    entry.set_txn_first_offset(get_txn(body)?);
    let last_timestamp_ms = body.try_get_i64()?;
    entry.set_last_append_ms(body.try_get_i64()?);
    let count = usize::from(body.try_get_u8()?);
    if count > REMEMBERED_BATCHES {
        return Err(ProducerSnapshotError::Malformed("too many batches"));
    }
    for _ in 0..count {
        let batch = checked(get_numbers(body)?)?;
        if batch.base_offset() <= entry.last_offset() {
            return Err(ProducerSnapshotError::Malformed("batches out of order"));
        }
        entry.remember(batch);
    }
    entry.set_last_timestamp_ms(last_timestamp_ms);
    Ok((id, entry))
}
