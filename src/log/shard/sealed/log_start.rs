//! The front of a log: raising its start, and removing segments that lie before it.

use std::io;
use std::rc::Rc;

use crate::log::error::{ReadError, StorageError};
use crate::log::files::partition_files::{SegmentFile, SegmentId, segment_path};
use crate::log::journal::{Entry, EventChange, JournalPermit, PartitionEvent, Sequence};
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::storage::{Journaled, Token};
use crate::model::Offset;
use crate::rt::Runtime;

/// Raises the log start to `before` (at most the durable offset); durable when it returns.
/// Returns the log start then; segments wholly below it are removed.
pub async fn delete_records<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    before: Offset,
) -> Result<Offset, ReadError> {
    log.check_usable()?;
    let marks = log.state.borrow().marks();
    if before > marks.durable || before.0 < 0 {
        return Err(ReadError::OutOfRange);
    }
    raise_log_start(log, before).await?;
    Ok(log.state.borrow().marks().log_start)
}

/// Removes whole segments that `retention.ms` and `retention.bytes` no longer keep; returns
/// how many. Producers that have been silent for `producer.id.expiration.ms` are forgotten, whatever
/// `now_ms` says.
pub async fn enforce_retention<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    now_ms: i64,
) -> Result<usize, StorageError> {
    log.check_usable()?;
    let producers_ms = log.storage.producers_ms();
    let plan = log.state.borrow_mut().retain(now_ms, producers_ms);
    log.storage.producer_memory.count(log);
    if plan.roll_active {
        log.roll_before(plan.log_start_offset, now_ms).await?;
    }
    raise_log_start(log, plan.log_start_offset).await
}

/// The log starts at `to` or behind, safely, when this returns, and the segments that lie before it are
/// removed; tells how many.
///
/// An example, below level `fsync`. DeleteRecords to 40 is in the journal, so that the log starts there, and
/// waits for the flush. Retention comes by and finds nothing to raise, but a segment that ends at 40. Were it
/// unlinked now, a power cut that takes the journal's write and not the unlink would leave a log that starts
/// at 0 without that segment. So one at a time raises and removes, and what somebody has raised who went
/// away before it was safe is written again.
async fn raise_log_start<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    to: Offset,
) -> Result<usize, StorageError> {
    let _turn = log.log_start_turn.lock().await;
    let to = to.max(log.state.borrow().marks().log_start);
    if to > log.safe_log_start.get() {
        journal_log_start(log, to).await?;
        log.safe_log_start.set(to);
    }
    remove_segments(log).await
}

/// The log start is in the journal, safely, when this returns: in two writes, because nothing behind
/// it would miss it if the only one rotted.
async fn journal_log_start<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    log_start: Offset,
) -> Result<(), StorageError> {
    if !holds(Rule::LogStartJournaled) {
        log.state.borrow_mut().raise_log_start(log_start);
        log.marks_changed();
        return Ok(());
    }
    let storage = &log.storage;
    for _ in 0..2 {
        let permit = log.reserve_journal(0).await;
        log.check_usable()?;
        let mut permit = permit?;
        let change = EventChange::LogStart(log_start);
        let event = log.state.borrow_mut().next_event(change);
        let sequence = append_event(log, &mut permit, event);
        storage.journal.wait_completed(sequence).await?;
    }
    if storage.needs_flush() {
        storage.journal.flush().await?;
    }
    Ok(())
}

/// Journals an event; gives the write that it goes to.
pub(super) fn append_event<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    permit: &mut JournalPermit<R, Token>,
    event: PartitionEvent,
) -> Sequence {
    let entry = Entry::Event {
        partition: log.id,
        owner_epoch: log.state.borrow().snapshot().owner_epoch(),
        event: event.clone(),
        token: Token {
            partition: log.slot,
            what: Journaled::Event(event),
        },
    };
    log.storage.append_entry(permit, entry)
}

/// Unlinks sealed segments that lie wholly before the log start.
async fn remove_segments<R: Runtime>(log: &Rc<OpenLog<R>>) -> Result<usize, StorageError> {
    let _in_use = log.use_files()?;
    let mut removed = 0;
    loop {
        let gone = log.state.borrow_mut().remove_oldest();
        let Some(gone) = gone else {
            return Ok(removed);
        };
        remove_files(log, gone.id()).await?;
        removed += 1;
    }
}

/// Removes the files of a segment. A producer snapshot stays where a segment of the log begins.
pub(super) async fn remove_files<R: Runtime>(log: &OpenLog<R>, id: SegmentId) -> io::Result<()> {
    let key = (log.id, id);
    log.storage.files.forget(key);
    log.storage.indexes.remove(key);
    for file in SegmentFile::ALL {
        let begins = |facts: &SegmentFacts| facts.base_offset == id.base_offset;
        if file == SegmentFile::Snapshot && log.state.borrow().snapshot().segments().any(begins) {
            continue;
        }
        let path = segment_path(&log.dir, id, file);
        match log.storage.rt.remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
