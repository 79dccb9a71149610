//! Records into a batch.

use super::super::{Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use super::varint::{put_varint, put_varlong, varlong_bytes};
use super::{BatchFields, HEADER_BYTES, Header, SealError, TimestampType};

/// Why records do not make a batch; the builder is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a record batch needs at least one record")]
    Empty,
    /// A key, value, header or record is longer than 2³¹−1 bytes, or there are as many records.
    #[error("record does not fit into a record batch")]
    TooLong,
    /// The distance to the batch's first timestamp does not fit into 64 bits.
    #[error("record timestamp {0} is too far from the batch's first")]
    Timestamp(i64),
    /// The batch cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Gathers records for one batch; the buffer is kept when it is cleared.
///
/// The records stay uncompressed. [`BatchBuilder::append_batch`] makes the batch of them as they are;
/// to compress, take [`BatchBuilder::records`] and [`BatchBuilder::fields`]:
///
/// ```
/// use corelane::compress::{Codecs, Level};
/// use corelane::model::Codec;
/// use corelane::model::batch::{BatchBuilder, BatchFields};
///
/// let mut builder = BatchBuilder::new();
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])?;
///
/// let mut out = Vec::new();
/// let at = BatchFields::reserve(&mut out);
/// Codecs::new().compress(Level::default_of(Codec::Lz4), builder.records(), &mut out)?;
/// let fields = BatchFields { compression: Codec::Lz4, ..builder.fields()? };
/// fields.seal(&mut out[at..])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// No records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record with the next offset; `timestamp_ms` is in Unix milliseconds, −1 for none.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        let (base_timestamp_ms, max_timestamp_ms) = match self.count {
            0 => (timestamp_ms, timestamp_ms),
            _ => (
                self.base_timestamp_ms,
                self.max_timestamp_ms.max(timestamp_ms),
            ),
        };
        let timestamp_delta_ms = timestamp_ms
            .checked_sub(base_timestamp_ms)
            .ok_or(BuildError::Timestamp(timestamp_ms))?;
        let next_count = self.count.checked_add(1).ok_or(BuildError::TooLong)?;
        let body_bytes = 1
            + varlong_bytes(timestamp_delta_ms)
            + varlong_bytes(i64::from(self.count))
            + nullable_bytes(key)?
            + nullable_bytes(value)?
            + headers_bytes(headers)?;
        put_varint(&mut self.records, length(body_bytes)?);
        self.records.push(0);
        put_varlong(&mut self.records, timestamp_delta_ms);
        put_varint(&mut self.records, self.count);
        self.put_nullable(key)?;
        self.put_nullable(value)?;
        self.put_headers(headers)?;
        (self.base_timestamp_ms, self.max_timestamp_ms) = (base_timestamp_ms, max_timestamp_ms);
        self.count = next_count;
        Ok(())
    }

    /// Number of records.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// No record has been appended.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch if it were made now, uncompressed.
    pub fn batch_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The records, uncompressed.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// The header of these records as a producer sends it: base offset 0, no leader epoch, create time,
    /// not compressed, neither producer nor transaction. The caller replaces what is otherwise.
    pub fn fields(&self) -> Result<BatchFields, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        Ok(BatchFields {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            compression: Codec::None,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            has_delete_horizon: false,
            last_offset_delta: self.count - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            record_count: self.count,
        })
    }

    /// Appends the batch to `out`, uncompressed, with the header of [`BatchBuilder::fields`].
    pub fn append_batch(&self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        Ok(self.fields()?.append(&self.records, out)?)
    }

    /// Forgets the records.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    fn put_headers(&mut self, headers: &[Header<'_>]) -> Result<(), BuildError> {
        put_varint(&mut self.records, length(headers.len())?);
        for header in headers {
            self.put_nullable(Some(header.key))?;
            self.put_nullable(header.value)?;
        }
        Ok(())
    }

    fn put_nullable(&mut self, bytes: Option<&[u8]>) -> Result<(), BuildError> {
        let Some(bytes) = bytes else {
            put_varint(&mut self.records, -1);
            return Ok(());
        };
        put_varint(&mut self.records, length(bytes.len())?);
        self.records.extend_from_slice(bytes);
        Ok(())
    }
}

fn nullable_bytes(bytes: Option<&[u8]>) -> Result<usize, BuildError> {
    let Some(bytes) = bytes else { return Ok(1) };
    Ok(varlong_bytes(i64::from(length(bytes.len())?)) + bytes.len())
}

fn headers_bytes(headers: &[Header<'_>]) -> Result<usize, BuildError> {
    let mut total_bytes = varlong_bytes(i64::from(length(headers.len())?));
    for header in headers {
        total_bytes += nullable_bytes(Some(header.key))? + nullable_bytes(header.value)?;
    }
    Ok(total_bytes)
}

fn length(bytes: usize) -> Result<i32, BuildError> {
    i32::try_from(bytes).map_err(|_| BuildError::TooLong)
}
