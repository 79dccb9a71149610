//! What the records of a producer's batch must be: a walk over counts and bounds that looks at no key,
//! value or header, and takes them in whatever pieces decompression gives.
//!
//! A record that lies within one piece is read at once; one that goes on in the next piece is read
//! byte by byte ([`Straddling`]). So of a batch that expands to a gigabyte nothing is kept.

use std::ops::RangeInclusive;

use super::straddling::Straddling;
use super::varint::Cursor;
use super::{BatchView, RecordError, TimestampType};

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

/// Checks the *decompressed* records of a batch that passed [`super::check_produced`], piece by piece.
///
/// The max timestamp of the header is the producer's word; where the facts say otherwise,
/// [`super::set_max_timestamp`] corrects it, as Kafka does.
#[derive(Debug)]
pub struct RecordCheck<'r> {
    rules: &'r RecordRules,
    record_count: i32,
    base_timestamp_ms: i64,
    /// Of a batch of log-append time: the time of all its records.
    one_timestamp_ms: Option<i64>,
    index: i32,
    straddling: Option<Straddling>,
    facts: RecordFacts,
    rejected: Vec<RejectedRecord>,
}

/// What is checked of a record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Front {
    pub(super) timestamp_delta_ms: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

impl<'r> RecordCheck<'r> {
    /// Before the first record of `batch`.
    pub fn new(batch: &BatchView<'_>, rules: &'r RecordRules) -> Self {
        let one_timestamp_ms = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp_ms()),
        };
        Self {
            rules,
            record_count: batch.record_count(),
            base_timestamp_ms: batch.base_timestamp_ms(),
            one_timestamp_ms,
            index: 0,
            straddling: None,
            facts: RecordFacts {
                max_timestamp_ms: -1,
                max_timestamp_offset_delta: None,
            },
            rejected: Vec::new(),
        }
    }

    /// Takes the next bytes of the records.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidRecords> {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.index >= self.record_count {
                return Err(self.malformed(RecordError::TrailingRecords(rest.len())));
            }
            let whole = match &self.straddling {
                Some(_) => None,
                None => whole_record(rest).map_err(|error| self.malformed(error))?,
            };
            let front = match whole {
                Some((front, behind)) => {
                    rest = behind;
                    front
                }
                None => {
                    let straddling = self.straddling.get_or_insert_default();
                    let done = straddling.take(&mut rest);
                    match done.map_err(|error| self.malformed(error))? {
                        Some(front) => front,
                        None => return Ok(()),
                    }
                }
            };
            self.straddling = None;
            self.count(front)?;
        }
        Ok(())
    }

    /// Behind the last piece.
    pub fn finish(self) -> Result<RecordFacts, InvalidRecords> {
        if self.index < self.record_count {
            return Err(self.malformed(RecordError::Truncated));
        }
        if self.rejected.is_empty() {
            Ok(self.facts)
        } else {
            Err(InvalidRecords::Rejected(self.rejected))
        }
    }

    fn count(&mut self, front: Front) -> Result<(), InvalidRecords> {
        let index = self.index;
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
        self.index += 1;
        Ok(())
    }

    fn malformed(&self, error: RecordError) -> InvalidRecords {
        let index = self.index;
        InvalidRecords::Malformed { index, error }
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

/// The record at the beginning of `bytes` and what follows it; none where it goes on behind them.
fn whole_record(bytes: &[u8]) -> Result<Option<(Front, &[u8])>, RecordError> {
    let mut cursor = Cursor::new(bytes);
    let length = match cursor.varint() {
        Ok(length) => length,
        Err(RecordError::Truncated) => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(length).map_err(|_| RecordError::Length(length))?;
    let Ok(body) = cursor.bytes(length) else {
        return Ok(None);
    };
    let mut body = Cursor::new(body);
    body.byte()?;
    let timestamp_delta_ms = body.varlong()?;
    let offset_delta = body.varint()?;
    let has_key = skip_nullable(&mut body)?;
    skip_nullable(&mut body)?;
    let header_count = body.varint()?;
    if header_count < 0 {
        return Err(RecordError::Length(header_count));
    }
    // Each has at least two bytes, so a count that lies ends at the record's end.
    for _ in 0..header_count {
        let key_bytes = body.varint()?;
        let key_bytes = usize::try_from(key_bytes).map_err(|_| RecordError::Length(key_bytes))?;
        body.bytes(key_bytes)?;
        skip_nullable(&mut body)?;
    }
    match body.rest().len() {
        0 => {
            let front = Front {
                timestamp_delta_ms,
                offset_delta,
                has_key,
            };
            Ok(Some((front, cursor.rest())))
        }
        trailing => Err(RecordError::Trailing(trailing)),
    }
}

/// Whether there are bytes, which are skipped, or null.
fn skip_nullable(body: &mut Cursor<'_>) -> Result<bool, RecordError> {
    match body.varint()? {
        -1 => Ok(false),
        claimed => {
            let bytes = usize::try_from(claimed).map_err(|_| RecordError::Length(claimed))?;
            body.bytes(bytes)?;
            Ok(true)
        }
    }
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
