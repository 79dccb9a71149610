//! When a segment ends and when it goes: roll and retention, decided from numbers alone.
//!
//! Rules of Kafka's `LogSegment.shouldRoll` and `UnifiedLog.deleteOldSegments`.

use crate::model::Offset;

/// The active segment, as far as rolling is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
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
    segment: &ActiveSegment,
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

fn waited_ms(segment: &ActiveSegment, batch: &IncomingBatch, now_ms: i64) -> i64 {
    match segment.first_timestamp_ms {
        first if first >= 0 => batch.max_timestamp_ms.saturating_sub(first),
        _ => now_ms.saturating_sub(segment.created_ms),
    }
}

/// A segment, as far as retention is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset behind its last record: the next segment's base, or the log end.
    pub end_offset: Offset,
    /// Its length.
    pub size_bytes: u64,
    /// Largest timestamp of its records, in Unix milliseconds; −1 without one. A record from the
    /// future keeps its segment until then, as in Kafka.
    pub largest_timestamp_ms: i64,
    /// Wall clock of its last append, in Unix milliseconds; counts where there is no timestamp.
    pub last_modified_ms: i64,
}

/// What a topic's configuration says about retention; −1 (or any negative) is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// `retention.ms`.
    pub retention_ms: i64,
    /// `retention.bytes`.
    pub retention_bytes: i64,
}

/// What retention does to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPlan {
    /// How many whole segments go, counted from the oldest.
    pub segment_count: usize,
    /// All go, the active one too: roll it first, so that one remains.
    pub roll_active: bool,
    /// The log start offset afterwards, to be durable before any file is unlinked.
    pub log_start_offset: Offset,
}

/// Decides what goes from a log with these segments, oldest first, the active one last.
///
/// Only whole segments go, only from the head, none that reaches beyond the high watermark, and
/// never an empty active one. By time goes what is older than `retention.ms`; by size what the log
/// can lose and still hold `retention.bytes`; and whatever lies wholly before the log start, which
/// DeleteRecords may have moved.
pub fn plan_retention(
    segments: &[SegmentFacts],
    log_start_offset: Offset,
    high_watermark: Offset,
    limits: &RetentionLimits,
    now_ms: i64,
) -> RetentionPlan {
    let last = segments.len().saturating_sub(1);
    let may_go = |(at, segment): &(usize, &SegmentFacts)| {
        segment.end_offset <= high_watermark && (*at < last || segment.size_bytes > 0)
    };
    let candidates = || segments.iter().enumerate().take_while(may_go);

    let expired = candidates()
        .take_while(|(_, segment)| is_expired(segment, limits.retention_ms, now_ms))
        .count();
    let mut surplus = surplus_bytes(&segments[expired..], limits.retention_bytes);
    let surplus_count = candidates()
        .skip(expired)
        .take_while(|(_, segment)| take(&mut surplus, segment.size_bytes))
        .count();
    let by_limits = expired + surplus_count;
    let before_start = candidates()
        .skip(by_limits)
        .take_while(|(at, segment)| *at < last && segment.end_offset <= log_start_offset)
        .count();

    let segment_count = by_limits + before_start;
    let start = segment_count
        .checked_sub(1)
        .map(|at| segments[at].end_offset);
    RetentionPlan {
        segment_count,
        roll_active: segment_count > 0 && segment_count == segments.len(),
        log_start_offset: start.map_or(log_start_offset, |end| end.max(log_start_offset)),
    }
}

fn is_expired(segment: &SegmentFacts, retention_ms: i64, now_ms: i64) -> bool {
    let since = match segment.largest_timestamp_ms {
        timestamp_ms if timestamp_ms >= 0 => timestamp_ms,
        _ => segment.last_modified_ms,
    };
    retention_ms >= 0 && now_ms.saturating_sub(since) > retention_ms
}

/// Bytes above `retention_bytes`; `None` when there is no limit.
fn surplus_bytes(segments: &[SegmentFacts], retention_bytes: i64) -> Option<u64> {
    let limit = u64::try_from(retention_bytes).ok()?;
    let total: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    total.checked_sub(limit)
}

/// Takes a segment's bytes off the surplus, if all of them are surplus.
fn take(surplus: &mut Option<u64>, size_bytes: u64) -> bool {
    match surplus.and_then(|bytes| bytes.checked_sub(size_bytes)) {
        Some(rest) => {
            *surplus = Some(rest);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
