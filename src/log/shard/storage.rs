//! What the partitions of a shard share: journal, memory, open files, and the fate of the directory.
//!
//! | event | notified when | who waits |
//! |---|---|---|
//! | [`ShardStorage::progress`], told by `tell_progress` | an entry has completed, a write-back has ended, a checkpoint is asked for or done, something cannot be used, the log closes | appends for memory and before a roll, checkpoints, `write_back_below`, deletions |
//! | [`ShardStorage::write_back_wanted`] | `write_back_queue` has grown, the log closes or goes offline | write-back tasks |
//! | [`ShardStorage::went_offline`] | the directory goes offline | the shard, to tell the others |
//! | [`OpenLog::durable`], a queue | the durable offset has moved, or it cannot be used | acknowledgements, each until it has passed theirs |
//! | [`OpenLog::watcher`], a call | marks have moved, or it cannot be used | the partition above |
//! | [`Journal::progressed`] | writes have completed or were flushed, the journal has failed or stopped | who waits in the journal, and `watch`, to take the directory offline |
//! | [`Journal::pressed`] | space runs short | the checkpointer |

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::rc::{Rc, Weak};

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::{CheckpointError, CheckpointSlots};
use crate::log::files::run::RunId;
use crate::log::files::small_file::sync_names;
use crate::log::journal::{Entry, Journal, JournalError, JournalPermit, PartitionEvent, Sequence};
use crate::log::options::{Durability, LogOptions};
use crate::log::partition::checkpoint_content::CheckpointRoom;
use crate::log::partition::producers::ProducerMemory;
use crate::log::segment::index_cache::IndexCache;
use crate::log::segment::open_files::{OpenFiles, SegmentKey};
use crate::log::segment::position::Boundary;
use crate::log::shard::damage::Damage;
use crate::log::shard::open_log::OpenLog;
use crate::model::PartitionId;
use crate::rt::{Budget, Event, Runtime, WriteMode};

/// What the journal hands back once the writes that hold an entry have completed.
pub struct Token<R: Runtime> {
    /// Whose entry it was, if the partition still exists.
    pub partition: Weak<OpenLog<R>>,
    /// What it holds.
    pub what: Journaled,
}

/// What a journal entry holds.
#[derive(Clone, Copy, Debug)]
pub enum Journaled {
    /// Everything accepted up to here.
    Data(Boundary),
    Event(PartitionEvent),
}

/// What the journal does with the tokens of a completed write: each partition that still exists
/// moves its marks and wakes whoever waits for them.
pub fn hand_back<R: Runtime>(tokens: Vec<Token<R>>) {
    for token in tokens {
        if let Some(partition) = token.partition.upgrade() {
            partition.on_completed(token.what);
        }
    }
}

/// The shared parts of a shard's log.
pub struct ShardStorage<R: Runtime> {
    pub rt: R,
    pub options: LogOptions,
    pub run: RunId,
    pub journal: Journal<R, Token<R>>,
    pub files: OpenFiles<R>,
    pub indexes: IndexCache,
    pub damage: Damage,
    /// Syncs of the data directory.
    pub names: GroupedSync,
    /// Memory of all tails.
    pub tail_memory: Budget,
    pub producer_memory: ProducerMemory<OpenLog<R>>,
    /// Whose turn it is to wait for tail memory piece by piece.
    pub memory_turn: Budget,
    /// Whose turn it is to complete an index from files that nobody else may cut meanwhile.
    pub completing: Budget,
    /// Cold reads in flight.
    pub cold_reads: Budget,
    /// Notified when journal writes have completed, bytes are written back, or the directory went offline.
    pub progress: Event,
    /// Counts what `progress` tells.
    pub progress_count: Cell<u64>,
    /// Partitions that have something to write back.
    pub write_back_queue: RefCell<VecDeque<Weak<OpenLog<R>>>>,
    /// Notified when `write_back_queue` has grown, and when the log closes.
    pub write_back_wanted: Event,
    /// The owner of each chunk that may be given up, in the order in which their last bytes were written back.
    pub evictable: RefCell<VecDeque<Weak<OpenLog<R>>>>,
    /// Partitions of which only the journal has something, by the earliest write that may hold it.
    pub waiting: WaitingList<R>,
    /// Where the last [`ShardStorage::press_write_back`] ended in it.
    pub pressed_to: Cell<Option<WaitingKey>>,
    /// Segment files written without a promise, to be synced by the next checkpoint.
    pub unsynced: RefCell<BTreeSet<SegmentKey>>,
    /// The write to which the last entry of this run went.
    last_entry: Cell<Option<Sequence>>,
    /// Checkpoints asked for, and done.
    pub checkpoints: CheckpointRequests,
    /// The checkpoint slots, while nobody writes them; none when the log is closed.
    pub slots: RefCell<Option<CheckpointSlots<R>>>,
    /// Who writes them.
    pub checkpoint_turn: Budget,
    /// Room in them.
    pub checkpoint_room: CheckpointRoom,
    /// The log is being closed: background tasks end.
    pub closing: Cell<bool>,
    offline: RefCell<Option<String>>,
    /// Notified when the directory goes offline.
    pub went_offline: Event,
}

/// A partition's place among those of which only the journal has something.
pub type WaitingKey = (Sequence, PartitionId);

/// Those partitions, in the order in which the journal wants to forget them.
pub type WaitingList<R> = RefCell<BTreeMap<WaitingKey, Weak<OpenLog<R>>>>;

/// Syncs of a directory, each of which serves all who have asked before it began.
#[derive(Debug)]
pub struct GroupedSync {
    turn: Budget,
    asked: Cell<u64>,
    done: Cell<u64>,
}

impl Default for GroupedSync {
    fn default() -> Self {
        Self {
            turn: Budget::new(1),
            asked: Cell::new(0),
            done: Cell::new(0),
        }
    }
}

impl GroupedSync {
    /// Makes the names in `dir`, which is always the same one, durable.
    ///
    /// # Errors
    /// As [`sync_names`] gives.
    pub async fn sync<R: Runtime>(&self, rt: &R, dir: &Path) -> Result<(), StorageError> {
        let ticket = self.asked.get() + 1;
        self.asked.set(ticket);
        let _turn = self.turn.acquire(1).await;
        if self.done.get() >= ticket {
            return Ok(());
        }
        let covers = self.asked.get();
        sync_names(rt, dir).await?;
        self.done.set(covers);
        Ok(())
    }
}

/// Who waits for a checkpoint.
#[derive(Debug, Default)]
pub struct CheckpointRequests {
    pub asked: Cell<u64>,
    pub done: Cell<u64>,
}

impl<R: Runtime> ShardStorage<R> {
    pub fn new(
        rt: R,
        options: LogOptions,
        run: RunId,
        journal: Journal<R, Token<R>>,
        slots: CheckpointSlots<R>,
    ) -> Self {
        let checkpoint_room = CheckpointRoom::default();
        checkpoint_room.set_room(slots.room_bytes());
        Self {
            slots: RefCell::new(Some(slots)),
            checkpoint_turn: Budget::new(1),
            checkpoint_room,
            files: OpenFiles::new(rt.clone(), options.open_files),
            indexes: IndexCache::default(),
            damage: Damage::default(),
            names: GroupedSync::default(),
            tail_memory: Budget::new(options.tail_bytes),
            producer_memory: ProducerMemory::new(options.producer_bytes),
            memory_turn: Budget::new(1),
            completing: Budget::new(1),
            cold_reads: Budget::new(options.cold_reads.max(1)),
            progress: Event::new(),
            progress_count: Cell::new(0),
            write_back_queue: RefCell::default(),
            write_back_wanted: Event::new(),
            evictable: RefCell::default(),
            waiting: RefCell::default(),
            pressed_to: Cell::new(None),
            unsynced: RefCell::default(),
            last_entry: Cell::new(None),
            checkpoints: CheckpointRequests::default(),
            closing: Cell::new(false),
            offline: RefCell::new(None),
            went_offline: Event::new(),
            rt,
            options,
            run,
            journal,
        }
    }

    /// Whether bytes are safe only after a flush of their own.
    pub fn needs_flush(&self) -> bool {
        self.options.durability != Durability::Fsync
    }

    /// How segments are written at this durability level.
    pub fn write_mode(&self) -> WriteMode {
        match self.options.durability {
            Durability::Fsync => WriteMode::Durable,
            Durability::Written | Durability::Memory => WriteMode::Plain,
        }
    }

    /// Fails when the log directory is offline.
    pub fn check_online(&self) -> Result<(), StorageError> {
        match &*self.offline.borrow() {
            Some(reason) => Err(StorageError::Offline(reason.clone())),
            None => Ok(()),
        }
    }

    /// Why the log directory is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.offline.borrow().clone()
    }

    /// A write failed: nothing is accepted or acknowledged any more. The first reason stays.
    pub fn take_offline(&self, reason: &str) {
        self.offline
            .borrow_mut()
            .get_or_insert_with(|| reason.to_owned());
        // Whoever waits for journal space would wait for ever: no write-back frees any.
        self.journal.fail(reason);
        self.tell_progress();
        self.write_back_wanted.notify();
        self.went_offline.notify();
    }

    /// Gives an error back, and takes the directory offline when it is one that is final.
    pub fn failed(&self, error: StorageError) -> StorageError {
        if let StorageError::Offline(reason) = &error {
            self.take_offline(reason);
        }
        error
    }

    /// Journals an entry; returns the write to which the last of it goes.
    pub fn append_entry(
        &self,
        permit: &mut JournalPermit<R, Token<R>>,
        entry: Entry<Token<R>>,
    ) -> Sequence {
        let sequence = self.journal.append(permit, entry);
        self.last_entry.set(Some(sequence));
        sequence
    }

    /// The write to which the last entry of this run went, if there was one.
    pub fn last_entry(&self) -> Option<Sequence> {
        self.last_entry.get()
    }

    /// The earliest write that the next entry may be part of.
    pub fn next_entry_from(&self) -> Sequence {
        // A long entry begins in the group in which its predecessor ended. That one may have been
        // written since, as may those behind it that hold no entries.
        self.last_entry
            .get()
            .unwrap_or_default()
            .max(self.journal.completed_end())
    }

    /// Takes room for what will be in checkpoints from now on, so that none has to grow on a full disk.
    ///
    /// # Errors
    /// `DiskFull`: there is none, and nothing was taken. Any other is final.
    pub async fn reserve_checkpoint(&self, bytes: usize) -> Result<(), StorageError> {
        if self.checkpoint_room.take(bytes) {
            return Ok(());
        }
        let _turn = self.checkpoint_turn.acquire(1).await;
        let needed = self.checkpoint_room.needed_bytes() + bytes;
        let closed = || StorageError::Offline("the log is closed".into());
        let mut slots = self.slots.borrow_mut().take().ok_or_else(closed)?;
        let made = slots.make_room(needed).await;
        self.checkpoint_room.set_room(slots.room_bytes());
        self.slots.replace(Some(slots));
        made.map_err(|error| self.failed(error.into()))?;
        match self.checkpoint_room.take(bytes) {
            true => Ok(()),
            false => Err(StorageError::DiskFull),
        }
    }

    /// The earliest journal write that may hold what no segment file has.
    pub fn oldest_waiting(&self) -> Option<Sequence> {
        let waiting = self.waiting.borrow();
        waiting.first_key_value().map(|((first, _), _)| *first)
    }

    /// Something moved on.
    pub fn tell_progress(&self) {
        self.progress_count.set(self.progress_count.get() + 1);
        self.progress.notify();
    }

    /// Waits for something to move on since `seen`, a former `progress_count`.
    pub async fn progress_since(&self, seen: u64) {
        let look = || (self.progress_count.get() != seen).then_some(());
        self.progress.wait_until(look).await;
    }

    /// Waits until a checkpoint that began after this call is durable.
    pub async fn checkpointed(self: &Rc<Self>) -> Result<(), StorageError> {
        let ticket = self.checkpoints.asked.get() + 1;
        self.checkpoints.asked.set(ticket);
        self.tell_progress();
        let look = || match self.check_online() {
            Err(error) => Some(Err(error)),
            Ok(()) => (self.checkpoints.done.get() >= ticket).then_some(Ok(())),
        };
        self.progress.wait_until(look).await
    }
}

impl From<JournalError> for StorageError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::DiskFull => Self::DiskFull,
            other => Self::Offline(other.to_string()),
        }
    }
}

impl From<CheckpointError> for StorageError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::DiskFull { .. } => Self::DiskFull,
            other => Self::Offline(other.to_string()),
        }
    }
}
