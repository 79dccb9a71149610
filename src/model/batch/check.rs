//! What a producer's batch must be before it is accepted, as far as its header tells.
//!
//! The rules are those of Kafka's `ProduceRequest.validateRecords`, `UnifiedLog` and `LogValidator`.
//! Kafka drops an unfinished batch behind the first, ignores reserved bits, and clears a log-append bit
//! that a producer has set; all three are refused here.

use super::super::Codec;
use super::{BatchError, BatchView, TimestampType};

/// What depends on the request and on the topic.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRules {
    /// The topic's `max.message.bytes`, compared with the whole batch.
    pub max_batch_bytes: usize,
    /// Produce from version 7 on (KIP-110).
    pub is_zstd_allowed: bool,
}

/// Why a producer's records are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// Null or empty records.
    #[error("there is no record batch")]
    Missing,
    /// Fewer bytes than the header or its length field asks for.
    #[error("the record batch is cut short")]
    Truncated,
    /// A length below that of the header.
    #[error("the record batch has a length of {0}")]
    Length(i32),
    /// A format before version 2, gone since Kafka 4.0 (KIP-724).
    #[error("the record batch has magic {0}, only 2 is supported")]
    Magic(i8),
    /// More than one batch for a partition.
    #[error("more than one record batch for a partition")]
    Several,
    /// The topic takes no batch of this size.
    #[error("the record batch has {batch_bytes} bytes, the topic's limit is {limit_bytes}")]
    TooLarge {
        /// Size of the batch.
        batch_bytes: usize,
        /// The topic's `max.message.bytes`.
        limit_bytes: usize,
    },
    /// Damaged on its way.
    #[error("the record batch fails its CRC")]
    Crc,
    /// Offsets are the broker's to assign.
    #[error("the record batch has base offset {0} instead of 0")]
    BaseOffset(i64),
    /// zstd before Produce version 7, or a number that no codec has.
    #[error("codec {0} is not supported")]
    Codec(u8),
    /// A bit that is reserved or the broker's own.
    #[error("record batch attributes {0:#06x} are not for producers")]
    Attributes(i16),
    /// No records, or not as many as offsets.
    #[error(
        "the record batch counts {count} records and a last offset delta of {last_offset_delta}"
    )]
    Counts {
        /// The header's record count.
        count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// Control batches are written by the transaction coordinator.
    #[error("producers are not allowed to write control records")]
    Control,
    /// Log-append time is for the broker to set.
    #[error("producers are not allowed to set log-append time")]
    LogAppendTime,
    /// An idempotent producer must number its batches.
    #[error("the record batch of a producer id has base sequence {0}")]
    Sequence(i32),
    /// No transaction is ongoing: stored as an ordinary batch it would be committed by itself.
    #[error("the record batch claims a transaction, and there is none")]
    Transactional,
}

/// Kafka's error for a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidBatchKind {
    /// CORRUPT_MESSAGE: the producer sends it again.
    CorruptMessage,
    InvalidRecord,
    MessageTooLarge,
    UnsupportedCompressionType,
    InvalidTimestamp,
    /// TRANSACTIONAL_ID_AUTHORIZATION_FAILED: what Kafka 4.3.1 answers to a transactional batch in a
    /// request without a transactional id, whatever else is wrong with it.
    TransactionalIdAuthorizationFailed,
}

impl InvalidBatch {
    /// Kafka's error for it.
    pub fn kind(self) -> InvalidBatchKind {
        match self {
            Self::Length(_) | Self::Crc => InvalidBatchKind::CorruptMessage,
            Self::TooLarge { .. } => InvalidBatchKind::MessageTooLarge,
            Self::Codec(_) => InvalidBatchKind::UnsupportedCompressionType,
            Self::LogAppendTime => InvalidBatchKind::InvalidTimestamp,
            Self::Transactional => InvalidBatchKind::TransactionalIdAuthorizationFailed,
            _ => InvalidBatchKind::InvalidRecord,
        }
    }
}

/// A partition's records of a Produce request: exactly one batch, which keeps every rule that can be
/// checked without opening it.
///
/// What the CRC covers is judged only when the CRC holds, because a damaged batch may be sent again and
/// an invalid one may not.
pub fn check_produced(bytes: &[u8], rules: ProduceRules) -> Result<BatchView<'_>, InvalidBatch> {
    let batch = only_batch(bytes)?;
    if batch.base_offset().0 != 0 {
        return Err(InvalidBatch::BaseOffset(batch.base_offset().0));
    }
    if bytes.len() > rules.max_batch_bytes {
        return Err(InvalidBatch::TooLarge {
            batch_bytes: bytes.len(),
            limit_bytes: rules.max_batch_bytes,
        });
    }
    if !batch.crc_holds() {
        return Err(InvalidBatch::Crc);
    }
    if batch.is_transactional() {
        return Err(InvalidBatch::Transactional);
    }
    check_attributes(&batch, rules.is_zstd_allowed)?;
    check_counts(&batch)?;
    if batch.has_producer() && batch.base_sequence() < 0 {
        return Err(InvalidBatch::Sequence(batch.base_sequence()));
    }
    Ok(batch)
}

fn only_batch(bytes: &[u8]) -> Result<BatchView<'_>, InvalidBatch> {
    if bytes.is_empty() {
        return Err(InvalidBatch::Missing);
    }
    let batch = BatchView::framed(bytes).map_err(|error| match error {
        BatchError::Length(length) => InvalidBatch::Length(length),
        BatchError::Magic(magic) => InvalidBatch::Magic(magic),
        _ => InvalidBatch::Truncated,
    })?;
    if batch.bytes().len() < bytes.len() {
        return Err(InvalidBatch::Several);
    }
    Ok(batch)
}

fn check_attributes(batch: &BatchView<'_>, is_zstd_allowed: bool) -> Result<(), InvalidBatch> {
    let attributes = batch.attributes();
    let codec = (attributes & 7) as u8;
    if codec > Codec::Zstd as u8 || (codec == Codec::Zstd as u8 && !is_zstd_allowed) {
        return Err(InvalidBatch::Codec(codec));
    }
    let is_reserved = matches!(batch.check_header(), Err(BatchError::Attributes(_)));
    if is_reserved || batch.has_delete_horizon() {
        return Err(InvalidBatch::Attributes(attributes));
    }
    if batch.is_control() {
        return Err(InvalidBatch::Control);
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Err(InvalidBatch::LogAppendTime);
    }
    Ok(())
}

fn check_counts(batch: &BatchView<'_>) -> Result<(), InvalidBatch> {
    let (count, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    if count <= 0 || last_offset_delta != count - 1 {
        return Err(InvalidBatch::Counts {
            count,
            last_offset_delta,
        });
    }
    Ok(())
}
