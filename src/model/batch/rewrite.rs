//! What a broker may change in a batch besides what [`super::stamp`] writes.

use super::super::Codec;
use super::{BatchError, BatchFields, BatchView, SealError, TimestampType};

/// Makes the batch one of log-append time: every record then has the timestamp `now_ms`.
///
/// `batch` is exactly one batch. The CRC is computed anew over all of it: check it before.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) -> Result<(), BatchError> {
    set_timestamp(batch, TimestampType::LogAppendTime, now_ms)
}

/// Corrects the max timestamp of a batch to what its records say; bytes and CRC stay where it is right.
///
/// `batch` is exactly one batch of create time. The CRC is computed anew over all of it: check it before.
pub fn set_max_timestamp(batch: &mut [u8], max_timestamp_ms: i64) -> Result<(), BatchError> {
    set_timestamp(batch, TimestampType::CreateTime, max_timestamp_ms)
}

fn set_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp_ms: i64,
) -> Result<(), BatchError> {
    let before = BatchFields::of(&BatchView::first(batch)?);
    let after = BatchFields {
        timestamp_type,
        max_timestamp_ms,
        ..before
    };
    if after == before {
        return Ok(());
    }
    after.seal(batch).map_err(|_| BatchError::Truncated)
}

/// Seals `recompressed` as the same batch with another codec: room for the header
/// ([`BatchFields::reserve`]) and behind it the same records, compressed with `compression`.
///
/// Offsets, timestamps, producer and flags stay. The size is another: the limit on batches is due again.
pub fn recompress(
    batch: &BatchView<'_>,
    compression: Codec,
    recompressed: &mut [u8],
) -> Result<(), SealError> {
    let fields = BatchFields {
        compression,
        ..BatchFields::of(batch)
    };
    fields.seal(recompressed)
}
