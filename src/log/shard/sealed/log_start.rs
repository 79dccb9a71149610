//! The front of a log: raising its start, and removing segments that lie before it.

use std::io;
use std::rc::Rc;

use crate::log::error::{AppendError, ReadError, StorageError};
use crate::log::files::partition_files::{SegmentFile, SegmentId, segment_path};
use crate::log::journal::{Entry, EventChange, JournalPermit, PartitionEvent, Sequence};
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::partition_log::PartitionLog;
use crate::log::shard::storage::{Journaled, Token};
use crate::model::Offset;
use crate::rt::Runtime;

impl<R: Runtime> PartitionLog<R> {
    /// Raises the log start to `before` (at most the durable offset); durable when it returns.
    /// Returns the log start then; segments wholly below it are removed.
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        self.0.check_usable()?;
        let marks = self.marks();
        if before > marks.durable || before.0 < 0 {
            return Err(ReadError::OutOfRange);
        }
        if before > marks.log_start {
            self.0.journal_log_start(before).await?;
            self.0.remove_segments().await?;
        }
        Ok(self.marks().log_start)
    }

    /// Removes whole segments that `retention.ms` and `retention.bytes` no longer keep; returns
    /// how many. Producers that have been silent for `producer.id.expiration.ms` are forgotten, whatever
    /// `now_ms` says.
    pub async fn enforce_retention(&self, now_ms: i64) -> Result<usize, StorageError> {
        self.0.check_usable()?;
        let producers_ms = self.0.storage.producers_ms();
        let plan = self.0.state.borrow_mut().retain(now_ms, producers_ms);
        self.0.storage.producer_memory.count(&self.0);
        if plan.roll_active {
            self.0.roll_before(plan.log_start_offset, now_ms).await?;
        }
        if plan.log_start_offset > self.marks().log_start {
            self.0.journal_log_start(plan.log_start_offset).await?;
        }
        self.0.remove_segments().await
    }
}

impl<R: Runtime> OpenLog<R> {
    /// Begins a new segment if the active one still ends at `end`.
    pub(in crate::log) async fn roll_before(
        self: &Rc<Self>,
        end: Offset,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        self.check_usable()?;
        if self.state.borrow().marks().log_end != end {
            return Ok(());
        }
        match self.roll(now_ms).await {
            Ok(()) => Ok(()),
            Err(AppendError::Storage(error)) => Err(error),
            Err(_) => Err(StorageError::DiskFull),
        }
    }

    /// The log start is in the journal, safely, when this returns: in two writes, because nothing behind
    /// it would miss it if the only one rotted.
    async fn journal_log_start(self: &Rc<Self>, log_start: Offset) -> Result<(), StorageError> {
        if !holds(Rule::LogStartJournaled) {
            self.state.borrow_mut().raise_log_start(log_start);
            self.marks_changed();
            return Ok(());
        }
        let storage = &self.storage;
        for _ in 0..2 {
            let permit = self.reserve_journal(0).await;
            self.check_usable()?;
            let mut permit = permit?;
            let change = EventChange::LogStart(log_start);
            let event = self.state.borrow_mut().next_event(change);
            let sequence = self.append_event(&mut permit, event);
            storage.journal.wait_completed(sequence).await?;
        }
        if storage.needs_flush() {
            storage.journal.flush().await?;
        }
        Ok(())
    }

    /// Journals an event; gives the write that it goes to.
    pub(super) fn append_event(
        self: &Rc<Self>,
        permit: &mut JournalPermit<R, Token>,
        event: PartitionEvent,
    ) -> Sequence {
        let entry = Entry::Event {
            partition: self.id,
            owner_epoch: self.state.borrow().snapshot().owner_epoch(),
            event: event.clone(),
            token: Token {
                partition: self.slot,
                what: Journaled::Event(event),
            },
        };
        self.storage.append_entry(permit, entry)
    }

    /// Unlinks sealed segments that lie wholly before the log start.
    async fn remove_segments(self: &Rc<Self>) -> Result<usize, StorageError> {
        let _in_use = self.use_files()?;
        let mut removed = 0;
        loop {
            let gone = self.state.borrow_mut().remove_oldest();
            let Some(gone) = gone else {
                return Ok(removed);
            };
            self.remove_files(gone.id()).await?;
            removed += 1;
        }
    }

    /// Removes the files of a segment. A producer snapshot stays where a segment of the log begins.
    pub(super) async fn remove_files(&self, id: SegmentId) -> io::Result<()> {
        let key = (self.id, id);
        self.storage.files.forget(key);
        self.storage.indexes.remove(key);
        for file in SegmentFile::ALL {
            let begins = |facts: &SegmentFacts| facts.base_offset == id.base_offset;
            if file == SegmentFile::Snapshot
                && self.state.borrow().snapshot().segments().any(begins)
            {
                continue;
            }
            let path = segment_path(&self.dir, id, file);
            match self.storage.rt.remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
