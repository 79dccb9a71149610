//! What the clients asked and were answered.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeReport;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Ok,
    /// It may be done or not, now or later: an error, or no answer.
    Unknown,
}

/// A record as its producer knows it: who, and which of its records for the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordId {
    pub(super) producer: u32,
    pub(super) number: u32,
}

/// A topic's name and a partition's index.
pub(super) type PartitionName = (String, i32);

/// A batch that was sent.
#[derive(Clone, Debug)]
pub(super) struct SentBatch {
    pub(super) first: RecordId,
    pub(super) count: u32,
    /// The offset that its acknowledgement named; none without one.
    pub(super) acknowledged_at: Option<i64>,
}

/// A topic that somebody asked for.
#[derive(Clone, Debug)]
pub(super) struct TopicHistory {
    pub(super) created: Answer,
    /// Numbers of partitions that it may have, the smallest first.
    pub(super) partitions: BTreeSet<i32>,
    pub(super) deleted: Option<Answer>,
    /// Values that `retention.ms` may have.
    pub(super) retention_ms: BTreeSet<Option<i64>>,
    /// Those among them that may yet be set by a request that is on its way.
    pub(super) late_retention_ms: BTreeSet<Option<i64>>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) topics: BTreeMap<String, TopicHistory>,
    /// By partition, in the order in which they were sent.
    pub(super) batches: BTreeMap<PartitionName, Vec<SentBatch>>,
    /// Log starts that DeleteRecords has been asked for: the highest, and the highest that was
    /// answered ok.
    pub(super) trimmed: BTreeMap<PartitionName, (i64, i64)>,
    /// Producers whose records must be there at most once and in order.
    pub(super) idempotent: BTreeSet<u32>,
    /// What a consumer was shown, by offset.
    pub(super) shown: BTreeMap<PartitionName, BTreeMap<i64, RecordId>>,
    pub(super) producers: u32,
    /// Records read back in the last check.
    pub(super) records: u64,
    changes: u64,
    unknown_changes: u64,
}

impl Answer {
    pub(super) fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(_) => Self::Unknown,
        }
    }
}

impl RecordId {
    /// The record's value: it says who it is, and is as long as that decides.
    pub(super) fn value(self) -> Vec<u8> {
        let lot = self.number as usize * 7919 + self.producer as usize * 104_729;
        let longest = if self.producer.is_multiple_of(4) {
            60_000
        } else {
            900
        };
        let len = 12 + lot % longest;
        let mut value = Vec::with_capacity(len);
        value.extend_from_slice(&self.producer.to_be_bytes());
        value.extend_from_slice(&self.number.to_be_bytes());
        let filler = self.number.wrapping_mul(31).wrapping_add(self.producer);
        value.resize(len, filler as u8);
        value
    }

    /// The record of a value; none when no producer has written it like this.
    pub(super) fn of_value(value: &[u8]) -> Option<Self> {
        let number = |at| Some(u32::from_be_bytes(value.get(at..at + 4)?.try_into().ok()?));
        let id = Self {
            producer: number(0)?,
            number: number(4)?,
        };
        (id.value() == value).then_some(id)
    }

    pub(super) fn plus(self, count: u32) -> Self {
        Self {
            number: self.number + count,
            ..self
        }
    }
}

impl SentBatch {
    pub(super) fn records(&self) -> impl Iterator<Item = RecordId> + use<> {
        let first = self.first;
        (0..self.count).map(move |index| first.plus(index))
    }
}

impl History {
    /// A number for a new producer.
    pub(super) fn next_producer(&mut self, is_idempotent: bool) -> u32 {
        self.producers += 1;
        if is_idempotent {
            self.idempotent.insert(self.producers);
        }
        self.producers
    }

    /// Notes the answer to a change of metadata.
    pub(super) fn note_change(&mut self, answer: Answer) {
        match answer {
            Answer::Ok => self.changes += 1,
            Answer::Unknown => self.unknown_changes += 1,
        }
    }

    /// Topics that nobody has asked to delete.
    pub(super) fn live_topics(&self) -> Vec<String> {
        let live = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.deleted.is_none());
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Behind the last record of a partition of which a producer knows the offset.
    pub(super) fn known_end(&self, partition: &PartitionName) -> i64 {
        let batches = self.batches.get(partition).into_iter().flatten();
        let ends =
            batches.filter_map(|batch| Some(batch.acknowledged_at? + i64::from(batch.count)));
        ends.max().unwrap_or(0)
    }

    /// Notes a record that a consumer was shown.
    ///
    /// # Errors
    /// Another one was shown at this offset before, or this is none.
    pub(super) fn show(
        &mut self,
        partition: &PartitionName,
        offset: i64,
        value: &[u8],
    ) -> Result<(), String> {
        let Some(id) = RecordId::of_value(value) else {
            return Err(format!("{partition:?} {offset}: invented: {value:02x?}"));
        };
        let shown = self.shown.entry(partition.clone()).or_default();
        match shown.insert(offset, id) {
            Some(before) if before != id => Err(format!(
                "{partition:?} {offset}: {before:?} was shown, now {id:?}"
            )),
            _ => Ok(()),
        }
    }

    /// Adds what is told of a seed.
    pub(super) fn count(&self, report: &mut NodeReport) {
        let batches = self.batches.values().flatten();
        let acknowledged = batches
            .clone()
            .filter(|batch| batch.acknowledged_at.is_some());
        report.acknowledged = acknowledged.count() as u64;
        report.unknown = batches.count() as u64 - report.acknowledged;
        report.records = self.records;
        report.changes = self.changes;
        report.unknown_changes = self.unknown_changes;
    }
}
