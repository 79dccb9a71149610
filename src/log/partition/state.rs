//! What a partition's log consists of, and the changes that several files share.
//!
//! | fields of [`State`] | changed by |
//! |---|---|
//! | tail, active, producers, epochs, log end, `unmoved` | `append`: a batch was accepted |
//! | completed, journaled, durable offset, log start, epochs | here: the journal has completed an entry |
//! | journaled | `moves` as well, below level `fsync`: the journal was flushed |
//! | moved, segment-durable, `unmoved` | here (`set_moved`), when `moves` has written |
//! | active and rolled, completed, journaled | `roll`: the next segment begins |
//! | rolled, sealed | `moves`: a segment is sealed |
//! | sealed, producers | `log_start`: segments and silent producers go |
//! | active: what its index files have | `checkpointer` |
//! | tail: its chunks | `eviction` |
//! | `carries` | `moves` sets it with an unfinished block, `append` takes it |
//! | `moving` | `moves` |
//! | users, wanted move, `unusable` | here, the latter by a deletion (`partition_dirs`) as well |
//! | `is_listed_unmoved` | `eviction` |
//! | leader epoch, config | `partition` |

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::log::error::StorageError;
use crate::log::journal::Sequence;
use crate::log::options::{Durability, LogConfig};
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::marks::Marks;
use crate::log::partition::move_plan::{MoveState, Urgency};
use crate::log::partition::producers::ProducerStates;
use crate::log::partition::tail::Tail;
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::{Boundary, Position};
use crate::log::shard::core::{Core, Journaled};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{Budget, MarkQueue, Runtime};

/// Whoever is told of what happens to a partition's log, in the same step, so that nobody sees the one
/// and not the other.
pub trait LogWatcher {
    /// A mark has moved. An error says what is wrong with them, and takes the partition offline.
    fn marks_moved(&self, marks: &Marks) -> Result<(), String>;
    /// The log cannot be used any more: the partition or the directory is offline, or it was deleted.
    fn failed(&self);
}

/// What the clones of a [`PartitionLog`](crate::log::PartitionLog) share.
pub(in crate::log) struct LogInner<R: Runtime> {
    pub core: Rc<Core<R>>,
    pub id: PartitionId,
    pub topic: String,
    pub dir: PathBuf,
    /// One append at a time, in the order of asking.
    pub turn: Budget,
    /// Who waits for the durable offset.
    pub durable: MarkQueue<Offset>,
    pub watcher: RefCell<Option<Rc<dyn LogWatcher>>>,
    pub state: RefCell<State>,
}

/// Everything that moves. Borrowed for a moment at a time, never across an await.
pub(in crate::log) struct State {
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
    pub rolled: VecDeque<RolledSegment>,
    pub active: ActiveSegment,
    pub producers: ProducerStates,
    /// The next entry begins at its block's boundary: the block before was moved unfinished, or
    /// the run has no entry of this partition yet.
    pub carries: bool,
    pub moving: usize,
    /// Whoever else works on the partition's files, by their path.
    pub users: usize,
    /// The move that it is in the queue for.
    pub wanted_move: Option<Urgency>,
    /// Journaled entries that reach beyond `moved`, oldest first.
    pub unmoved: VecDeque<Unmoved>,
    /// Whether [`Core::with_unmoved`] names the partition.
    pub is_listed_unmoved: bool,
    /// Why the partition cannot be used: it is offline, or was deleted.
    pub unusable: Option<StorageError>,
    /// It is offline for this run only: no checkpoint says so.
    pub looks_again: bool,
}

/// The segment that is appended to.
pub(in crate::log) struct ActiveSegment {
    pub facts: SegmentFacts,
    pub index: SegmentIndex,
    /// Entries of the offset and the time index that their files have.
    pub indexed: (usize, usize),
    /// Space that is reserved in the file.
    pub reserved_bytes: u64,
}

/// A segment that is no longer appended to, and not sealed yet.
pub(in crate::log) struct RolledSegment {
    pub facts: SegmentFacts,
    pub index: SegmentIndex,
    pub indexed: (usize, usize),
    /// Producer state where the segment ends, for the snapshot named by that offset.
    pub snapshot: Vec<u8>,
}

/// Journal entries up to a byte, and the earliest write that may hold some of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Unmoved {
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
        match &self.unusable {
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
            rolled_bytes: self.rolled.front().map(|rolled| rolled.facts.size_bytes),
        }
    }

    /// Bytes that could move, as far as the segment of the next move goes.
    pub fn movable_bytes(&self) -> u64 {
        match self.rolled.front() {
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
        let rolled = self.rolled.iter().map(|rolled| &rolled.facts);
        self.sealed.iter().chain(rolled).chain([&self.active.facts])
    }
}

/// Somebody works on the partition's files: a deletion, after which their paths may be another
/// topic's, waits until this is dropped.
pub(in crate::log) struct InUse<R: Runtime>(Rc<LogInner<R>>);

impl<R: Runtime> Drop for InUse<R> {
    fn drop(&mut self) {
        let is_awaited = {
            let mut state = self.0.state.borrow_mut();
            state.users -= 1;
            state.unusable.is_some()
        };
        if is_awaited {
            self.0.core.tell_progress();
        }
    }
}

impl<R: Runtime> LogInner<R> {
    /// Keeps the directory of a usable partition where it is.
    pub fn use_files(self: &Rc<Self>) -> Result<InUse<R>, StorageError> {
        self.state.borrow().check_usable()?;
        self.keep_files().ok_or(StorageError::Deleted)
    }

    /// Keeps the directory of a partition, which may be offline, where it is; none when the
    /// partition was deleted.
    pub fn keep_files(self: &Rc<Self>) -> Option<InUse<R>> {
        let mut state = self.state.borrow_mut();
        if state.unusable == Some(StorageError::Deleted) {
            return None;
        }
        state.users += 1;
        Some(InUse(self.clone()))
    }

    /// Fails when the partition or the whole directory cannot be used.
    pub fn check_usable(&self) -> Result<(), StorageError> {
        self.state.borrow().check_usable()?;
        self.core.check_online()
    }

    /// Takes this partition alone out of use.
    pub fn take_offline(&self, error: StorageError) {
        self.state.borrow_mut().unusable.get_or_insert(error);
        self.tell_failed();
        self.core.tell_progress();
    }

    /// It cannot be used any more: nobody waits for its marks.
    pub fn tell_failed(&self) {
        self.durable.release_all();
        let watcher = self.watcher.borrow().clone();
        if let Some(watcher) = watcher {
            watcher.failed();
        }
    }

    /// Marks were changed: their order must hold, and whoever waits for them goes on.
    pub fn marks_changed(&self) {
        let marks = self.state.borrow().marks;
        let watcher = self.watcher.borrow().clone();
        let told = match (marks.in_order(), watcher) {
            (false, _) => Err(format!("marks out of order: {marks:?}")),
            (true, Some(watcher)) => watcher.marks_moved(&marks),
            (true, None) => Ok(()),
        };
        match told {
            Ok(()) => self.durable.reach(marks.durable),
            Err(why) => self.take_offline(StorageError::PartitionOffline(why)),
        }
    }

    /// An entry is in completed journal writes.
    pub fn on_completed(self: &Rc<Self>, what: Journaled) {
        match what {
            Journaled::Data(end) => self.on_data_completed(end),
            Journaled::LogStart(log_start) => self.raise_log_start(log_start),
        }
        self.marks_changed();
        self.core.tell_progress();
    }

    fn on_data_completed(self: &Rc<Self>, end: Boundary) {
        let needs_flush = self.core.needs_flush();
        let movable = {
            let mut state = self.state.borrow_mut();
            state.completed = end;
            if !needs_flush {
                state.journaled = end;
            }
            state.marks.durable = state.marks.durable.max(end.offset);
            state.movable_bytes()
        };
        if movable >= self.core.options.move_bytes {
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
            if state.unusable.is_some() {
                return;
            }
            let before = state.wanted_move;
            state.wanted_move = before.max(Some(urgency));
            if before.is_some() {
                return;
            }
        }
        let entry: Weak<Self> = Rc::downgrade(self);
        self.core.move_queue.borrow_mut().push_back(entry);
        self.core.move_wanted.notify();
    }
}
