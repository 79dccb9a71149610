//! One partition's log, as its shard sees it.

use std::rc::Rc;

use crate::log::error::{AppendError, ReadError, ReplaceError, StorageError};
use crate::log::files::partition_files::SegmentId;
use crate::log::options::LogConfig;
use crate::log::partition::marks::Marks;
use crate::log::partition::producers::ProducerStates;
use crate::log::partition::roll_plan::RoomAsk;
use crate::log::partition::tail::{ReadAsk, ReadBatches};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::replacement::Replacement;
use crate::log::shard::append::{Appended, Room};
use crate::log::shard::open_log::{LogWatcher, OpenLog};
use crate::log::shard::sealed::log_start;
use crate::log::shard::sealed::swap::{self, Rewritten};
use crate::log::shard::timestamps::{self, Found};
use crate::model::batch::BatchView;
use crate::model::{LeaderEpoch, Offset, PartitionId, ProducerId};
use crate::rt::{Budget, Latch, Runtime};

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
        self.0.wait_durable(end_offset).await
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

    /// Appends `batch`, exactly one that was checked at the gateway. Waits for room (memory, space
    /// in the segment and the journal), then assigns offsets; first come, first served.
    ///
    /// A retry of a batch that is in the log already gets its first offsets; the caller waits for
    /// them to be durable all the same.
    pub async fn append(&self, batch: &[u8], now_ms: i64) -> Result<Appended, AppendError> {
        self.0.append(batch, now_ms).await
    }

    /// Room for a batch of at most what is asked for. Waits for the partition's turn, first come, first
    /// served, then for memory, space in the segment, and space in the journal.
    ///
    /// # Errors
    /// `TooLarge`, `DiskFull`; that the partition cannot be used. Then nothing is held.
    pub async fn reserve(&self, ask: RoomAsk) -> Result<Room<R>, AppendError> {
        self.0.reserve(ask).await
    }

    /// The first record by offset, below `end`, whose timestamp is `at_ms` or later: its
    /// timestamp, offset and leader epoch.
    pub async fn offset_for_timestamp(
        &self,
        at_ms: i64,
        end: Offset,
    ) -> Result<Option<Found>, ReadError> {
        timestamps::offset_for_timestamp(&self.0, at_ms, end).await
    }

    /// The first record with the largest timestamp: its timestamp, offset and leader epoch.
    pub async fn max_timestamp(&self) -> Result<Option<Found>, ReadError> {
        timestamps::max_timestamp(&self.0).await
    }

    /// Raises the log start to `before` (at most the durable offset); durable when it returns.
    /// Returns the log start then; segments wholly below it are removed.
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        log_start::delete_records(&self.0, before).await
    }

    /// Removes whole segments that `retention.ms` and `retention.bytes` no longer keep; returns
    /// how many. Producers that have been silent for `producer.id.expiration.ms` are forgotten, whatever
    /// `now_ms` says.
    pub async fn enforce_retention(&self, now_ms: i64) -> Result<usize, StorageError> {
        log_start::enforce_retention(&self.0, now_ms).await
    }

    /// The segments that are whole in their files, oldest first: those that can be rewritten.
    pub fn sealed_segments(&self) -> Vec<SegmentFacts> {
        let state = self.0.state.borrow();
        let sealed = state.snapshot().complete().range(..state.sealed_count());
        sealed.copied().collect()
    }

    /// Rewrites sealed segments, one behind the other, batch by batch. What comes of them takes their
    /// place, durably, when this returns; their files are removed behind. Readers see the one or the
    /// other. One rewrite of a partition at a time: another one waits.
    ///
    /// A reader that stands where nothing was left goes on with the batch behind; with none there is, it
    /// waits where it stands, below the high watermark, for what is appended next. Kafka's cleaner keeps
    /// the last batch of what it cleans, without records, so that consumers come to the end.
    ///
    /// # Errors
    /// After any but `Unknown` the log is as it was.
    pub async fn replace_segments(
        &self,
        inputs: &[SegmentId],
        rewrite: impl FnMut(&BatchView<'_>) -> Rewritten,
    ) -> Result<Replacement, ReplaceError> {
        swap::replace_segments(&self.0, inputs, rewrite).await
    }
}
