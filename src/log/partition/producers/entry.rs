//! One producer: its epoch, its last batches, and the order of sequences.
//!
//! Sequences count modulo 2³¹: 0 follows 2³¹ − 1.

use smallvec::SmallVec;

use super::{ProducerBatch, ProducerError};
use crate::model::{Offset, ProducerEpoch};

/// How many batches back a retry is recognised, in Kafka and so in its clients
/// (`max.in.flight.requests.per.connection` is at most 5 with idempotence).
pub const REMEMBERED_BATCHES: usize = 5;

/// "No sequence": on the wire in batches without one, here before a producer's first data.
pub const NO_SEQUENCE: i32 = -1;

/// The last sequence of a batch, which wraps as the next one does.
pub fn last_sequence(first_sequence: i32, last_offset_delta: i32) -> i32 {
    if first_sequence < 0 {
        return NO_SEQUENCE;
    }
    first_sequence.wrapping_add(last_offset_delta) & i32::MAX
}

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Offset of its last record minus that of its first.
    pub offset_delta: i32,
    /// Its max timestamp as appended, in Unix milliseconds.
    pub timestamp_ms: i64,
}

impl RememberedBatch {
    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }

    /// Sequence of the first record.
    pub fn first_sequence(&self) -> i32 {
        if self.last_sequence < 0 {
            return NO_SEQUENCE;
        }
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// What a partition knows of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// Epoch of the coordinator that wrote the last transaction marker; −1 without one.
    pub coordinator_epoch: i32,
    /// Where the open transaction begins, if there is one.
    pub current_txn_first_offset: Option<Offset>,
    /// Max timestamp of the last batch, in Unix milliseconds; −1 without one.
    pub last_timestamp_ms: i64,
    /// Wall clock of the last append, in Unix milliseconds.
    pub last_append_ms: i64,
    /// The last batches of this epoch, oldest first.
    pub(super) batches: SmallVec<[RememberedBatch; REMEMBERED_BATCHES]>,
}

impl ProducerEntry {
    pub(super) fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
            last_timestamp_ms: -1,
            last_append_ms: 0,
            batches: SmallVec::new(),
        }
    }

    /// The remembered batches of the current epoch, oldest first, at most [`REMEMBERED_BATCHES`].
    pub fn batches(&self) -> &[RememberedBatch] {
        &self.batches
    }

    /// Sequence of the last record of the current epoch, or [`NO_SEQUENCE`].
    pub fn last_sequence(&self) -> i32 {
        self.batches
            .last()
            .map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// Offset of the last record of the current epoch; −1 without one.
    pub fn last_offset(&self) -> Offset {
        self.batches
            .last()
            .map_or(Offset(-1), |batch| batch.last_offset)
    }

    pub(super) fn duplicate_of(&self, batch: &ProducerBatch) -> Option<&RememberedBatch> {
        if batch.producer_epoch != self.epoch || batch.is_control {
            return None;
        }
        let range = (batch.first_sequence, batch.last_sequence());
        self.batches
            .iter()
            .find(|known| (known.first_sequence(), known.last_sequence) == range)
    }

    pub(super) fn check_order(&self, batch: &ProducerBatch) -> Result<(), ProducerError> {
        if batch.producer_epoch < self.epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id: batch.producer_id,
                epoch: batch.producer_epoch,
                current: self.epoch,
            });
        }
        // An epoch of −1 is state without an epoch, as good as none.
        if batch.is_control || self.epoch.0 < 0 {
            return Ok(());
        }
        let expected = self.next_sequence(batch.producer_epoch);
        if batch.first_sequence != expected {
            return Err(ProducerError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                expected,
                got: batch.first_sequence,
            });
        }
        Ok(())
    }

    /// A new epoch starts over; so does one of which nothing is remembered.
    fn next_sequence(&self, epoch: ProducerEpoch) -> i32 {
        if epoch != self.epoch {
            return 0;
        }
        self.last_sequence().wrapping_add(1) & i32::MAX
    }

    pub(super) fn apply(&mut self, batch: &ProducerBatch, base_offset: Offset, now_ms: i64) {
        if batch.producer_epoch != self.epoch {
            self.batches.clear();
            self.epoch = batch.producer_epoch;
        }
        // Replay may begin before what is known already.
        if base_offset <= self.last_offset() {
            return;
        }
        self.last_timestamp_ms = batch.max_timestamp_ms;
        self.last_append_ms = now_ms;
        if !batch.is_control {
            let delta = i64::from(batch.last_offset_delta);
            self.remember(RememberedBatch {
                last_sequence: batch.last_sequence(),
                last_offset: Offset(base_offset.0.saturating_add(delta)),
                offset_delta: batch.last_offset_delta,
                timestamp_ms: batch.max_timestamp_ms,
            });
        }
    }

    fn remember(&mut self, batch: RememberedBatch) {
        if self.batches.len() == REMEMBERED_BATCHES {
            self.batches.remove(0);
        }
        self.batches.push(batch);
    }
}
