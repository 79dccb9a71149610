//! Producer state of one partition: which idempotent batches are already in the log (KIP-98, KIP-360).
//!
//! Pure. The appender asks [`ProducerStates::check`] in log order, appends or answers, and applies
//! what it accepted with [`ProducerStates::apply`]; recovery applies what the log holds and checks
//! nothing. Raising the log start (retention, DeleteRecords) leaves this state alone, as in Kafka.

mod entry;
mod memory;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use entry::{NO_SEQUENCE, ProducerEntry, REMEMBERED_BATCHES, RememberedBatch, last_sequence};
pub use memory::{KnowsProducers, ProducerAccount, ProducerMemory};
pub use snapshot::ProducerSnapshotError;

use crate::model::batch::BatchView;
use crate::model::{Offset, ProducerEpoch, ProducerId};

/// How many producers a partition remembers unless told otherwise.
pub const DEFAULT_MAX_PRODUCERS: usize = 10_000;

/// What a map of one producer takes beside it: a whole node (measured: 560 bytes in all).
const FIRST_NODE_BYTES: usize = 464;

/// What an idempotent batch says of itself, before it has an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// The writer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record; that of data from a client is not negative (the caller checks).
    pub first_sequence: i32,
    /// Offset of the last record minus that of the first; not negative.
    pub last_offset_delta: i32,
    /// Largest timestamp of the batch, in Unix milliseconds.
    pub max_timestamp_ms: i64,
    /// A transaction marker, which carries no sequence.
    pub is_control: bool,
}

impl ProducerBatch {
    /// The facts of a batch, or `None` when no idempotent producer wrote it.
    pub fn of(batch: &BatchView<'_>) -> Option<Self> {
        (batch.producer_id().0 >= 0).then(|| Self {
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            first_sequence: batch.base_sequence(),
            last_offset_delta: batch.last_offset_delta(),
            max_timestamp_ms: batch.max_timestamp_ms(),
            is_control: batch.is_control(),
        })
    }

    /// Sequence of the last record.
    pub fn last_sequence(&self) -> i32 {
        last_sequence(self.first_sequence, self.last_offset_delta)
    }
}

/// What to do with an idempotent batch that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Next in order: append it.
    Append,
    /// Already in the log: answer with success and these numbers, once `last_offset` is durable.
    Duplicate {
        /// Offset of the first record when it was appended.
        base_offset: Offset,
        /// Offset of the last record; the answer waits until the high watermark is beyond it.
        last_offset: Offset,
        /// Max timestamp of the batch as appended: the answer's log-append time, where the topic has one.
        timestamp_ms: i64,
    },
}

/// Why an idempotent batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// INVALID_PRODUCER_EPOCH: a newer incarnation of the producer has written since.
    #[error("producer {producer_id} writes with epoch {epoch}, its epoch here is {current}")]
    InvalidProducerEpoch {
        producer_id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The epoch known here.
        current: ProducerEpoch,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: a batch before this one is missing.
    #[error("producer {producer_id} writes sequence {got}, {expected} is next")]
    OutOfOrderSequence {
        producer_id: ProducerId,
        /// The only first sequence that would have been accepted.
        expected: i32,
        /// The batch's first sequence.
        got: i32,
    },
}

/// The producers that have written to one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerEntry>,
    max_producers: usize,
    /// Of the entries.
    memory_bytes: usize,
}

impl Default for ProducerStates {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_PRODUCERS)
    }
}

impl ProducerStates {
    /// No producers yet, and room for `max_producers` (at least one).
    ///
    /// Beyond that the least recently appending ones are forgotten. That is safe: an unknown
    /// producer may go on with any sequence (KIP-360); what is lost is that its own retries of
    /// batches from before are no longer recognised.
    pub fn new(max_producers: usize) -> Self {
        Self {
            producers: BTreeMap::new(),
            max_producers: max_producers.max(1),
            memory_bytes: 0,
        }
    }

    /// Judges a batch against everything accepted so far, durable or not.
    ///
    /// A duplicate is recognised first, by producer, epoch and exact sequence range among the last
    /// [`REMEMBERED_BATCHES`]: answering it with an error would make clients raise their epoch and
    /// write it twice. A producer that is not known may begin anywhere.
    pub fn check(&self, batch: &ProducerBatch) -> Result<Verdict, ProducerError> {
        let Some(entry) = self.producers.get(&batch.producer_id) else {
            return Ok(Verdict::Append);
        };
        if let Some(known) = entry.duplicate_of(batch) {
            return Ok(Verdict::Duplicate {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                timestamp_ms: known.timestamp_ms,
            });
        }
        entry.check_order(batch).map(|()| Verdict::Append)
    }

    /// Remembers a batch that is in the log at `base_offset`; never fails, the log is right.
    ///
    /// `now_ms` is the time from which the producer's expiry counts. It is no wall clock, which may
    /// jump: a producer that appends every minute would be forgotten, and its retry stored twice. It
    /// goes on while the node runs, from the latest that a producer of the node was told at its start.
    /// An example: a producer appends at 1,000; the node stops at 5,000, and starts again after a week.
    /// For its producers that is at 1,000, and this one is forgotten when the node has run for another
    /// `producer.id.expiration.ms`. (Kafka counts from the batch's own timestamp, so producers of old
    /// records lose their state at once there.)
    pub fn apply(&mut self, batch: &ProducerBatch, base_offset: Offset, now_ms: i64) {
        if !self.producers.contains_key(&batch.producer_id) {
            self.make_room();
        }
        let mut before = 0;
        let entry = self
            .producers
            .entry(batch.producer_id)
            .and_modify(|known| before = known.memory_bytes())
            .or_insert_with(|| ProducerEntry::new(batch.producer_epoch));
        entry.apply(batch, base_offset, now_ms);
        self.memory_bytes = self.memory_bytes + entry.memory_bytes() - before;
    }

    /// Forgets one producer.
    pub fn forget(&mut self, producer_id: ProducerId) {
        if let Some(entry) = self.producers.remove(&producer_id) {
            self.memory_bytes -= entry.memory_bytes();
        }
    }

    /// What all of it takes of a shard's memory.
    pub fn memory_bytes(&self) -> usize {
        match self.producers.is_empty() {
            true => 0,
            false => FIRST_NODE_BYTES + self.memory_bytes,
        }
    }

    /// Some producer that may be forgotten, and when it has appended last, in Unix milliseconds; which one,
    /// a random number says.
    pub fn sample(&self, random: u64) -> Option<(ProducerId, i64)> {
        let (first, last) = (
            self.producers.keys().next()?,
            self.producers.keys().next_back()?,
        );
        let ids = last.0.abs_diff(first.0).saturating_add(1);
        let from = ProducerId(first.0.saturating_add_unsigned(random % ids));
        let (id, entry) = self.producers.range(from..).next()?;
        let may_go = entry.txn_first_offset().is_none();
        may_go.then(|| (*id, entry.last_append_ms()))
    }

    /// Takes one in that a snapshot has; false where it is known already.
    fn insert(&mut self, id: ProducerId, entry: ProducerEntry) -> bool {
        self.memory_bytes += entry.memory_bytes();
        match self.producers.insert(id, entry) {
            None => true,
            Some(before) => {
                self.memory_bytes -= before.memory_bytes();
                false
            }
        }
    }

    /// Forgets producers that have appended nothing for `expiration_ms`
    /// (`producer.id.expiration.ms`) and have no open transaction; returns how many.
    pub fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, entry| {
            let stays = !entry.is_expired(now_ms, expiration_ms);
            if !stays {
                self.memory_bytes -= entry.memory_bytes();
            }
            stays
        });
        before - self.producers.len()
    }

    /// Whether [`ProducerStates::remove_expired`] would forget some: where it does not, nothing has changed,
    /// and the next checkpoint leaves the partition out.
    pub fn any_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        let mut entries = self.producers.values();
        entries.any(|entry| entry.is_expired(now_ms, expiration_ms))
    }

    /// Number of producers known.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// No producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What is known of one producer.
    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&producer_id)
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(id, entry)| (*id, entry))
    }

    /// Makes room for one more producer, and for a sixteenth more so that the search stays rare.
    fn make_room(&mut self) {
        if self.producers.len() < self.max_producers {
            return;
        }
        let mut by_age: Vec<_> = self
            .producers
            .iter()
            .filter(|(_, entry)| entry.txn_first_offset().is_none())
            .map(|(id, entry)| (entry.last_append_ms(), entry.last_offset(), *id))
            .collect();
        by_age.sort_unstable();
        let surplus = self.producers.len() - self.max_producers + 1 + self.max_producers / 16;
        for (_, _, id) in by_age.into_iter().take(surplus) {
            self.forget(id);
        }
    }
}
