//! Batches of idempotent producers that were refused for a time, and are expected again. Pure.
//!
//! A producer sends batches without waiting for the answers to earlier ones, and sends one that was
//! refused for a time again, with its sequence. If the ones behind it were judged by themselves,
//! the partition would take them first: a producer that it does not know may begin anywhere.
//!
//! Producer 7 is new and sends the sequences 0 (900 kB) and 1 (6 bytes). The disk has no room for the
//! first one. Were the second one taken, it would stand at offset 0, and the retry of 0 would be out of
//! order for ever. So the partition *awaits* sequence 0:
//!
//! | comes | answer | awaited then |
//! |---|---|---|
//! | sequence 0, no room | KAFKA_STORAGE_ERROR | 0 |
//! | sequence 1 | KAFKA_STORAGE_ERROR, not looked at | 0 |
//! | sequence 0 again, still no room | KAFKA_STORAGE_ERROR | 0, for another 120 s |
//! | sequence 0 again, taken | offset 0 | nothing |
//! | sequence 1 again | offset 1 | nothing |
//!
//! A producer that has given up on a batch comes with a higher epoch (KIP-360), which ends the wait; so
//! do 120 s in which the batch does not come, the time after which clients give up
//! (`delivery.timeout.ms`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::partition::producers::ProducerBatch;
use crate::model::{ProducerEpoch, ProducerId};
use crate::rt::{Budget, Permit};

/// How long a refused batch is awaited.
const AWAITED: Duration = Duration::from_secs(120);
/// What one takes of the memory for producers, its share of a map's node included.
const REFUSAL_BYTES: usize = 112;
/// How many a partition awaits, so that looking through them stays short.
const AWAITED_MAX: usize = 4096;
/// How often those are looked for that were awaited for long enough.
const SWEEP_PAUSE: Duration = Duration::from_secs(30);

/// The producers of one partition of which a batch is awaited.
#[derive(Debug)]
pub(super) struct Refusals {
    memory: Budget,
    awaited: RefCell<BTreeMap<ProducerId, Awaited>>,
    swept: Cell<Duration>,
    /// Until when there may be batches that are awaited and did not fit the memory.
    unremembered_until: Cell<Duration>,
}

#[derive(Debug)]
struct Awaited {
    epoch: ProducerEpoch,
    sequence: i32,
    until: Duration,
    _memory: Permit,
}

/// Retriable: an earlier batch of the producer was refused and has to come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("producer {producer_id} has to send an earlier batch, which was refused, again first")]
pub struct EarlierBatchAwaited {
    pub producer_id: ProducerId,
}

impl Refusals {
    /// None yet. Each takes a little of `memory`.
    pub fn new(memory: Budget) -> Self {
        Self {
            memory,
            awaited: RefCell::default(),
            swept: Cell::new(Duration::ZERO),
            unremembered_until: Cell::new(Duration::ZERO),
        }
    }

    /// Whether a batch may be judged at `now`.
    pub fn check(&self, batch: &ProducerBatch, now: Duration) -> Result<(), EarlierBatchAwaited> {
        let awaited = self.awaited.borrow();
        match awaited.get(&batch.producer_id) {
            Some(awaited) if awaited.holds_back(batch) && now < awaited.until => {
                Err(EarlierBatchAwaited {
                    producer_id: batch.producer_id,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a batch that the partition cannot place, as its producer is unknown or its sequence is
    /// not the next one, may be one behind a refused one that did not fit the memory.
    pub fn may_be_behind(&self, batch: &ProducerBatch, now: Duration) -> bool {
        batch.first_sequence != 0 && now < self.unremembered_until.get()
    }

    /// A batch was refused for a time.
    pub fn refused(&self, batch: &ProducerBatch, now: Duration) {
        self.forget_expired(now);
        let until = now + AWAITED;
        let mut awaited = self.awaited.borrow_mut();
        if let Some(known) = awaited.get_mut(&batch.producer_id) {
            // One that is held back is not awaited itself.
            if !known.holds_back(batch) || known.until <= now {
                known.epoch = batch.producer_epoch;
                known.sequence = batch.first_sequence;
                known.until = until;
            }
            return;
        }
        let has_place = awaited.len() < AWAITED_MAX;
        let memory = has_place.then(|| self.memory.try_acquire(REFUSAL_BYTES));
        let Some(memory) = memory.flatten() else {
            return self.unremembered_until.set(until);
        };
        let refused = Awaited {
            epoch: batch.producer_epoch,
            sequence: batch.first_sequence,
            until,
            _memory: memory,
        };
        awaited.insert(batch.producer_id, refused);
    }

    /// A batch was taken.
    pub fn taken(&self, batch: &ProducerBatch) {
        let mut awaited = self.awaited.borrow_mut();
        let ends = |known: &Awaited| known.is(batch) || known.epoch < batch.producer_epoch;
        if awaited.get(&batch.producer_id).is_some_and(ends) {
            awaited.remove(&batch.producer_id);
        }
    }

    /// Forgets those that were awaited for long enough.
    pub fn forget_expired(&self, now: Duration) {
        if now.saturating_sub(self.swept.get()) < SWEEP_PAUSE {
            return;
        }
        self.swept.set(now);
        let mut awaited = self.awaited.borrow_mut();
        awaited.retain(|_, awaited| now < awaited.until);
    }
}

impl Awaited {
    /// Whether it is this very batch.
    fn is(&self, batch: &ProducerBatch) -> bool {
        (batch.producer_epoch, batch.first_sequence) == (self.epoch, self.sequence)
    }

    /// Whether a batch lies behind the one that is awaited. Sequences wrap; what lies half of them
    /// away or further is before it, such as a retry of one that was taken.
    fn holds_back(&self, batch: &ProducerBatch) -> bool {
        let ahead = batch.first_sequence.wrapping_sub(self.sequence) & i32::MAX;
        batch.producer_epoch == self.epoch && ahead > 0 && ahead < 1 << 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn batch(epoch: i16, first_sequence: i32) -> ProducerBatch {
        ProducerBatch {
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(epoch),
            first_sequence,
            last_offset_delta: 0,
            max_timestamp_ms: 0,
            is_control: false,
        }
    }

    fn refusals() -> Refusals {
        Refusals::new(Budget::new(10 * REFUSAL_BYTES))
    }

    #[test]
    fn what_lies_behind_a_refused_batch_waits_for_it() {
        let refusals = refusals();
        refusals.refused(&batch(0, 5), SECOND);
        let judged = |sequence| refusals.check(&batch(0, sequence), SECOND).is_ok();
        assert_eq!([4, 5, 6, 7].map(judged), [true, true, false, false]);
        refusals.refused(&batch(0, 6), SECOND);
        assert!(!judged(6), "the first one stays the one that is awaited");
        refusals.taken(&batch(0, 4));
        assert!(!judged(6), "a retry of an older one changes nothing");
        refusals.taken(&batch(0, 5));
        assert!(judged(6));
        assert_eq!(refusals.memory.taken(), 0);
    }

    #[test]
    fn an_earlier_one_that_is_refused_is_awaited_instead() {
        let refusals = refusals();
        refusals.refused(&batch(0, 5), SECOND);
        refusals.refused(&batch(0, 3), SECOND);
        assert!(refusals.check(&batch(0, 5), SECOND).is_err());
        assert!(refusals.check(&batch(0, 3), SECOND).is_ok());
    }

    #[test]
    fn a_higher_epoch_and_two_minutes_end_the_wait() {
        let refusals = refusals();
        refusals.refused(&batch(0, 5), SECOND);
        assert!(refusals.check(&batch(1, 0), SECOND).is_ok());
        refusals.refused(&batch(0, 5), 60 * SECOND);
        assert!(refusals.check(&batch(0, 6), 122 * SECOND).is_err(), "again");
        assert!(refusals.check(&batch(0, 6), 180 * SECOND).is_ok());
        refusals.forget_expired(180 * SECOND);
        assert_eq!(refusals.memory.taken(), 0);
        refusals.refused(&batch(0, 5), 200 * SECOND);
        refusals.taken(&batch(1, 0));
        assert!(refusals.check(&batch(0, 6), 200 * SECOND).is_ok());
    }

    #[test]
    fn sequences_wrap() {
        let refusals = refusals();
        refusals.refused(&batch(0, i32::MAX), SECOND);
        assert!(refusals.check(&batch(0, 0), SECOND).is_err());
        assert!(refusals.check(&batch(0, i32::MAX - 1), SECOND).is_ok());
    }

    #[test]
    fn without_memory_everything_that_may_be_behind_one_waits() {
        let refusals = Refusals::new(Budget::new(REFUSAL_BYTES));
        refusals.refused(&batch(0, 5), SECOND);
        let other = |sequence| ProducerBatch {
            producer_id: ProducerId(8),
            ..batch(0, sequence)
        };
        assert!(!refusals.may_be_behind(&other(1), SECOND));
        refusals.refused(&other(0), SECOND);
        assert!(refusals.may_be_behind(&other(1), 2 * SECOND));
        assert!(
            !refusals.may_be_behind(&other(0), 2 * SECOND),
            "a beginning"
        );
        assert!(!refusals.may_be_behind(&other(1), 122 * SECOND));
    }
}
