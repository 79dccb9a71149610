//! A batch header as plain values, and how it is written.

use super::super::{Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use super::{BatchView, HEADER_BYTES, MAGIC, TimestampType};

/// Everything in a batch header except length, magic and CRC, which follow from the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "BatchView documents each of them")]
pub struct BatchFields {
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub compression: Codec,
    pub timestamp_type: TimestampType,
    pub is_transactional: bool,
    pub is_control: bool,
    pub has_delete_horizon: bool,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// A batch cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no room for the header.
    #[error("record batch has no room for its header")]
    NoRoom,
    /// The length field cannot hold it.
    #[error("record batch of {0} bytes is too long for its length field")]
    TooLong(usize),
}

impl BatchFields {
    /// The fields of a batch as it is.
    pub fn of(batch: &BatchView<'_>) -> Self {
        Self {
            base_offset: batch.base_offset(),
            leader_epoch: batch.leader_epoch(),
            compression: batch.compression(),
            timestamp_type: batch.timestamp_type(),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
            has_delete_horizon: batch.has_delete_horizon(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp_ms: batch.base_timestamp_ms(),
            max_timestamp_ms: batch.max_timestamp_ms(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            record_count: batch.record_count(),
        }
    }

    /// Appends room for a header to `out` and answers where the batch begins: the caller appends the
    /// records behind it (compresses straight into `out`) and seals `out` from there on.
    pub fn reserve(out: &mut Vec<u8>) -> usize {
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        at
    }

    /// Appends a whole batch to `out`; `records` are compressed as `compression` says.
    pub fn append(&self, records: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let at = Self::reserve(out);
        out.extend_from_slice(records);
        let sealed = self.seal(out.get_mut(at..).unwrap_or_default());
        if sealed.is_err() {
            out.truncate(at);
        }
        sealed
    }

    /// Writes the header, length and CRC included, into the first [`HEADER_BYTES`] of `batch`; the
    /// rest of it are the records, compressed as `compression` says.
    pub fn seal(&self, batch: &mut [u8]) -> Result<(), SealError> {
        let total_bytes = batch.len();
        let length = i32::try_from(total_bytes)
            .map_err(|_| SealError::TooLong(total_bytes))?
            .wrapping_sub(12);
        let (header, records) = batch
            .split_first_chunk_mut::<HEADER_BYTES>()
            .ok_or(SealError::NoRoom)?;
        let checked = self.checked_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&checked), records);
        let mut rest = header.as_mut_slice();
        for field in [
            &self.base_offset.0.to_be_bytes()[..],
            &length.to_be_bytes(),
            &self.leader_epoch.0.to_be_bytes(),
            &MAGIC.to_be_bytes(),
            &crc.to_be_bytes(),
            &checked,
        ] {
            put(&mut rest, field);
        }
        Ok(())
    }

    /// The header from the attributes on: its part under the CRC.
    fn checked_bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let mut rest = bytes.as_mut_slice();
        for field in [
            &self.attributes().to_be_bytes()[..],
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp_ms.to_be_bytes(),
            &self.max_timestamp_ms.to_be_bytes(),
            &self.producer_id.0.to_be_bytes(),
            &self.producer_epoch.0.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ] {
            put(&mut rest, field);
        }
        bytes
    }

    fn attributes(&self) -> i16 {
        self.compression as i16
            | i16::from(self.timestamp_type == TimestampType::LogAppendTime) << 3
            | i16::from(self.is_transactional) << 4
            | i16::from(self.is_control) << 5
            | i16::from(self.has_delete_horizon) << 6
    }
}

/// Copies as much as there is room for: the fields above fill their arrays exactly.
fn put(rest: &mut &mut [u8], field: &[u8]) {
    if let Some((place, behind)) = std::mem::take(rest).split_at_mut_checked(field.len()) {
        place.copy_from_slice(field);
        *rest = behind;
    }
}
