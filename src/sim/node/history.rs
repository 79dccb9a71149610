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
    /// [`History::era`] when it was sent.
    pub(super) era: u32,
    pub(super) answer: BatchAnswer,
}

/// What was answered to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchAnswer {
    /// It may be in the log or not.
    Unknown,
    /// It is not, and never will be.
    Refused,
    /// It is there, from this offset on.
    Acknowledged {
        base: i64,
        /// [`History::era`] when this was heard.
        era: u32,
    },
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
    /// Times that the node has ended in a way in which its level may lose what was acknowledged.
    pub(super) era: u32,
    /// Acknowledged batches that the last check has missed, as their level allows.
    pub(super) allowed_losses: u64,
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
    /// Where it was acknowledged and, by one that has ended in this era, may not be lost.
    pub(super) fn acknowledged_in(&self, wanted: u32) -> Option<i64> {
        match self.answer {
            BatchAnswer::Acknowledged { base, era } if era == wanted && self.era == wanted => {
                Some(base)
            }
            _ => None,
        }
    }

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

    /// The smallest number of partitions that a topic may have.
    pub(super) fn partitions_of(&self, topic: &str) -> usize {
        let topic = self.topics.get(topic);
        let partitions = topic.and_then(|topic| topic.partitions.first().copied());
        partitions.map_or(1, |partitions| partitions as usize)
    }

    /// Behind the last record of a partition of which a producer knows the offset.
    pub(super) fn known_end(&self, partition: &PartitionName) -> i64 {
        let batches = self.batches.get(partition).into_iter().flatten();
        let ends = batches.filter_map(|batch| match batch.answer {
            BatchAnswer::Acknowledged { base, .. } => Some(base + i64::from(batch.count)),
            _ => None,
        });
        ends.max().unwrap_or(0)
    }

    /// Notes a batch that is about to be sent; gives its place among those of its partition.
    pub(super) fn send(&mut self, partition: PartitionName, first: RecordId, count: u32) -> usize {
        let batches = self.batches.entry(partition).or_default();
        batches.push(SentBatch {
            first,
            count,
            era: self.era,
            answer: BatchAnswer::Unknown,
        });
        batches.len() - 1
    }

    /// Notes the answer to a batch.
    pub(super) fn answer(&mut self, partition: &PartitionName, index: usize, answer: BatchAnswer) {
        let batches = self.batches.get_mut(partition);
        if let Some(batch) = batches.and_then(|batches| batches.get_mut(index)) {
            batch.answer = answer;
        }
    }

    /// The acknowledgement of a batch that begins at `base`, heard now.
    pub(super) fn acknowledged(&self, base: i64) -> BatchAnswer {
        BatchAnswer::Acknowledged {
            base,
            era: self.era,
        }
    }

    /// The node has ended in a way in which it may have lost what it has acknowledged and shown.
    pub(super) fn begin_era(&mut self) {
        self.era += 1;
        self.shown.clear();
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
        for batch in self.batches.values().flatten() {
            match batch.answer {
                BatchAnswer::Acknowledged { .. } => report.acknowledged += 1,
                BatchAnswer::Refused => report.refused += 1,
                BatchAnswer::Unknown => report.unknown += 1,
            }
        }
        report.may_have_lost = self.era;
        report.allowed_losses = self.allowed_losses;
        report.records = self.records;
        report.changes = self.changes;
        report.unknown_changes = self.unknown_changes;
    }
}
