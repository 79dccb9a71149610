//! What the handles of one partition's log share: its state, and who works on its files.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::files::partition_dirs::{put_aside_unknown_dir, remove_tree, sync_mark, topic_of};
use crate::log::files::partition_files::{
    PARTITION_METADATA, SegmentFile, SegmentId, encode_partition_metadata, segment_path,
};
use crate::log::files::small_file::sync_names;
use crate::log::journal::{JournalError, JournalPermit, Sequence};
use crate::log::partition::marks::Marks;
use crate::log::partition::producers::{KnowsProducers, ProducerAccount, ProducerStates};
use crate::log::partition::state::State;
use crate::log::partition::write_back_plan::Urgency;
use crate::log::shard::storage::{Journaled, Logs, SharedStorage, Token};
use crate::model::{Offset, PartitionId, PartitionSlot, ProducerId};
use crate::rt::{
    BLOCK_BYTES, Buf, Create, Event, File, Latch, MarkQueue, Mutex, OpenMode, Runtime, WriteMode,
};

/// Whoever is told of what happens to a partition's log, in the same step, so that nobody sees the one
/// and not the other.
pub trait LogWatcher {
    /// A mark has moved. An error says what is wrong with them, and takes the partition offline.
    fn marks_moved(&self, marks: &Marks) -> Result<(), String>;
    /// The log cannot be used any more: the partition or the directory is offline, or it was deleted.
    fn failed(&self);
}

/// What the logs of a shard share.
pub type ShardStorage<R> = SharedStorage<R, OpenLog<R>>;

/// The logs that are open on a shard.
pub type OpenLogs<R> = Logs<OpenLog<R>>;

/// What the clones of a [`PartitionLog`](super::partition_log::PartitionLog) share.
pub struct OpenLog<R: Runtime> {
    pub storage: Rc<ShardStorage<R>>,
    pub id: PartitionId,
    /// Where it stands in [`SharedStorage::logs`].
    pub slot: PartitionSlot,
    pub topic: String,
    pub dir: PathBuf,
    /// One append at a time, in the order of asking.
    pub turn: Mutex,
    /// One rewrite of segments at a time.
    pub rewrite_turn: Mutex,
    /// One raise of the log start at a time, until what lies before it is removed.
    pub log_start_turn: Mutex,
    /// The log start that no crash takes back.
    pub safe_log_start: Cell<Offset>,
    /// Who waits for the durable offset.
    pub durable: MarkQueue<Offset>,
    pub producer_account: ProducerAccount,
    pub watcher: RefCell<Option<Rc<dyn LogWatcher>>>,
    /// Borrowed for a moment at a time, never across an await.
    pub state: RefCell<State>,
    pub work: Work,
    pub dir_is: Cell<DirIs>,
    /// One at a time makes the directory durable: once one has, its first segment may be sealed and
    /// removed, and another would look for it.
    pub dir_turn: Mutex,
}

/// What a partition has of a directory.
///
/// It is made by the first append, without a sync: until something is written back, the journal has
/// all that is in it, and a start makes it again from there. The first write-back makes it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirIs {
    /// Nothing was appended yet.
    Unmade,
    /// A power cut may take it.
    Written,
    /// It outlives a power cut.
    Durable,
}

/// Who works on a partition's files, and where it stands in the lists of its shard.
#[derive(Default)]
pub struct Work {
    /// Write-backs under way.
    pub write_backs: Cell<usize>,
    /// Whoever else works on its files, by their path.
    pub users: FileUsers,
    /// The write-back that it is in the queue for.
    pub wanted: Cell<Option<Urgency>>,
    /// The number of the checkpoint that was begun last with the partition in it, and what it says of
    /// where the sealed segments end.
    pub sealed_in: Cell<(u64, Offset)>,
    /// The change of its state up to which the last checkpoint has it; 0 before the first.
    pub said: Cell<u64>,
    /// Its place in the backlog.
    pub listed: Cell<Option<Sequence>>,
    /// Notified when nobody works on the files of a partition that cannot be used.
    pub idle: Event,
}

impl Work {
    /// Nobody works on the files.
    pub fn is_idle(&self) -> bool {
        self.write_backs.get() == 0 && self.users.is_empty()
    }
}

/// Who works on the files of a partition, by how many swaps of segments there had been when they began:
/// they may still want the segments of then.
///
/// An example. Two read, and segments are swapped: that is swap 1, and until both have ended, somebody is
/// before it. Who begins to read meanwhile is not.
#[derive(Debug, Default)]
pub struct FileUsers {
    swaps: Cell<u64>,
    counts: RefCell<BTreeMap<u64, usize>>,
}

impl FileUsers {
    /// Nobody does.
    pub fn is_empty(&self) -> bool {
        self.counts.borrow().is_empty()
    }

    /// How many swaps there have been.
    pub fn swap_count(&self) -> u64 {
        self.swaps.get()
    }

    /// Segments were swapped; gives the number of that.
    pub fn swapped(&self) -> u64 {
        self.swaps.set(self.swaps.get() + 1);
        self.swaps.get()
    }

    /// Whether somebody is left who began before a swap.
    pub fn any_before(&self, swap: u64) -> bool {
        let counts = self.counts.borrow();
        counts
            .first_key_value()
            .is_some_and(|(began, _)| *began < swap)
    }

    fn begin(&self) -> u64 {
        let began = self.swaps.get();
        *self.counts.borrow_mut().entry(began).or_default() += 1;
        began
    }

    fn end(&self, began: u64) {
        let mut counts = self.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&began);
            }
        }
    }
}

/// Somebody works on the partition's files: a deletion, after which their paths may be another
/// topic's, and the removal of segments that others have replaced wait until this is dropped.
pub struct InUse<R: Runtime> {
    log: Rc<OpenLog<R>>,
    began: u64,
}

impl<R: Runtime> Drop for InUse<R> {
    fn drop(&mut self) {
        self.log.work.users.end(self.began);
        self.log.tell_if_idle();
    }
}

impl<R: Runtime> KnowsProducers for OpenLog<R> {
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

impl<R: Runtime> OpenLog<R> {
    /// Nobody works on the partition's files any more when this completes; it must be deleted.
    pub async fn wait_idle(&self) {
        let look = || self.work.is_idle().then_some(());
        self.work.idle.wait_until(look).await;
    }

    /// Somebody has ended to work on its files.
    pub fn tell_if_idle(&self) {
        if self.work.is_idle() && !self.state.borrow().is_usable() {
            self.work.idle.notify();
        }
    }

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
        Some(InUse {
            began: self.work.users.begin(),
            log: self.clone(),
        })
    }

    /// Fails when the partition or the whole directory cannot be used.
    pub fn check_usable(&self) -> Result<(), StorageError> {
        self.state.borrow().check_usable()?;
        self.storage.check_online()
    }

    /// Completes when everything below `end_offset` is as safe as the durability level promises.
    pub async fn wait_durable(&self, end_offset: Offset) -> Result<(), StorageError> {
        loop {
            self.check_usable()?;
            if self.state.borrow().marks().durable >= end_offset {
                return Ok(());
            }
            let latch = Latch::default();
            self.durable.join(end_offset, &latch);
            latch.wait().await;
        }
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
            }
        }
    }

    /// It cannot be used any more: nobody waits for its marks, or for room to append to it.
    pub fn tell_failed(&self) {
        self.durable.release_all();
        self.storage.journal.wake_waiting();
        self.storage.tail.look_again();
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
            state.write_back_bytes() >= self.storage.options.write_back_bytes
        };
        if self.storage.backlog.is_wanted(self.work.listed.get()) {
            self.request_write_back(Urgency::Everything);
        } else if is_due {
            self.request_write_back(Urgency::Blocks);
        }
        self.marks_changed();
    }

    /// Space in the journal, for as long as the partition can be used.
    pub async fn reserve_journal(
        &self,
        bytes: usize,
    ) -> Result<JournalPermit<R, Token>, JournalError> {
        let journal = &self.storage.journal;
        let is_wanted = || self.state.borrow().is_usable();
        journal.reserve_while(bytes, is_wanted).await
    }

    /// Puts the partition in the queue for write-backs, or makes its place there more urgent.
    pub fn request_write_back(self: &Rc<Self>, urgency: Urgency) {
        if !self.state.borrow().is_usable() {
            return;
        }
        let before = self.work.wanted.get();
        self.work.wanted.set(before.max(Some(urgency)));
        if before.is_none() {
            self.storage.backlog.push(self.slot);
        }
    }

    /// Lists the chunks whose last bytes are written back as such that may be given up.
    pub fn release_chunks(&self) {
        let released = self.state.borrow_mut().release_chunks();
        self.storage.tail.release(self.slot, released);
    }

    /// Lists the partition by what only the journal has of it, if anything.
    pub fn list_waiting(&self) {
        let first = {
            let state = self.state.borrow();
            state.needs_journal_from().filter(|_| state.is_usable())
        };
        let listed = self.work.listed.replace(first);
        if listed != first {
            let backlog = &self.storage.backlog;
            backlog.relist(self.id, self.slot, listed, first);
        }
    }
}

impl<R: Runtime> OpenLog<R> {
    /// Makes the directory of a partition that is appended to for the first time: what says whose it
    /// is, and an empty segment.
    pub async fn make_dir(&self) -> Result<(), StorageError> {
        if self.dir_is.get() != DirIs::Unmade {
            return Ok(());
        }
        let (storage, id) = (&self.storage, self.id);
        match self.make_fresh().await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // What an attempt that was cut short has left, or a topic that was deleted.
                let data_dir = &storage.options.data_dir;
                let owner = topic_of(&storage.rt, &self.dir).await?;
                put_aside_unknown_dir(&storage.rt, data_dir, &self.topic, id, owner).await?;
                self.refuse_records().await?;
                remove_tree(&storage.rt, &self.dir).await?;
                self.make_fresh().await?;
            }
            made => made?,
        }
        self.dir_is.set(DirIs::Written);
        storage.unsynced.add_dir(self.slot);
        Ok(())
    }

    async fn make_fresh(&self) -> io::Result<()> {
        let (storage, dir) = (&self.storage, &self.dir);
        let mode = OpenMode {
            direct: false,
            create: Create::New,
        };
        storage.rt.create_dir(dir).await?;
        let mark = storage.rt.open(&dir.join(PARTITION_METADATA), mode).await?;
        let text = encode_partition_metadata(self.id.topic).into_bytes();
        let bufs = vec![Buf::from_vec(text)];
        mark.write_at(bufs, 0, WriteMode::Plain).await?;
        storage
            .files
            .begin((self.id, SegmentId::default()), dir)
            .await
    }

    /// Records that are there were recovered, and their owner has them: whoever begins a log must not
    /// empty its file. Room that an attempt has reserved is all zeros.
    async fn refuse_records(&self) -> Result<(), StorageError> {
        let path = segment_path(&self.dir, SegmentId::default(), SegmentFile::Log);
        let file = match self.storage.rt.open(&path, OpenMode::BUFFERED).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let buf = self.storage.rt.arena().alloc(BLOCK_BYTES);
        let buf = buf.map_err(io::Error::other)?;
        let (read, block) = file.read_at(buf, 0, BLOCK_BYTES).await;
        read?;
        match block.iter().any(|byte| *byte != 0) {
            true => {
                let dir = self.dir.display();
                let why = format!("{dir} has records; it is not created again");
                Err(StorageError::Conflict(why))
            }
            false => Ok(()),
        }
    }

    /// Makes durable what the first append has made, before a segment has what the journal then
    /// forgets. Waits for room, and for descriptors.
    ///
    /// # Errors
    /// `Offline` when a sync has failed; what the file system gives.
    pub async fn make_dir_durable(self: &Rc<Self>) -> Result<(), StorageError> {
        const RETRY: Duration = Duration::from_millis(100);
        if self.dir_is.get() != DirIs::Written {
            return Ok(());
        }
        let _turn = self.dir_turn.lock().await;
        while self.dir_is.get() == DirIs::Written {
            let Some(_in_use) = self.keep_files() else {
                return Ok(());
            };
            match self.sync_dir().await {
                Err(StorageError::DiskFull | StorageError::OpenRefused(_)) => {
                    self.storage.check_online()?;
                    self.storage.rt.sleep(RETRY).await;
                }
                synced => {
                    synced?;
                    self.dir_is.set(DirIs::Durable);
                }
            }
        }
        Ok(())
    }

    async fn sync_dir(&self) -> Result<(), StorageError> {
        let (storage, dir) = (&self.storage, &self.dir);
        let synced = sync_mark(&storage.rt, dir).await;
        synced.map_err(|error| StorageError::of_sync(&dir.join(PARTITION_METADATA), error))?;
        let file = storage
            .files
            .get((self.id, SegmentId::default()), dir)
            .await?;
        let synced = file.sync().await;
        synced.map_err(|error| StorageError::Offline(format!("{}: {error}", dir.display())))?;
        sync_names(&storage.rt, dir).await?;
        storage
            .names
            .sync(&storage.rt, &storage.options.data_dir)
            .await
    }
}

/// What the journal does with the tokens of a completed write: each partition that still exists
/// moves its marks and wakes whoever waits for them.
pub fn hand_back<R: Runtime>(logs: &OpenLogs<R>, tokens: impl Iterator<Item = Token>) {
    let mut storage = None;
    for token in tokens {
        let log = logs.borrow().at(token.partition).cloned();
        if let Some(log) = log {
            log.on_completed(token.what);
            storage.get_or_insert_with(|| log.storage.clone());
        }
    }
    if let Some(storage) = storage {
        storage.tail.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example at the type.
    #[test]
    fn users_before_a_swap() {
        let users = FileUsers::default();
        let (one, other) = (users.begin(), users.begin());
        assert_eq!((one, users.swapped()), (0, 1));
        assert!(users.any_before(1));
        users.end(one);
        let later = users.begin();
        assert!(users.any_before(1));
        users.end(other);
        assert!(!users.any_before(1) && !users.is_empty());
        assert_eq!((later, users.swapped()), (1, 2));
        assert!(users.any_before(2));
        users.end(later);
        assert!(!users.any_before(2) && users.is_empty());
    }
}
