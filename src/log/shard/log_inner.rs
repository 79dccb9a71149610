//! What the handles of one partition's log share: its state, and who works on its files.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::log::error::StorageError;
use crate::log::journal::{JournalError, JournalPermit, Sequence};
use crate::log::partition::marks::Marks;
use crate::log::partition::move_plan::Urgency;
use crate::log::partition::producers::{KnowsProducers, ProducerAccount, ProducerStates};
use crate::log::partition::state::State;
use crate::log::shard::core::{Core, Journaled, Token};
use crate::model::{Offset, PartitionId, ProducerId};
use crate::rt::{Budget, MarkQueue, Runtime};

/// Whoever is told of what happens to a partition's log, in the same step, so that nobody sees the one
/// and not the other.
pub trait LogWatcher {
    /// A mark has moved. An error says what is wrong with them, and takes the partition offline.
    fn marks_moved(&self, marks: &Marks) -> Result<(), String>;
    /// The log cannot be used any more: the partition or the directory is offline, or it was deleted.
    fn failed(&self);
}

/// What the clones of a [`PartitionLog`](super::partition_log::PartitionLog) share.
pub struct LogInner<R: Runtime> {
    pub core: Rc<Core<R>>,
    pub id: PartitionId,
    pub topic: String,
    pub dir: PathBuf,
    /// One append at a time, in the order of asking.
    pub turn: Budget,
    /// Who waits for the durable offset.
    pub durable: MarkQueue<Offset>,
    pub producer_account: ProducerAccount,
    pub watcher: RefCell<Option<Rc<dyn LogWatcher>>>,
    /// Borrowed for a moment at a time, never across an await.
    pub state: RefCell<State>,
    pub work: Work,
}

/// Who works on a partition's files, and where it stands in the lists of its shard.
#[derive(Default)]
pub struct Work {
    /// Write-backs under way.
    pub write_backs: Cell<usize>,
    /// Whoever else works on its files, by their path.
    users: Cell<usize>,
    /// The write-back that it is in the queue for.
    pub wanted: Cell<Option<Urgency>>,
    /// Its place in [`Core::waiting`].
    pub listed: Cell<Option<Sequence>>,
}

impl Work {
    /// Nobody works on the files.
    pub fn is_idle(&self) -> bool {
        self.write_backs.get() + self.users.get() == 0
    }
}

/// Somebody works on the partition's files: a deletion, after which their paths may be another
/// topic's, waits until this is dropped.
pub struct InUse<R: Runtime>(Rc<LogInner<R>>);

impl<R: Runtime> Drop for InUse<R> {
    fn drop(&mut self) {
        let users = &self.0.work.users;
        users.set(users.get() - 1);
        if !self.0.state.borrow().is_usable() {
            self.0.core.tell_progress();
        }
    }
}

impl<R: Runtime> KnowsProducers for LogInner<R> {
    fn with_producers<T>(&self, look: impl FnOnce(&ProducerStates) -> T) -> T {
        look(self.state.borrow().snapshot().producers())
    }

    fn forget_producer(&self, producer: ProducerId) {
        self.state.borrow_mut().forget_producer(producer);
    }

    fn account(&self) -> &ProducerAccount {
        &self.producer_account
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
        if self.state.borrow().is_deleted() {
            return None;
        }
        let users = &self.work.users;
        users.set(users.get() + 1);
        Some(InUse(self.clone()))
    }

    /// Fails when the partition or the whole directory cannot be used.
    pub fn check_usable(&self) -> Result<(), StorageError> {
        self.state.borrow().check_usable()?;
        self.core.check_online()
    }

    /// Marks were changed: whoever waits for them goes on. Where they are out of order, here or in the
    /// partition above, the partition cannot be used any more.
    pub fn marks_changed(self: &Rc<Self>) {
        let (marks, is_usable) = {
            let state = self.state.borrow();
            (state.marks(), state.is_usable())
        };
        let watcher = self.watcher.borrow().clone();
        let told = match watcher {
            Some(watcher) if is_usable => watcher.marks_moved(&marks),
            _ => Ok(()),
        };
        if let Err(why) = &told {
            self.state.borrow_mut().take_offline(why.clone());
        }
        match is_usable && told.is_ok() {
            true => self.durable.reach(marks.durable),
            false => {
                self.list_waiting();
                self.tell_failed();
                self.core.tell_progress();
            }
        }
    }

    /// It cannot be used any more: nobody waits for its marks, or for room to append to it.
    pub fn tell_failed(&self) {
        self.durable.release_all();
        self.core.journal.wake_waiting();
        let watcher = self.watcher.borrow().clone();
        if let Some(watcher) = watcher {
            watcher.failed();
        }
    }

    /// An entry is in completed journal writes.
    pub fn on_completed(self: &Rc<Self>, what: Journaled) {
        let is_due = {
            let mut state = self.state.borrow_mut();
            match what {
                Journaled::Data(end) => state.completed(end),
                Journaled::Event(event) => state.apply_event(&event),
            }
            state.write_back_bytes() >= self.core.options.move_bytes
        };
        if is_due {
            self.request_move(Urgency::Blocks);
        }
        self.marks_changed();
        self.core.tell_progress();
    }

    /// Space in the journal, for as long as the partition can be used.
    pub async fn reserve_journal(
        &self,
        bytes: usize,
    ) -> Result<JournalPermit<R, Token<R>>, JournalError> {
        let journal = &self.core.journal;
        let is_wanted = || self.state.borrow().is_usable();
        journal.reserve_while(bytes, is_wanted).await
    }

    /// Puts the partition in the queue for write-backs, or makes its place there more urgent.
    pub fn request_move(self: &Rc<Self>, urgency: Urgency) {
        if !self.state.borrow().is_usable() {
            return;
        }
        let before = self.work.wanted.get();
        self.work.wanted.set(before.max(Some(urgency)));
        if before.is_none() {
            let entry: Weak<Self> = Rc::downgrade(self);
            self.core.move_queue.borrow_mut().push_back(entry);
            self.core.move_wanted.notify();
        }
    }
}
