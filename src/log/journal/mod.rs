//! The journal: one sequential stream of a shard, in which everything accepted becomes durable.
//!
//! A group of entries goes out as one write into a ring of preallocated files. An acknowledgement
//! waits for the contiguous completed prefix of the writes; what a partition's segment holds
//! durably may be forgotten here by [`Journal::trim`].
//!
//! | file | what |
//! |---|---|
//! | `entry` | what is journaled |
//! | `options` | how it is set up, and where its replay begins |
//! | `error` | why it refuses |
//! | *writing* | |
//! | `state` | what callers and writer share, and every change to it |
//! | `group` | entries gathered into writes |
//! | `ring` | where writes lie, and what is free |
//! | `flushes` | which writes are flushed |
//! | `writer` | the task that writes and flushes, and the one that watches for pauses |
//! | `layout`, `format` | a group to bytes; what the bytes are |
//! | `files` | the files: opened, prepared |
//! | `scan/` | reading back |

mod entry;
mod error;
mod files;
mod flushes;
mod format;
mod group;
mod layout;
mod options;
mod ring;
mod scan;
mod state;
mod writer;

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::vec::Drain;

pub use entry::{
    EVENT_BYTES_MAX, Entry, EventChange, JournalIdentity, PartitionEvent, Pieces, Sequence,
};
pub use error::JournalError;
pub use options::{JournalOptions, JournalStart};
pub use scan::{
    JournalScan, Kept, LostWrites, ScanEnd, ScanError, Scanned, ScannedEntry, ScannedWrite,
    read_write,
};
pub use state::JournalPressure;

use crate::rt::{Event, Runtime, TaskClass};
use state::Shared;

/// The open journal of a shard. Dropping it stops its tasks without a closing record, as a crash
/// would; see [`Journal::close`].
pub struct Journal<R: Runtime, T: 'static> {
    shared: Rc<Shared<R, T>>,
}

impl<R: Runtime, T: 'static> Journal<R, T> {
    /// Makes the files of a journal in `dir`, durably, so that they are there when its run is
    /// committed. What earlier runs have written there stays as it is.
    ///
    /// # Errors
    /// `Open`, with `StorageFull` within when the disk is full.
    pub async fn make_files(
        rt: &R,
        dir: &Path,
        options: &JournalOptions,
    ) -> Result<(), JournalError> {
        files::make(rt, dir, options.clone().checked().geometry()).await
    }

    /// A fresh journal of a fresh, committed run in `dir`, which is created when missing; files of
    /// earlier runs are recycled. Returns once `ready_bytes` are prepared; the rest follows in the
    /// background.
    ///
    /// `on_completed` gets the tokens of each completed write, in the order of writes, and must not
    /// wait. What has completed is as safe as the options' write mode makes it, in the way of the
    /// runtime's durable writes: flushed with the write, or behind it.
    ///
    /// # Errors
    /// `Open`, with `StorageFull` within when the disk lacks room for `ready_bytes`.
    pub async fn create(
        rt: R,
        dir: &Path,
        identity: JournalIdentity,
        options: JournalOptions,
        on_completed: impl Fn(Sequence, Drain<'_, T>) + 'static,
    ) -> Result<Self, JournalError> {
        let options = options.checked();
        let opened = files::open(&rt, dir, &options).await?;
        let shared = Rc::new(Shared::new(
            rt.clone(),
            identity,
            options,
            opened.prepared_bytes,
            Box::new(on_completed),
        ));
        let files = opened.files;
        rt.spawn(
            TaskClass::Background,
            files::prepare(shared.clone(), files.clone()),
        );
        rt.spawn(TaskClass::Foreground, writer::write(shared.clone(), files));
        rt.spawn(TaskClass::Foreground, writer::watch(shared.clone()));
        Ok(Self { shared })
    }

    /// Completes when the ring can take one entry of `payload_bytes`, at worst in writes of its
    /// own. First come, first served. Dropping the permit gives back what was not used.
    ///
    /// # Errors
    /// `DiskFull` while the ring cannot be prepared further, `TooLarge`, `Failed`, `Closed`.
    pub async fn reserve(&self, payload_bytes: usize) -> Result<JournalPermit<R, T>, JournalError> {
        self.reserve_while(payload_bytes, || true).await
    }

    /// The same, as long as the space is wanted; that is asked again behind
    /// [`Journal::wake_waiting`].
    ///
    /// # Errors
    /// `Unwanted` as well.
    pub async fn reserve_while(
        &self,
        payload_bytes: usize,
        is_wanted: impl Fn() -> bool,
    ) -> Result<JournalPermit<R, T>, JournalError> {
        let bytes = self.shared.cost(payload_bytes)?;
        self.shared.take_space(bytes, is_wanted).await?;
        Ok(JournalPermit {
            shared: self.shared.clone(),
            bytes,
        })
    }

    /// Joins the group that is being gathered; the order of calls is the order in the journal.
    /// Never waits. A long entry is divided over several writes at block boundaries of its
    /// segment, and its token comes back with the last. Returns the sequence of that write.
    ///
    /// After a failure or [`Journal::close`] the entry is dropped, with its token.
    pub fn append(&self, permit: &mut JournalPermit<R, T>, entry: Entry<T>) -> Sequence {
        self.shared.append(&mut permit.bytes, entry)
    }

    /// Completes when the write `sequence`, and every earlier one, is as safe as the options' write
    /// mode makes it.
    ///
    /// # Errors
    /// `Failed`, `Closed`.
    pub async fn wait_completed(&self, sequence: Sequence) -> Result<(), JournalError> {
        let shared = &self.shared;
        let look = || shared.completed_or_error(sequence);
        shared.progress_event.wait_until(look).await
    }

    /// Every write below has completed, and has been flushed where the options' write mode promises
    /// that it survives power loss and the write did not see to it by itself.
    pub fn completed_end(&self) -> Sequence {
        Sequence(self.shared.state.borrow().completed_end)
    }

    /// Everything below survives power loss: write-backs to segments go no further. The same as
    /// [`Journal::completed_end`] unless writes are plain; then see [`Journal::flush`].
    pub fn flushed_end(&self) -> Sequence {
        Sequence(self.shared.state.borrow().flushes.flushed_end())
    }

    /// Writes and flushes everything appended so far, and returns [`Journal::flushed_end`].
    ///
    /// # Errors
    /// `Failed`, `Closed`.
    pub async fn flush(&self) -> Result<Sequence, JournalError> {
        let target = self.shared.request_flush();
        let shared = &self.shared;
        let look = || shared.flushed_or_error(target);
        shared.progress_event.wait_until(look).await
    }

    /// Writes below `start` may be overwritten: the caller has a durable checkpoint that names
    /// `start`. Never reaches beyond [`Journal::completed_end`].
    pub fn trim(&self, start: Sequence) {
        self.shared.trim(start);
    }

    /// What a checkpoint must say so that replay can begin at `sequence`: one that is not trimmed,
    /// at most [`Journal::completed_end`] (anything later counts as that).
    pub fn position_of(&self, sequence: Sequence) -> JournalStart {
        self.shared.position_of(sequence)
    }

    /// Whoever waits for space looks whether it is still wanted.
    pub fn wake_waiting(&self) {
        self.shared.wake_waiting();
    }

    /// Whether the disk has no room for what would let space be given back. While that is so, whoever
    /// finds none gets `DiskFull` instead of waiting.
    pub fn set_stuck(&self, stuck: bool) {
        self.shared.set_stuck(stuck);
    }

    /// Ends the journal as a failed write of its own does: nothing is written any more, and whoever
    /// waits for space or for a write gets the error.
    pub fn fail(&self, reason: &str) {
        self.shared.fail(io::Error::other(reason.to_owned()));
    }

    /// How full the journal is.
    pub fn pressure(&self) -> JournalPressure {
        self.shared.pressure()
    }

    /// Has [`Journal::pressed`] be notified, too, once so many bytes were written in all.
    pub fn tell_from(&self, written_bytes: u64) {
        self.shared.tell_from_bytes.set(written_bytes);
    }

    /// Notified when [`JournalPressure::is_pressed`] may have become true.
    pub fn pressed(&self) -> &Event {
        &self.shared.pressed_event
    }

    /// Notified when [`Journal::completed_end`] moves and when the journal fails.
    pub fn progressed(&self) -> &Event {
        &self.shared.progress_event
    }

    /// The write error after which nothing is acknowledged any more.
    pub fn failure(&self) -> Option<JournalError> {
        self.shared.state.borrow().failure.clone()
    }

    /// Writes out what was appended, then a record that everything before it was flushed (that the
    /// stop was clean, when `clean`), and lets go of the files.
    ///
    /// # Errors
    /// `Failed`: then the record is missing.
    pub async fn close(&self, clean: bool) -> Result<(), JournalError> {
        self.shared.request_close(clean);
        let shared = &self.shared;
        let look = || shared.has_stopped().then_some(());
        shared.progress_event.wait_until(look).await;
        match self.failure() {
            Some(failure @ JournalError::Failed(_)) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl<R: Runtime, T: 'static> Drop for Journal<R, T> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Journal space that is promised to its holder.
pub struct JournalPermit<R: Runtime, T: 'static> {
    shared: Rc<Shared<R, T>>,
    bytes: u64,
}

impl<R: Runtime, T: 'static> Drop for JournalPermit<R, T> {
    fn drop(&mut self) {
        self.shared.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests;
