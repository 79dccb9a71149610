//! One partition's log, as its shard sees it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::log::core::{Core, Journaled};
use crate::log::epochs::EpochCache;
use crate::log::error::{ReadError, StorageError};
use crate::log::index::SegmentIndex;
use crate::log::journal::Sequence;
use crate::log::marks::{Boundary, Marks, Position};
use crate::log::move_plan::{MoveState, Urgency};
use crate::log::options::{Durability, LogConfig};
use crate::log::producers::ProducerStates;
use crate::log::rules::{Rule, holds};
use crate::log::segment::SegmentFacts;
use crate::log::tail::{ReadBatches, Tail};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{Budget, Event, Runtime};

/// A batch that was accepted: its offsets and its order are fixed. It is safe, and may be
/// acknowledged, once [`PartitionLog::wait_durable`] of its end has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The records' timestamp, where the broker set it.
    pub log_append_time_ms: Option<i64>,
    /// The log start offset now.
    pub log_start: Offset,
    /// The batch was in the log already; these are its original offsets.
    pub duplicate: bool,
}

/// One partition's log. Clones are the same log. Lives on its shard.
pub struct PartitionLog<R: Runtime>(pub(super) Rc<Partition<R>>);

impl<R: Runtime> Clone for PartitionLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Partition<R: Runtime> {
    pub core: Rc<Core<R>>,
    pub id: PartitionId,
    pub topic: String,
    pub dir: PathBuf,
    /// One append at a time, in the order of asking.
    pub turn: Budget,
    pub changed: Event,
    pub state: RefCell<State>,
}

/// Everything that moves. Borrowed for a moment at a time, never across an await.
pub(super) struct State {
    pub config: Rc<LogConfig>,
    pub leader_epoch: LeaderEpoch,
    pub epochs: EpochCache,
    pub marks: Marks,
    pub tail: Tail,
    /// Everything below is in completed journal writes.
    pub completed: Boundary,
    /// Everything below is safely in the journal, so that it may move.
    pub journaled: Boundary,
    /// First byte that is not in a segment file; the boundary below it is segment-durable.
    pub moved: Position,
    pub segment_durable: Boundary,
    pub sealed: VecDeque<SegmentFacts>,
    /// Rolled, not sealed yet: the last bytes are still to be moved.
    pub finishing: VecDeque<Finishing>,
    pub active: ActiveSegment,
    pub producers: ProducerStates,
    /// The next entry begins at its block's boundary: the block before was moved unfinished, or
    /// the run has no entry of this partition yet.
    pub carries: bool,
    pub moving: usize,
    /// Whoever else works on the partition's files, by their path.
    pub users: usize,
    pub move_wanted: Option<Urgency>,
    /// Journaled entries that reach beyond `moved`, oldest first.
    pub unmoved: VecDeque<Unmoved>,
    /// Whether [`Core::with_unmoved`] names the partition.
    pub is_listed_unmoved: bool,
    /// Why the partition cannot be used.
    pub stopped: Option<StorageError>,
}

/// The segment that is appended to.
pub(super) struct ActiveSegment {
    pub facts: SegmentFacts,
    pub index: SegmentIndex,
    /// Entries of the offset and the time index that their files have.
    pub indexed: (usize, usize),
    /// Space that is reserved in the file.
    pub reserved_bytes: u64,
}

/// A segment that is no longer appended to.
pub(super) struct Finishing {
    pub facts: SegmentFacts,
    pub index: SegmentIndex,
    pub indexed: (usize, usize),
    /// Producer state where the segment ends, for the snapshot named by that offset.
    pub snapshot: Vec<u8>,
}

/// Journal entries up to a byte, and the earliest write that may hold some of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unmoved {
    pub first: Sequence,
    pub end: Position,
}

impl ActiveSegment {
    pub fn new(facts: SegmentFacts) -> Self {
        Self {
            index: SegmentIndex::new(facts.base_offset),
            facts,
            indexed: (0, 0),
            reserved_bytes: 0,
        }
    }
}

impl State {
    pub fn check_usable(&self) -> Result<(), StorageError> {
        match &self.stopped {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Where the log ends.
    pub fn end(&self) -> Boundary {
        Boundary {
            offset: self.marks.log_end,
            at: self.tail.end(),
        }
    }

    /// What the next move is planned from.
    pub fn move_state(&self) -> MoveState {
        MoveState {
            from: self.moved,
            journaled: self.journaled.at,
            accepted: self.tail.end(),
            finished_bytes: self
                .finishing
                .front()
                .map(|finishing| finishing.facts.size_bytes),
        }
    }

    /// Bytes that could move, as far as the segment of the next move goes.
    pub fn gathered_bytes(&self) -> u64 {
        match self.finishing.front() {
            Some(_) => u64::MAX,
            None if self.completed.at.segment == self.moved.segment => {
                self.completed.at.byte.saturating_sub(self.moved.byte)
            }
            None => 0,
        }
    }

    /// Everything below `moved` is durably in segment files now.
    pub fn set_moved(&mut self, moved: Position) {
        self.moved = moved;
        while self.unmoved.front().is_some_and(|entry| entry.end <= moved) {
            self.unmoved.pop_front();
        }
        let batches = self.tail.batches();
        let following = self.tail.count_while(|batch| batch.end() <= moved);
        let last = following
            .checked_sub(1)
            .and_then(|index| batches.get(index));
        if let Some(last) = last.filter(|last| last.end_offset > self.segment_durable.offset) {
            self.segment_durable = Boundary {
                offset: last.end_offset,
                at: last.end(),
            };
        }
        if self.segment_durable.at.segment < moved.segment {
            self.segment_durable.at = Position::new(moved.segment, 0);
        }
        self.marks.segment_durable = self.segment_durable.offset;
    }

    /// All segments that hold records, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentFacts> {
        let finishing = self.finishing.iter().map(|finishing| &finishing.facts);
        self.sealed
            .iter()
            .chain(finishing)
            .chain([&self.active.facts])
    }
}

/// Somebody works on the partition's files: a deletion, after which their paths may be another
/// topic's, waits until this is dropped.
pub(super) struct InUse<R: Runtime>(Rc<Partition<R>>);

impl<R: Runtime> Drop for InUse<R> {
    fn drop(&mut self) {
        let is_awaited = {
            let mut state = self.0.state.borrow_mut();
            state.users -= 1;
            state.stopped.is_some()
        };
        if is_awaited {
            self.0.core.tell_progress();
        }
    }
}

impl<R: Runtime> Partition<R> {
    /// Keeps the partition's directory where it is.
    pub fn use_files(self: &Rc<Self>) -> Result<InUse<R>, StorageError> {
        let mut state = self.state.borrow_mut();
        state.check_usable()?;
        state.users += 1;
        Ok(InUse(self.clone()))
    }

    /// Fails when the partition or the whole directory cannot be used.
    pub fn check_usable(&self) -> Result<(), StorageError> {
        self.state.borrow().check_usable()?;
        self.core.check_online()
    }

    /// Takes this partition alone out of use.
    pub fn stop(&self, error: StorageError) {
        self.state.borrow_mut().stopped.get_or_insert(error);
        self.changed.notify();
        self.core.tell_progress();
    }

    /// Marks were changed: their order must hold, and whoever waits for them looks again.
    pub fn marks_changed(&self) {
        let marks = self.state.borrow().marks;
        if !marks.in_order() {
            self.stop(StorageError::PartitionOffline(format!(
                "marks out of order: {marks:?}"
            )));
        }
        self.changed.notify();
    }

    /// The journal has made something durable.
    pub fn on_durable(self: &Rc<Self>, what: Journaled) {
        match what {
            Journaled::Data(end) => self.on_data_durable(end),
            Journaled::LogStart(log_start) => self.raise_log_start(log_start),
        }
        self.marks_changed();
        self.core.tell_progress();
    }

    fn on_data_durable(self: &Rc<Self>, end: Boundary) {
        let needs_flush = self.core.needs_flush();
        let gathered = {
            let mut state = self.state.borrow_mut();
            state.completed = end;
            if !needs_flush {
                state.journaled = end;
            }
            state.marks.durable = state.marks.durable.max(end.offset);
            state.gathered_bytes()
        };
        if gathered >= self.core.options.move_bytes {
            self.request_move(Urgency::Blocks);
        }
    }

    /// The log starts here from now on, in memory.
    pub fn raise_log_start(&self, log_start: Offset) {
        let mut state = self.state.borrow_mut();
        if log_start > state.marks.log_start {
            state.marks.log_start = log_start;
            state.epochs.truncate_from_start(log_start);
        }
    }

    /// Whether a batch counts as safe as soon as it is in memory.
    pub fn is_safe_in_memory(&self) -> bool {
        self.core.options.durability == Durability::Memory || !holds(Rule::AckWaitsForDurable)
    }

    /// Puts the partition in the queue for moves, or makes its place there more urgent.
    pub fn request_move(self: &Rc<Self>, urgency: Urgency) {
        {
            let mut state = self.state.borrow_mut();
            if state.stopped.is_some() {
                return;
            }
            let before = state.move_wanted;
            state.move_wanted = before.max(Some(urgency));
            if before.is_some() {
                return;
            }
        }
        let entry: Weak<Self> = Rc::downgrade(self);
        self.core.move_queue.borrow_mut().push_back(entry);
        self.core.move_wanted.notify();
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
        self.0.state.borrow().marks
    }

    /// Completes when everything below `end_offset` is as safe as the durability level promises.
    pub async fn wait_durable(&self, end_offset: Offset) -> Result<(), StorageError> {
        let look = || match self.0.check_usable() {
            Err(error) => Some(Err(error)),
            Ok(()) => (self.marks().durable >= end_offset).then_some(Ok(())),
        };
        self.0.changed.wait_until(look).await
    }

    /// Notified when the durable offset or the log start moves, on errors, and on deletion.
    pub fn changed(&self) -> &Event {
        &self.0.changed
    }

    /// Why the partition cannot be used, if so.
    pub fn failure(&self) -> Option<StorageError> {
        self.0.check_usable().err()
    }

    /// Whole batches from the one that holds `from`, below the exclusive bound `end` (at most the
    /// durable offset) and at most `max_bytes`; with `whole_first` the first one in any case.
    ///
    /// Nothing, and no error, when `from` is `end` or beyond.
    pub async fn read(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        whole_first: bool,
    ) -> Result<ReadBatches, ReadError> {
        self.0.check_usable()?;
        {
            let state = self.0.state.borrow();
            if from < state.marks.log_start || from > state.marks.log_end {
                return Err(ReadError::OutOfRange);
            }
            let end = end.min(state.marks.durable);
            if from >= end {
                return Ok(ReadBatches::nothing(from));
            }
            if let Some(read) = state.tail.read(from, end, max_bytes, whole_first) {
                return Ok(read);
            }
        }
        self.0.read_cold(from, end, max_bytes, whole_first).await
    }

    /// OffsetForLeaderEpoch: the largest epoch not above `epoch`, and where it ends; −1 and −1
    /// when that is not known.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let state = self.0.state.borrow();
        // A term that has appended nothing yet is the newest one all the same.
        if epoch == state.leader_epoch {
            return (epoch, state.marks.log_end);
        }
        match state.epochs.end_offset_for(epoch, state.marks.log_end) {
            Some(end) => (end.epoch, end.end_offset),
            None => (LeaderEpoch::NONE, Offset(-1)),
        }
    }

    /// The leader epoch under which the record at `offset` was, or will be, appended; −1 before all
    /// known ones.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let state = self.0.state.borrow();
        if offset >= state.marks.log_end {
            return state.leader_epoch;
        }
        state.epochs.epoch_at(offset).unwrap_or(LeaderEpoch::NONE)
    }

    /// The epoch under which the partition is led now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.0.state.borrow().leader_epoch
    }

    /// Leads under a higher epoch from now on; durable when it returns (one checkpoint serves all
    /// who wait at a time). A lower or equal one changes nothing.
    pub async fn raise_leader_epoch(&self, epoch: LeaderEpoch) -> Result<(), StorageError> {
        self.0.check_usable()?;
        if epoch <= self.leader_epoch() {
            return Ok(());
        }
        // No append may take the new epoch before it is durable.
        let _turn = self.0.turn.acquire(1).await;
        {
            let mut state = self.0.state.borrow_mut();
            state.leader_epoch = state.leader_epoch.max(epoch);
        }
        self.0.core.checkpointed().await
    }

    /// Replaces the topic's values.
    pub fn set_config(&self, config: Rc<LogConfig>) {
        self.0.state.borrow_mut().config = config;
    }

    /// Bytes of batches in the log.
    pub fn size_bytes(&self) -> u64 {
        self.0
            .state
            .borrow()
            .segments()
            .map(|segment| segment.size_bytes)
            .sum()
    }

    /// The idempotent producers that the partition knows.
    pub fn producers(&self) -> ProducerStates {
        self.0.state.borrow().producers.clone()
    }
}
