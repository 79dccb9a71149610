//! What the records of a producer's batch must be.

use std::ops::RangeInclusive;

use super::{BatchView, MalformedRecord, RecordFront, RecordWalk, TimestampType};

/// How many refused records of a batch are reported.
const MAX_REPORTED: usize = 16;

/// What the topic asks of each record.
#[derive(Clone, Debug, Default)]
pub struct RecordRules {
    /// Compacted topics need keys.
    pub is_key_required: bool,
    /// Allowed timestamps, from `message.timestamp.before.max.ms` and `.after.max.ms`; a record without
    /// one (−1) passes. `None` where the topic has log-append time.
    pub timestamps_ms: Option<RangeInclusive<i64>>,
}

/// What only the records tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Largest timestamp of a record; −1 when none has one.
    pub max_timestamp_ms: i64,
    /// The first record with it; `None` when none has a timestamp.
    pub max_timestamp_offset_delta: Option<i32>,
}

/// Why a batch is refused for its records: all of it, always.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecords {
    /// The bytes are not the records that the header announces: INVALID_RECORD.
    #[error(transparent)]
    Malformed(#[from] MalformedRecord),
    /// Offset deltas do not count 0, 1, 2, …: INVALID_RECORD.
    #[error("record {index} of the batch has offset delta {offset_delta}")]
    OffsetDelta {
        /// Position in the batch, from 0.
        index: i32,
        /// What it says of itself.
        offset_delta: i32,
    },
    /// Well-formed records that the topic's rules refuse, in order, the first 16 of them:
    /// INVALID_TIMESTAMP if a timestamp is among the reasons, otherwise INVALID_RECORD, with
    /// record_errors (KIP-467).
    #[error("records of the batch break the topic's rules")]
    Rejected(Vec<RejectedRecord>),
}

/// A record that the topic's rules refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Position in the batch, from 0.
    pub index: i32,
    /// The rule that it breaks.
    pub reason: RejectReason,
}

/// The rule that a record breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// A compacted topic's record without a key.
    #[error("a compacted topic does not take records without a key")]
    NullKey,
    /// A timestamp outside of what the topic allows.
    #[error("timestamp {timestamp_ms} is not within {first_ms} to {last_ms}")]
    Timestamp {
        /// The record's timestamp.
        timestamp_ms: i64,
        /// Earliest that is allowed.
        first_ms: i64,
        /// Latest that is allowed.
        last_ms: i64,
    },
}

/// Checks the *decompressed* records of a batch that passed [`super::check_produced`], piece by piece.
///
/// The max timestamp of the header is the producer's word; where the facts say otherwise,
/// [`super::set_max_timestamp`] corrects it, as Kafka does.
#[derive(Debug)]
pub struct RecordCheck<'r> {
    walk: RecordWalk,
    judge: Judge<'r>,
}

#[derive(Debug)]
struct Judge<'r> {
    rules: &'r RecordRules,
    base_timestamp_ms: i64,
    /// Of a batch of log-append time: the time of all its records.
    one_timestamp_ms: Option<i64>,
    facts: RecordFacts,
    rejected: Vec<RejectedRecord>,
}

impl<'r> RecordCheck<'r> {
    /// Before the first record of `batch`.
    pub fn new(batch: &BatchView<'_>, rules: &'r RecordRules) -> Self {
        let one_timestamp_ms = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp_ms()),
        };
        let facts = RecordFacts {
            max_timestamp_ms: -1,
            max_timestamp_offset_delta: None,
        };
        Self {
            walk: RecordWalk::new(batch.record_count()),
            judge: Judge {
                rules,
                base_timestamp_ms: batch.base_timestamp_ms(),
                one_timestamp_ms,
                facts,
                rejected: Vec::new(),
            },
        }
    }

    /// Takes the next bytes of the records.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidRecords> {
        let judge = &mut self.judge;
        self.walk
            .push(piece, |index, front| judge.count(index, front))
    }

    /// Behind the last piece.
    pub fn finish(self) -> Result<RecordFacts, InvalidRecords> {
        self.walk.finish()?;
        if self.judge.rejected.is_empty() {
            Ok(self.judge.facts)
        } else {
            Err(InvalidRecords::Rejected(self.judge.rejected))
        }
    }
}

impl Judge<'_> {
    fn count(&mut self, index: i32, front: &RecordFront) -> Result<(), InvalidRecords> {
        if front.offset_delta != index {
            return Err(InvalidRecords::OffsetDelta {
                index,
                offset_delta: front.offset_delta,
            });
        }
        let timestamp_ms = self.one_timestamp_ms.unwrap_or_else(|| {
            self.base_timestamp_ms
                .wrapping_add(front.timestamp_delta_ms)
        });
        if let Some(reason) = broken_rule(front.has_key, timestamp_ms, self.rules)
            && self.rejected.len() < MAX_REPORTED
        {
            self.rejected.push(RejectedRecord { index, reason });
        }
        if timestamp_ms > self.facts.max_timestamp_ms {
            self.facts.max_timestamp_ms = timestamp_ms;
            self.facts.max_timestamp_offset_delta = Some(index);
        }
        Ok(())
    }
}

/// Checks records that are in memory as a whole.
pub fn check_records(
    records: &[u8],
    batch: &BatchView<'_>,
    rules: &RecordRules,
) -> Result<RecordFacts, InvalidRecords> {
    let mut check = RecordCheck::new(batch, rules);
    check.push(records)?;
    check.finish()
}

fn broken_rule(has_key: bool, timestamp_ms: i64, rules: &RecordRules) -> Option<RejectReason> {
    if rules.is_key_required && !has_key {
        return Some(RejectReason::NullKey);
    }
    let allowed = rules.timestamps_ms.as_ref()?;
    let is_allowed = timestamp_ms == -1 || allowed.contains(&timestamp_ms);
    (!is_allowed).then_some(RejectReason::Timestamp {
        timestamp_ms,
        first_ms: *allowed.start(),
        last_ms: *allowed.end(),
    })
}
