//! What the records of a producer's batch must be, where the topic's rules need them opened.

use std::ops::RangeInclusive;

use super::{BatchView, RecordError, RecordRef, Records};

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
    #[error("record {index} of the batch: {error}")]
    Malformed {
        /// Position in the batch, from 0.
        index: i32,
        /// What is wrong.
        error: RecordError,
    },
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

/// Checks the *decompressed* records of a batch that passed [`super::check_produced`].
///
/// The max timestamp of the header is the producer's word; where the facts say otherwise,
/// [`super::set_max_timestamp`] corrects it, as Kafka does.
pub fn check_records(
    records: &[u8],
    batch: &BatchView<'_>,
    rules: &RecordRules,
) -> Result<RecordFacts, InvalidRecords> {
    let mut facts = RecordFacts {
        max_timestamp_ms: -1,
        max_timestamp_offset_delta: None,
    };
    let mut rejected = Vec::new();
    for (index, record) in (0..).zip(Records::new(records, batch.record_count())) {
        let record = record.map_err(|error| InvalidRecords::Malformed { index, error })?;
        if record.offset_delta != index {
            return Err(InvalidRecords::OffsetDelta {
                index,
                offset_delta: record.offset_delta,
            });
        }
        let timestamp_ms = batch.timestamp_ms_of(&record);
        if let Some(reason) = broken_rule(&record, timestamp_ms, rules)
            && rejected.len() < MAX_REPORTED
        {
            rejected.push(RejectedRecord { index, reason });
        }
        if timestamp_ms > facts.max_timestamp_ms {
            facts.max_timestamp_ms = timestamp_ms;
            facts.max_timestamp_offset_delta = Some(index);
        }
    }
    if rejected.is_empty() {
        Ok(facts)
    } else {
        Err(InvalidRecords::Rejected(rejected))
    }
}

fn broken_rule(
    record: &RecordRef<'_>,
    timestamp_ms: i64,
    rules: &RecordRules,
) -> Option<RejectReason> {
    if rules.is_key_required && record.key.is_none() {
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
