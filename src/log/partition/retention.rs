//! When a segment goes, decided from numbers alone.
//!
//! Rules of Kafka's `UnifiedLog.deleteOldSegments`.

use std::time::Duration;

use crate::log::options::LogConfig;
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

impl RetentionLimits {
    /// A topic's.
    pub fn of(config: &LogConfig) -> Self {
        Self {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
        }
    }
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

/// How far the wall clock may run ahead of the monotonic one between two looks before that counts as a
/// jump: more than any daemon slews.
const JUMP_MS: i64 = 60_000;
/// How long before a start something must have been written for its clock to be believed at once.
const GAP_MS: i64 = 60 * 60 * 1000;
/// How long a jump must stand before anything is removed because of it.
pub const JUMP_STANDS: Duration = Duration::from_secs(60 * 60);

/// The time that retention goes by: the wall clock, without its jumps ahead.
///
/// What retention removes does not come back, and a clock that is set days ahead, even for seconds,
/// makes every record old. So time goes on by the monotonic clock, and a jump counts only once it has
/// stood for an hour. An example, with the wall clock in seconds: at 100 it is 1,000; at 110 it is
/// 700,000, which is taken for 1,010 until 3,710; should it be 1,500 at 600 again, nothing has happened.
/// Back is believed at once: that keeps records longer.
///
/// At a start, the clock is compared with what was written last. An example: the last record is of
/// Monday, and the clock says Friday. The node may have been down since, or idle, or its clock is wrong;
/// for an hour it is Monday. A clock that is wrong by less than an hour is believed.
#[derive(Debug)]
pub struct RetentionClock {
    /// Both clocks when they last agreed: monotonic, and Unix milliseconds.
    agreed: (Duration, i64),
    /// Since when the wall clock is ahead.
    ahead_since: Option<Duration>,
}

/// What there is to tell of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockNews {
    /// It has jumped ahead by so much, and is waited out.
    JumpedAhead {
        /// By how much, in milliseconds.
        ahead_ms: i64,
    },
    /// The jump has stood, and counts.
    Believed,
    /// The jump is over.
    Over,
}

impl RetentionClock {
    /// Begins with what both clocks say: monotonic, and Unix milliseconds; and with when something was
    /// written last.
    pub fn new(now: Duration, wall_clock_ms: i64, written_ms: Option<i64>) -> Self {
        match written_ms {
            Some(written_ms) if wall_clock_ms.saturating_sub(written_ms) > GAP_MS => Self {
                agreed: (now, written_ms),
                ahead_since: Some(now),
            },
            _ => Self {
                agreed: (now, wall_clock_ms),
                ahead_since: None,
            },
        }
    }

    /// Whether the wall clock is ahead, and waited out.
    pub fn waits(&self) -> bool {
        self.ahead_since.is_some()
    }

    /// The time to go by in Unix milliseconds, and what is new.
    pub fn look(&mut self, now: Duration, wall_clock_ms: i64) -> (i64, Option<ClockNews>) {
        let (then, agreed_ms) = self.agreed;
        let passed_ms = i64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(i64::MAX);
        let expected_ms = agreed_ms.saturating_add(passed_ms);
        let ahead_ms = wall_clock_ms.saturating_sub(expected_ms);
        let news = match self.ahead_since {
            None if ahead_ms <= JUMP_MS => None,
            None => {
                self.ahead_since = Some(now);
                return (expected_ms, Some(ClockNews::JumpedAhead { ahead_ms }));
            }
            Some(_) if ahead_ms <= JUMP_MS => Some(ClockNews::Over),
            Some(since) if now.saturating_sub(since) < JUMP_STANDS => return (expected_ms, None),
            Some(_) => Some(ClockNews::Believed),
        };
        self.agreed = (now, wall_clock_ms);
        self.ahead_since = None;
        (wall_clock_ms, news)
    }
}

#[cfg(test)]
mod tests;
