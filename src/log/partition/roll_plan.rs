//! When a segment ends, decided from numbers alone.
//!
//! Rules of Kafka's `LogSegment.shouldRoll`.

use crate::log::options::LogConfig;
use crate::model::batch::BatchView;
use crate::model::{Offset, PartitionId, ProducerId};

/// The most that a batch may be for which room is reserved. Whether a segment ends before it is decided
/// on this, once: the batch itself may be less, and goes where its room is.
///
/// An example: a segment of 900 of 1,000 bytes, and room is asked for 200 bytes. The segment ends, also
/// where the batch turns out to have 80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomAsk {
    /// Its length, header included.
    pub bytes: usize,
    /// Offsets that it takes, at least 1.
    pub records: i32,
    /// Its max timestamp, in Unix milliseconds. A batch may have a later one: its segment grows older
    /// than `segment.ms` by that.
    pub max_timestamp_ms: i64,
    /// Its idempotent producer, if it has one.
    pub producer: Option<ProducerId>,
    /// Wall clock of its append, in Unix milliseconds.
    pub now_ms: i64,
}

impl RoomAsk {
    /// What this batch needs, and no more.
    pub fn of(batch: &BatchView<'_>, now_ms: i64) -> Self {
        let producer = batch.producer_id();
        Self {
            bytes: batch.bytes().len(),
            records: batch.last_offset_delta().saturating_add(1),
            max_timestamp_ms: batch.max_timestamp_ms(),
            producer: (producer.0 >= 0).then_some(producer),
            now_ms,
        }
    }

    /// Whether a batch is no more than that.
    pub fn covers(&self, batch: &BatchView<'_>) -> bool {
        let records = i64::from(batch.last_offset_delta()) + 1;
        batch.bytes().len() <= self.bytes && records <= i64::from(self.records)
    }
}

/// The active segment, as far as rolling is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollState {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its length.
    pub size_bytes: u64,
    /// Max timestamp of its first batch, in Unix milliseconds; −1 when that has none.
    pub first_timestamp_ms: i64,
    /// Wall clock of its creation, in Unix milliseconds.
    pub created_ms: i64,
    /// One of its indexes has no room (`SegmentIndex::is_full`).
    pub index_full: bool,
}

/// The batch about to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingBatch {
    /// The offset that its last record will have.
    pub last_offset: Offset,
    /// Its max timestamp, in Unix milliseconds.
    pub max_timestamp_ms: i64,
    /// Its length, header included.
    pub size_bytes: u64,
}

/// What a topic's configuration says about rolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollLimits {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// Taken off `segment.ms`, so that partitions created together do not roll together: this
    /// segment's share of `segment.jitter.ms`, drawn when it was created.
    pub jitter_ms: i64,
}

impl RollLimits {
    /// Those of the segment that begins at `base_offset`.
    pub fn of(config: &LogConfig, id: PartitionId, base_offset: Offset) -> Self {
        Self {
            segment_bytes: config.segment_bytes,
            segment_ms: config.segment_ms,
            jitter_ms: jitter_ms(id, base_offset, config.segment_jitter_ms),
        }
    }
}

/// Why a segment is rolled before a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollReason {
    /// The batch would not fit into `segment.bytes`.
    Size,
    /// The batch is more than `segment.ms` later than the first one.
    Age,
    /// An index is full (`segment.index.bytes`).
    IndexFull,
    /// The batch's last offset lies more than 2³¹ − 1 above the base: the indexes cannot say it.
    OffsetRange,
}

/// Whether the active segment must end before `batch`; an empty one never does.
///
/// Age is told by the batches' timestamps, not the clock, unless the first batch had none: replaying
/// old records cuts segments where the first writing did.
pub fn should_roll(
    segment: &RollState,
    batch: &IncomingBatch,
    limits: &RollLimits,
    now_ms: i64,
) -> Option<RollReason> {
    if segment.size_bytes == 0 {
        return None;
    }
    if segment.size_bytes.saturating_add(batch.size_bytes) > limits.segment_bytes {
        return Some(RollReason::Size);
    }
    if waited_ms(segment, batch, now_ms) > limits.segment_ms.saturating_sub(limits.jitter_ms) {
        return Some(RollReason::Age);
    }
    if segment.index_full {
        return Some(RollReason::IndexFull);
    }
    let relative = batch.last_offset.0.saturating_sub(segment.base_offset.0);
    (relative > i64::from(i32::MAX)).then_some(RollReason::OffsetRange)
}

fn waited_ms(segment: &RollState, batch: &IncomingBatch, now_ms: i64) -> i64 {
    match segment.first_timestamp_ms {
        first if first >= 0 => batch.max_timestamp_ms.saturating_sub(first),
        _ => now_ms.saturating_sub(segment.created_ms),
    }
}

/// A segment's share of `segment.jitter.ms`: the same whenever it is asked for, and different from those
/// of other segments and partitions.
pub fn jitter_ms(id: PartitionId, base_offset: Offset, limit_ms: i64) -> i64 {
    let (high, low) = id.topic.0.as_u64_pair();
    let drawn = [low, id.index.0 as u64, base_offset.0 as u64]
        .iter()
        .fold(high, |drawn, word| {
            (drawn.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
    let limit = u64::try_from(limit_ms).unwrap_or(0);
    i64::try_from((drawn >> 1) % limit.saturating_add(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: RollState = RollState {
        base_offset: Offset(100),
        size_bytes: 500,
        first_timestamp_ms: 1000,
        created_ms: 50_000,
        index_full: false,
    };
    const BATCH: IncomingBatch = IncomingBatch {
        last_offset: Offset(200),
        max_timestamp_ms: 1000,
        size_bytes: 100,
    };
    const ROLL: RollLimits = RollLimits {
        segment_bytes: 600,
        segment_ms: 100,
        jitter_ms: 10,
    };

    fn rolls(segment: RollState, batch: IncomingBatch, now_ms: i64) -> Option<RollReason> {
        should_roll(&segment, &batch, &ROLL, now_ms)
    }

    #[test]
    fn rolls_by_size_when_the_batch_would_not_fit() {
        assert_eq!(rolls(ACTIVE, BATCH, 0), None);
        let larger = IncomingBatch {
            size_bytes: 101,
            ..BATCH
        };
        assert_eq!(rolls(ACTIVE, larger, 0), Some(RollReason::Size));
        let empty = RollState {
            size_bytes: 0,
            ..ACTIVE
        };
        let largest = IncomingBatch {
            size_bytes: 601,
            ..BATCH
        };
        assert_eq!(rolls(empty, largest, i64::MAX), None);
    }

    #[test]
    fn rolls_by_the_batches_timestamps_less_jitter() {
        let at = |max_timestamp_ms| IncomingBatch {
            max_timestamp_ms,
            ..BATCH
        };
        assert_eq!(rolls(ACTIVE, at(1090), i64::MAX), None);
        assert_eq!(rolls(ACTIVE, at(1091), 0), Some(RollReason::Age));
    }

    #[test]
    fn rolls_by_the_clock_without_timestamps() {
        let untimed = RollState {
            first_timestamp_ms: -1,
            ..ACTIVE
        };
        assert_eq!(rolls(untimed, BATCH, 50_090), None);
        assert_eq!(rolls(untimed, BATCH, 50_091), Some(RollReason::Age));
    }

    #[test]
    fn rolls_when_the_indexes_cannot_go_on() {
        let full = RollState {
            index_full: true,
            ..ACTIVE
        };
        assert_eq!(rolls(full, BATCH, 0), Some(RollReason::IndexFull));
        let far = |above| IncomingBatch {
            last_offset: Offset(100 + i64::from(i32::MAX) + above),
            ..BATCH
        };
        assert_eq!(rolls(ACTIVE, far(0), 0), None);
        assert_eq!(rolls(ACTIVE, far(1), 0), Some(RollReason::OffsetRange));
    }
}
