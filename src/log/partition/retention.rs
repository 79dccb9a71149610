//! When a segment goes, decided from numbers alone.
//!
//! Rules of Kafka's `UnifiedLog.deleteOldSegments`.

use crate::model::Offset;

/// A segment, as far as retention is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSegment {
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
    segments: &[KeptSegment],
    log_start_offset: Offset,
    high_watermark: Offset,
    limits: &RetentionLimits,
    now_ms: i64,
) -> RetentionPlan {
    let last = segments.len().saturating_sub(1);
    let may_go = |(at, segment): &(usize, &KeptSegment)| {
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

fn is_expired(segment: &KeptSegment, retention_ms: i64, now_ms: i64) -> bool {
    let since = match segment.largest_timestamp_ms {
        timestamp_ms if timestamp_ms >= 0 => timestamp_ms,
        _ => segment.last_modified_ms,
    };
    retention_ms >= 0 && now_ms.saturating_sub(since) > retention_ms
}

/// Bytes above `retention_bytes`; `None` when there is no limit.
fn surplus_bytes(segments: &[KeptSegment], retention_bytes: i64) -> Option<u64> {
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
