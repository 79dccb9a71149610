//! What the partitions of a shard share: journal, memory, open files, and the fate of the directory.
//!
//! | event | notified when | who waits |
//! |---|---|---|
//! | [`Backlog`]: its queue | a partition is to be written back, one task for one; the log closes or goes offline | write-back tasks |
//! | [`Backlog`]: its first | what the journal wants to forget first has changed | `write_back_below` |
//! | [`TailMemory`], the first in line | chunks or memory are given back, something was written back or may be, something cannot be used | one append, for memory |
//! | [`Checkpoints::wanted`] | one is asked for, the log closes or goes offline | the checkpointer |
//! | [`Journal::pressed`] | space runs short, or enough was written for a checkpoint | the checkpointer |
//! | [`Checkpoints::written`], a queue | a checkpoint is durable, or none will be | who has asked for one |
//! | [`SharedStorage::ended`] | the directory goes offline, the log closes | the shard, to tell the others; `watch` |
//! | [`durable`](crate::log::shard::open_log::OpenLog::durable) of a log, a queue | the durable offset has moved, or it cannot be used | acknowledgements, each until it has passed theirs |
//! | [`watcher`](crate::log::shard::open_log::OpenLog::watcher) of a log, a call | marks have moved, or it cannot be used | the partition above |
//! | [`Work::idle`](crate::log::shard::open_log::Work) | nobody works on a deleted partition's files any more | its deletion |
//! | [`Journal::progressed`] | writes have completed or were flushed, the journal has failed or stopped | who waits in the journal, and `watch`, to take the directory offline |

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::{CheckpointError, CheckpointSlots};
use crate::log::files::run::RunId;
use crate::log::files::small_file::sync_names;
use crate::log::journal::{Entry, Journal, JournalError, JournalPermit, PartitionEvent, Sequence};
use crate::log::options::{Durability, LogOptions};
use crate::log::partition::checkpoint_content::CheckpointRoom;
use crate::log::partition::producers::{KnowsProducers, ProducerMemory};
use crate::log::segment::damage::Damage;
use crate::log::segment::index_cache::IndexCache;
use crate::log::segment::open_files::OpenFiles;
use crate::log::segment::position::Boundary;
use crate::log::shard::tail_memory::TailMemory;
use crate::log::shard::write_back::backlog::Backlog;
use crate::log::shard::write_back::unsynced::Unsynced;
use crate::model::{PartitionId, PartitionSlot, PartitionTable};
use crate::rt::{Budget, Event, Latch, MarkQueue, Mutex, Runtime};

/// What the journal hands back once the writes that hold an entry have completed.
pub struct Token {
    /// Whose entry it was, if the partition still exists.
    pub partition: PartitionSlot,
    /// What it holds.
    pub what: Journaled,
}

/// The logs that are open on a shard.
pub type Logs<L> = RefCell<PartitionTable<Rc<L>>>;

/// What a journal entry holds.
#[derive(Clone, Debug)]
pub enum Journaled {
    /// Everything accepted up to here.
    Data(Boundary),
    Event(PartitionEvent),
}

/// What the logs of a shard share. It keeps them, and knows of them only that they know producers: what
/// is done with a log stands above both.
pub struct SharedStorage<R: Runtime, L> {
    pub rt: R,
    pub options: LogOptions,
    opened_at: Duration,
    pub run: RunId,
    pub journal: Journal<R, Token>,
    pub files: OpenFiles<R>,
    pub indexes: IndexCache,
    pub damage: Damage,
    /// Syncs of the data directory.
    pub names: GroupedSync,
    /// Its partitions.
    pub logs: Rc<Logs<L>>,
    /// Memory of all tails.
    pub tail: TailMemory,
    pub producer_memory: ProducerMemory<L>,
    /// Whose turn it is to complete an index from files that nobody else may cut meanwhile.
    pub completing: Mutex,
    /// Cold reads in flight.
    pub cold_reads: Budget,
    pub backlog: Backlog,
    pub unsynced: Unsynced,
    /// The write to which the last entry of this run went.
    last_entry: Cell<Option<Sequence>>,
    pub checkpoints: Checkpoints,
    /// The checkpoint slots, while nobody writes them; none when the log is closed.
    pub slots: RefCell<Option<CheckpointSlots<R>>>,
    /// Who writes them.
    pub checkpoint_turn: Mutex,
    /// Room in them.
    pub checkpoint_room: Rc<CheckpointRoom>,
    /// The log is being closed: background tasks end.
    pub closing: Cell<bool>,
    offline: RefCell<Option<String>>,
    /// Notified when the directory goes offline, and when the log closes.
    pub ended: Event,
}

/// Syncs of a directory, each of which serves all who have asked before it began.
#[derive(Debug)]
pub struct GroupedSync {
    turn: Mutex,
    asked: Cell<u64>,
    done: Cell<u64>,
}

impl Default for GroupedSync {
    fn default() -> Self {
        Self {
            turn: Mutex::new(),
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
        let _turn = self.turn.lock().await;
        if self.done.get() >= ticket {
            return Ok(());
        }
        let covers = self.asked.get();
        sync_names(rt, dir).await?;
        self.done.set(covers);
        Ok(())
    }
}

/// Checkpoints that were asked for.
#[derive(Debug, Default)]
pub struct Checkpoints {
    asked: Cell<u64>,
    done: Cell<u64>,
    /// How many have begun, and the last of them that is durable.
    begun: Cell<u64>,
    durable: Cell<u64>,
    /// Notified when one is asked for, and when the checkpointer is to end.
    pub wanted: Event,
    /// Who waits for one, by how many were asked for.
    written: MarkQueue<u64>,
}

impl Checkpoints {
    /// How many were asked for.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Whether one was asked for that is not written yet.
    pub fn is_asked(&self) -> bool {
        self.asked.get() > self.done.get()
    }

    /// Begins the next; gives its number, from 1 on.
    pub fn begin(&self) -> u64 {
        self.begun.set(self.begun.get() + 1);
        self.begun.get()
    }

    /// Whether the one begun last is durable; not before the first.
    pub fn is_last_durable(&self) -> bool {
        self.begun.get() > 0 && self.is_durable(self.begun.get())
    }

    /// Whether the checkpoint of this number, or one behind it, is durable.
    pub fn is_durable(&self, number: u64) -> bool {
        number <= self.durable.get()
    }

    /// The one begun last is durable; it began when so many were asked for.
    pub fn written(&self, asked: u64) {
        self.durable.set(self.begun.get());
        self.done.set(self.done.get().max(asked));
        self.written.reach(self.done.get());
    }
}

/// Room that is held in the checkpoints to come; what was not taken returns when it is dropped.
pub struct HeldRoom {
    room: Rc<CheckpointRoom>,
    bytes: usize,
}

impl HeldRoom {
    /// Of no bytes.
    pub(in crate::log) fn none(room: &Rc<CheckpointRoom>) -> Self {
        Self {
            room: room.clone(),
            bytes: 0,
        }
    }

    /// So much of it is for what has come into being.
    ///
    /// # Errors
    /// `DiskFull`: there is less left.
    pub fn take(&mut self, bytes: usize) -> Result<(), StorageError> {
        let rest = self.bytes.checked_sub(bytes);
        self.bytes = rest.ok_or(StorageError::DiskFull)?;
        self.room.take_held(bytes);
        Ok(())
    }

    /// So is all of it.
    pub fn take_all(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.room.take_held(bytes);
    }
}

impl Drop for HeldRoom {
    fn drop(&mut self) {
        self.room.let_go(self.bytes);
    }
}

impl<R: Runtime, L: KnowsProducers> SharedStorage<R, L> {
    pub fn new(
        rt: R,
        options: LogOptions,
        run: RunId,
        journal: Journal<R, Token>,
        logs: Rc<Logs<L>>,
        slots: CheckpointSlots<R>,
    ) -> Self {
        let checkpoint_room = Rc::<CheckpointRoom>::default();
        checkpoint_room.set_room(slots.room_bytes());
        Self {
            slots: RefCell::new(Some(slots)),
            checkpoint_turn: Mutex::new(),
            checkpoint_room,
            files: OpenFiles::new(rt.clone(), options.open_files),
            indexes: IndexCache::new(options.index_bytes),
            damage: Damage::default(),
            names: GroupedSync::default(),
            tail: TailMemory::new(options.tail_bytes),
            producer_memory: ProducerMemory::new(options.producer_bytes),
            completing: Mutex::new(),
            cold_reads: Budget::new(options.cold_reads.max(1)),
            backlog: Backlog::default(),
            unsynced: Unsynced::default(),
            last_entry: Cell::new(None),
            checkpoints: Checkpoints::default(),
            closing: Cell::new(false),
            offline: RefCell::new(None),
            ended: Event::new(),
            logs,
            opened_at: rt.now(),
            rt,
            options,
            run,
            journal,
        }
    }

    /// The time that counts for producers, in milliseconds: it goes on while the node runs.
    pub fn producers_ms(&self) -> i64 {
        let passed = self.rt.now().saturating_sub(self.opened_at).as_millis();
        let passed_ms = i64::try_from(passed).unwrap_or(i64::MAX);
        self.options.producers_ms.saturating_add(passed_ms)
    }

    /// Whether bytes are safe only after a flush of their own.
    pub fn needs_flush(&self) -> bool {
        self.options.durability != Durability::Fsync
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
        self.end_tasks();
    }

    /// The log closes: background tasks end.
    pub fn close(&self) {
        self.closing.set(true);
        self.end_tasks();
    }

    /// Whether background tasks are to end: the directory is offline, or the log closes.
    pub fn is_over(&self) -> bool {
        self.closing.get() || self.offline.borrow().is_some()
    }

    fn end_tasks(&self) {
        self.backlog.wake_all();
        self.tail.look_again();
        self.checkpoints.wanted.notify();
        self.checkpoints.written.release_all();
        self.ended.notify();
    }

    /// The log that stood at a slot, if it is still open.
    pub fn log_at(&self, slot: PartitionSlot) -> Option<Rc<L>> {
        self.logs.borrow().at(slot).cloned()
    }

    /// The log of a partition.
    pub fn log_of(&self, id: PartitionId) -> Option<Rc<L>> {
        let logs = self.logs.borrow();
        logs.get(id).map(|(_, log)| log.clone())
    }

    /// The logs of some slots.
    pub fn logs_in(&self, slots: std::ops::Range<usize>) -> Vec<Rc<L>> {
        self.logs.borrow().values_in(slots).cloned().collect()
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
        permit: &mut JournalPermit<R, Token>,
        entry: Entry<Token>,
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

    /// Holds room for what may be in checkpoints from now on, so that none has to grow on a full disk.
    ///
    /// # Errors
    /// `DiskFull`: there is none, and nothing is held. Any other is final.
    pub async fn hold_checkpoint(&self, bytes: usize) -> Result<HeldRoom, StorageError> {
        if !self.checkpoint_room.hold(bytes) {
            self.grow_checkpoint(bytes).await?;
        }
        Ok(HeldRoom {
            room: self.checkpoint_room.clone(),
            bytes,
        })
    }

    async fn grow_checkpoint(&self, bytes: usize) -> Result<(), StorageError> {
        let _turn = self.checkpoint_turn.lock().await;
        let needed = self.checkpoint_room.needed_bytes() + bytes;
        let mut slots = self.slots.borrow_mut().take().ok_or_else(closed)?;
        let made = slots.make_room(needed).await;
        self.checkpoint_room.set_room(slots.room_bytes());
        self.slots.replace(Some(slots));
        made.map_err(|error| self.failed(error.into()))?;
        match self.checkpoint_room.hold(bytes) {
            true => Ok(()),
            false => Err(StorageError::DiskFull),
        }
    }

    /// Waits until a checkpoint that began after this call is durable.
    ///
    /// # Errors
    /// `Offline`, also when the log is closed and the last one has begun.
    pub async fn checkpointed(&self) -> Result<(), StorageError> {
        let ticket = self.checkpoints.asked.get() + 1;
        self.checkpoints.asked.set(ticket);
        self.checkpoints.wanted.notify();
        while self.checkpoints.done.get() < ticket {
            self.check_online()?;
            if self.closing.get() {
                return Err(closed());
            }
            let latch = Latch::default();
            self.checkpoints.written.join(ticket, &latch);
            latch.wait().await;
        }
        Ok(())
    }
}

pub(super) fn closed() -> StorageError {
    StorageError::Offline("the log is closed".into())
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
