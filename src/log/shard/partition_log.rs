//! One partition's log, as its shard sees it.

use std::rc::Rc;

use crate::log::error::{ReadError, StorageError};
use crate::log::options::LogConfig;
use crate::log::partition::marks::Marks;
use crate::log::partition::producers::ProducerStates;
use crate::log::partition::tail::{ReadAsk, ReadBatches};
use crate::log::shard::open_log::{LogWatcher, OpenLog};
use crate::model::{LeaderEpoch, Offset, PartitionId, ProducerId};
use crate::rt::{Budget, Latch, Runtime};

/// Where a batch went. It is safe once [`PartitionLog::wait_durable`] of its end has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The records' timestamp, where the broker set it.
    pub log_append_time_ms: Option<i64>,
    /// The batch was in the log already; these are its original offsets.
    pub duplicate: bool,
}

/// One partition's log. Clones are the same log. Lives on its shard.
pub struct PartitionLog<R: Runtime>(pub(in crate::log) Rc<OpenLog<R>>);

impl<R: Runtime> Clone for PartitionLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Runtime> PartitionLog<R> {
    /// Its key.
    pub fn id(&self) -> PartitionId {
        self.0.id
    }

    /// Its topic's name.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Where the log stands.
    pub fn marks(&self) -> Marks {
        self.0.state.borrow().marks()
    }

    /// Completes when everything below `end_offset` is as safe as the durability level promises.
    pub async fn wait_durable(&self, end_offset: Offset) -> Result<(), StorageError> {
        loop {
            self.0.check_usable()?;
            if self.marks().durable >= end_offset {
                return Ok(());
            }
            let latch = Latch::default();
            self.0.durable.join(end_offset, &latch);
            latch.wait().await;
        }
    }

    /// Has `latch` wait until everything below `end_offset`, which is not so yet, is as safe as the
    /// durability level promises, or never will be.
    pub fn join_durable(&self, end_offset: Offset, latch: &Latch) {
        self.0.durable.join(end_offset, latch);
    }

    /// Tells `watcher` from now on of what happens.
    pub fn watch(&self, watcher: Rc<dyn LogWatcher>) {
        self.0.watcher.replace(Some(watcher));
    }

    /// Why the partition cannot be used, if so.
    pub fn failure(&self) -> Option<StorageError> {
        self.0.check_usable().err()
    }

    /// Reads whole batches, none beyond the durable offset.
    ///
    /// Nothing, and no error, when `from` is `end` or beyond.
    pub async fn read(&self, mut ask: ReadAsk) -> Result<ReadBatches, ReadError> {
        self.0.check_usable()?;
        {
            let state = self.0.state.borrow();
            let marks = state.marks();
            if ask.from < marks.log_start || ask.from > marks.log_end {
                return Err(ReadError::OutOfRange);
            }
            ask.end = ask.end.min(marks.durable);
            if ask.from >= ask.end {
                return Ok(ReadBatches::nothing(ask.from));
            }
            if let Some(read) = state.tail().read(ask) {
                return Ok(read);
            }
        }
        self.0.read_cold(ask).await
    }

    /// OffsetForLeaderEpoch: the largest epoch not above `epoch`, and where it ends; −1 and −1
    /// when that is not known.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = self.0.state.borrow();
        // An epoch that has appended nothing yet is the newest one all the same.
        let log_end = state.marks().log_end;
        if epoch == state.leader_epoch() {
            return (epoch, log_end);
        }
        match state.snapshot().epochs().end_offset_for(epoch, log_end) {
            Some(end) => (end.epoch, end.end_offset),
            None => (LeaderEpoch::NONE, Offset(-1)),
        }
    }

    /// The leader epoch under which the record at `offset` was, or will be, appended; −1 before all
    /// known ones.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let state = self.0.state.borrow();
        if offset >= state.marks().log_end {
            return state.leader_epoch();
        }
        let epochs = state.snapshot().epochs();
        epochs.epoch_at(offset).unwrap_or(LeaderEpoch::NONE)
    }

    /// The epoch under which the partition is led now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.0.state.borrow().leader_epoch()
    }

    /// Leads under a higher epoch from now on: what is accepted next carries it. A lower or equal one
    /// changes nothing.
    ///
    /// Nothing is written for it: an epoch belongs to the metadata, whose record of it is durable
    /// before any shard is told, and a start is told of it again.
    pub fn raise_leader_epoch(&self, epoch: LeaderEpoch) {
        self.0.state.borrow_mut().raise_epoch(epoch);
    }

    /// Replaces the topic's values.
    pub fn set_config(&self, config: Rc<LogConfig>) {
        self.0.state.borrow_mut().set_config((*config).clone());
    }

    /// Bytes of batches in the log.
    pub fn size_bytes(&self) -> u64 {
        self.0
            .state
            .borrow()
            .snapshot()
            .segments()
            .map(|segment| segment.size_bytes)
            .sum()
    }

    /// Memory for what is known of the shard's producers, in bytes.
    pub fn producer_memory(&self) -> &Budget {
        self.0.storage.producer_memory.budget()
    }

    /// Whether the partition knows a producer.
    pub fn knows_producer(&self, producer: ProducerId) -> bool {
        let state = self.0.state.borrow();
        state.snapshot().producers().get(producer).is_some()
    }

    /// The idempotent producers that the partition knows.
    pub fn producers(&self) -> ProducerStates {
        self.0.state.borrow().snapshot().producers().clone()
    }
}
