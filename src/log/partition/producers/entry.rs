//! One producer: its epoch, its last batches, and the order of sequences.
//!
//! Sequences count modulo 2³¹: 0 follows 2³¹ − 1.

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

/// What a partition knows of one producer: its newest batch here, the rest elsewhere, as most producers
/// that a partition knows have written once and are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// [`NO_BATCH`] where nothing but markers is known of the epoch.
    newest: RememberedBatch,
    epoch: ProducerEpoch,
    /// Milliseconds in 48 bits, little-endian: they last for 8,900 years, and fill what is left of
    /// eight bytes.
    last_append: [u8; 6],
    /// None where it would say nothing.
    more: Option<Box<More>>,
}

/// What few producers have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct More {
    /// Batches before the newest one, oldest first; the first `older_count` of them.
    older: [RememberedBatch; REMEMBERED_BATCHES - 1],
    older_count: u8,
    coordinator_epoch: i32,
    txn_first_offset: Option<Offset>,
    /// Of a marker or a snapshot, where it is not the newest batch's.
    last_timestamp_ms: Option<i64>,
}

const NO_BATCH: RememberedBatch = RememberedBatch {
    last_sequence: NO_SEQUENCE,
    last_offset: Offset(-1),
    offset_delta: 0,
    timestamp_ms: -1,
};

const NO_MORE: More = More {
    older: [NO_BATCH; REMEMBERED_BATCHES - 1],
    older_count: 0,
    coordinator_epoch: -1,
    txn_first_offset: None,
    last_timestamp_ms: None,
};

/// Memory of an entry with its place in the map, measured with 1,000 and more of them: 96 bytes where ids
/// rise, which fills half of each node, 77 where they come in any order.
const ENTRY_BYTES: usize = 96;
/// Memory of what few producers have, the allocator's part included; measured.
const MORE_BYTES: usize = size_of::<More>() + 8;

impl ProducerEntry {
    pub(super) fn new(epoch: ProducerEpoch) -> Self {
        Self {
            newest: NO_BATCH,
            epoch,
            last_append: [0; 6],
            more: None,
        }
    }

    /// The newest epoch seen.
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// Epoch of the coordinator that wrote the last transaction marker; −1 without one.
    pub fn coordinator_epoch(&self) -> i32 {
        self.more.as_ref().map_or(-1, |more| more.coordinator_epoch)
    }

    /// Where the open transaction begins, if there is one.
    pub fn txn_first_offset(&self) -> Option<Offset> {
        self.more.as_ref()?.txn_first_offset
    }

    /// Max timestamp of the last batch, in Unix milliseconds; −1 without one.
    pub fn last_timestamp_ms(&self) -> i64 {
        let more = self.more.as_ref();
        let other = more.and_then(|more| more.last_timestamp_ms);
        other.unwrap_or(self.newest.timestamp_ms)
    }

    /// Whether it has appended nothing for so long, and has no open transaction.
    pub fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.txn_first_offset().is_none()
            && now_ms.saturating_sub(self.last_append_ms()) >= expiration_ms
    }

    /// Wall clock of the last append, in Unix milliseconds.
    pub fn last_append_ms(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.last_append);
        i64::from_le_bytes(bytes)
    }

    /// The remembered batches of the current epoch, oldest first, at most [`REMEMBERED_BATCHES`].
    pub fn batches(&self) -> impl Iterator<Item = &RememberedBatch> {
        let older = self.more.as_ref().map_or(&[][..], |more| more.older());
        older.iter().chain(self.newest())
    }

    /// Sequence of the last record of the current epoch, or [`NO_SEQUENCE`].
    pub fn last_sequence(&self) -> i32 {
        self.newest.last_sequence
    }

    /// Offset of the last record of the current epoch; −1 without one.
    pub fn last_offset(&self) -> Offset {
        self.newest.last_offset
    }

    /// The last batch of the current epoch.
    pub(super) fn newest(&self) -> Option<&RememberedBatch> {
        (self.newest.last_offset.0 >= 0).then_some(&self.newest)
    }

    /// What it takes of a shard's memory, its place in the map included.
    pub(super) fn memory_bytes(&self) -> usize {
        ENTRY_BYTES + self.more.as_ref().map_or(0, |_| MORE_BYTES)
    }

    pub(super) fn set_last_append_ms(&mut self, now_ms: i64) {
        let bytes = now_ms.clamp(0, (1 << 48) - 1).to_le_bytes();
        self.last_append.copy_from_slice(&bytes[..6]);
    }

    pub(super) fn set_last_timestamp_ms(&mut self, timestamp_ms: i64) {
        let differs = timestamp_ms != self.newest.timestamp_ms;
        self.set_more(|more| more.last_timestamp_ms = differs.then_some(timestamp_ms));
    }

    pub(super) fn set_coordinator_epoch(&mut self, epoch: i32) {
        self.set_more(|more| more.coordinator_epoch = epoch);
    }

    pub(super) fn set_txn_first_offset(&mut self, offset: Option<Offset>) {
        self.set_more(|more| more.txn_first_offset = offset);
    }

    pub(super) fn duplicate_of(&self, batch: &ProducerBatch) -> Option<&RememberedBatch> {
        if batch.producer_epoch != self.epoch || batch.is_control {
            return None;
        }
        let range = (batch.first_sequence, batch.last_sequence());
        self.batches()
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
            let last_timestamp_ms = self.last_timestamp_ms();
            self.newest = NO_BATCH;
            self.set_more(|more| more.older_count = 0);
            self.set_last_timestamp_ms(last_timestamp_ms);
            self.epoch = batch.producer_epoch;
        }
        // Replay may begin before what is known already.
        if base_offset <= self.last_offset() {
            return;
        }
        self.set_last_append_ms(now_ms);
        if !batch.is_control {
            let delta = i64::from(batch.last_offset_delta);
            self.remember(RememberedBatch {
                last_sequence: batch.last_sequence(),
                last_offset: Offset(base_offset.0.saturating_add(delta)),
                offset_delta: batch.last_offset_delta,
                timestamp_ms: batch.max_timestamp_ms,
            });
        }
        self.set_last_timestamp_ms(batch.max_timestamp_ms);
    }

    pub(super) fn remember(&mut self, batch: RememberedBatch) {
        let before = std::mem::replace(&mut self.newest, batch);
        if before.last_offset.0 >= 0 {
            self.set_more(|more| more.push(before));
        }
    }

    /// Changes what few producers have, and keeps it only if it says something.
    fn set_more(&mut self, change: impl FnOnce(&mut More)) {
        let mut more = match &self.more {
            Some(more) => (**more).clone(),
            None => NO_MORE,
        };
        change(&mut more);
        let says_nothing = more.older_count == 0
            && more.coordinator_epoch == NO_MORE.coordinator_epoch
            && more.txn_first_offset.is_none()
            && more.last_timestamp_ms.is_none();
        match (&mut self.more, says_nothing) {
            (more, true) => *more = None,
            (Some(held), false) => **held = more,
            (None, false) => self.more = Some(Box::new(more)),
        }
    }
}

impl More {
    fn older(&self) -> &[RememberedBatch] {
        &self.older[..usize::from(self.older_count)]
    }

    fn push(&mut self, batch: RememberedBatch) {
        let count = usize::from(self.older_count);
        if count == self.older.len() {
            self.older.rotate_left(1);
            self.older[count - 1] = batch;
        } else {
            self.older[count] = batch;
            self.older_count += 1;
        }
    }
}
