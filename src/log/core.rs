//! What the partitions of a shard share: journal, memory, open files, and the fate of the directory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use crate::log::error::StorageError;
use crate::log::files::{Files, SegmentKey};
use crate::log::index_cache::IndexCache;
use crate::log::journal::{Journal, JournalError, Sequence};
use crate::log::marks::Boundary;
use crate::log::options::{Durability, LogOptions};
use crate::log::partition::Partition;
use crate::log::run::RunId;
use crate::model::Offset;
use crate::rt::{Budget, Event, Runtime, WriteMode};

/// What the journal hands back once an entry is durable.
pub struct Token<R: Runtime> {
    /// Whose entry it was, if the partition still exists.
    pub partition: Weak<Partition<R>>,
    /// What has become durable with it.
    pub what: Journaled,
}

/// What a journal entry makes durable.
#[derive(Clone, Copy, Debug)]
pub enum Journaled {
    /// Everything accepted up to here.
    Data(Boundary),
    /// A log start.
    LogStart(Offset),
}

/// The shared parts of a shard's log.
pub struct Core<R: Runtime> {
    pub rt: R,
    pub options: LogOptions,
    pub run: RunId,
    pub journal: Journal<R, Token<R>>,
    pub files: Files<R>,
    pub indexes: IndexCache,
    /// Memory of all tails.
    pub tail_memory: Budget,
    /// Whose turn it is to wait for tail memory piece by piece.
    pub memory_turn: Budget,
    /// Cold reads in flight.
    pub cold_reads: Budget,
    /// Notified when bytes have become durable, have moved, or the directory went offline.
    pub progress: Event,
    /// Counts what `progress` tells.
    pub progress_count: Cell<u64>,
    /// Partitions that have something to move.
    pub move_queue: RefCell<VecDeque<Weak<Partition<R>>>>,
    /// Notified when `move_queue` has grown, and when the log closes.
    pub move_wanted: Event,
    /// The owner of each chunk that may be given up, in the order in which their last bytes moved.
    pub evictable: RefCell<VecDeque<Weak<Partition<R>>>>,
    /// Partitions with bytes that are not in segment files, each once.
    pub with_unmoved: RefCell<VecDeque<Weak<Partition<R>>>>,
    /// Segment files written without a promise, to be synced by the next checkpoint.
    pub unsynced: RefCell<BTreeSet<SegmentKey>>,
    /// The write to which the last entry went.
    pub last_sequence: Cell<Sequence>,
    /// Whether an entry was journaled in this run.
    pub accepted_any: Cell<bool>,
    /// Checkpoints asked for, and done.
    pub checkpoints: CheckpointRequests,
    /// The log is being closed: background tasks end.
    pub closing: Cell<bool>,
    offline: RefCell<Option<String>>,
    /// Notified when the directory goes offline.
    pub went_offline: Event,
}

/// Who waits for a checkpoint.
#[derive(Debug, Default)]
pub struct CheckpointRequests {
    pub asked: Cell<u64>,
    pub done: Cell<u64>,
}

impl<R: Runtime> Core<R> {
    pub fn new(rt: R, options: LogOptions, run: RunId, journal: Journal<R, Token<R>>) -> Self {
        Self {
            files: Files::new(rt.clone(), options.open_files),
            indexes: IndexCache::default(),
            tail_memory: Budget::new(options.tail_bytes),
            memory_turn: Budget::new(1),
            cold_reads: Budget::new(options.cold_reads.max(1)),
            progress: Event::new(),
            progress_count: Cell::new(0),
            move_queue: RefCell::default(),
            move_wanted: Event::new(),
            evictable: RefCell::default(),
            with_unmoved: RefCell::default(),
            unsynced: RefCell::default(),
            last_sequence: Cell::new(Sequence(0)),
            accepted_any: Cell::new(false),
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
        // Whoever waits for journal space would wait for ever: no move frees any.
        self.journal.fail(reason);
        self.tell_progress();
        self.move_wanted.notify();
        self.went_offline.notify();
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
