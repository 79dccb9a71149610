//! Checkpoints: what lets the journal forget, and what recovery begins from.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::{CheckpointError, CheckpointSlots};
use crate::log::files::run::RunId;
use crate::log::journal::Sequence;
use crate::log::partition::checkpoint_content::ContentWriter;
use crate::log::rules::{Rule, holds};
use crate::log::segment::index_files::IndexTail;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::open_log::ShardStorage;
use crate::log::shard::storage::closed;
use crate::log::shard::write_back::barrier::make_segments_durable;
use crate::log::shard::write_back::write_back_below;
use crate::rt::{File, Runtime, is_flush_failed};

/// Index entries that are worth a sync of their own, so that little is walked after power loss.
const SYNCED_INDEX_ENTRIES: usize = 4096;

/// Index entries for so much of a segment are worth to be written at a checkpoint. What the files lack is
/// read through where a lookup ends; a few entries for each of ten thousand partitions would be twenty
/// thousand files to open.
const GROWN_BYTES: u64 = 512 << 10;

/// Writes a checkpoint whenever the journal has grown enough, is short of space, or one is asked
/// for; ends when the log closes or goes offline.
pub async fn run_checkpointer<R: Runtime>(storage: Rc<ShardStorage<R>>) {
    let mut last = Last::default();
    while let Due::Now { frees } = wait_due(&storage, last).await {
        let completed_end = storage.journal.completed_end();
        let result = match frees {
            true => free_journal(&storage).await,
            false => write_checkpoint(&storage, 0).await,
        };
        match result {
            Ok(()) => {
                storage.journal.set_stuck(false);
                last.written_bytes = storage.journal.pressure().written_bytes;
                if frees {
                    last.freed_end = completed_end;
                }
            }
            Err(error @ (StorageError::DiskFull | StorageError::OpenRefused(_))) => {
                storage.journal.set_stuck(error == StorageError::DiskFull);
                storage.rt.sleep(REFUSED_RETRY).await;
            }
            Err(error) => storage.take_offline(&error.to_string()),
        }
    }
}

/// How long a checkpoint that found no room, or no descriptor, waits before it is tried again.
const REFUSED_RETRY: Duration = Duration::from_millis(500);

/// When a checkpoint was made last.
#[derive(Clone, Copy, Default)]
struct Last {
    /// What the journal had written then.
    written_bytes: u64,
    /// Everything below was let go when journal space was last freed: no more can be before another
    /// write has completed.
    ///
    /// Taken when the freeing begins. An example: the journal has no room, and is freed below 40, which
    /// takes a while; meanwhile 40 to 60 complete and take all of it again. That is another reason to
    /// free it. Were they taken for a part of what was freed, everyone would wait for room that nothing
    /// gives back.
    freed_end: Sequence,
}

enum Due {
    Now { frees: bool },
    Never,
}

async fn wait_due<R: Runtime>(storage: &ShardStorage<R>, last: Last) -> Due {
    let next_bytes = last.written_bytes + storage.options.checkpoint_bytes;
    storage.journal.tell_from(next_bytes);
    let wanted = &storage.checkpoints.wanted;
    let on_wanted = pin!(wanted.wait_until(|| due(storage, last)));
    let on_pressure = pin!(storage.journal.pressed().wait_until(|| due(storage, last)));
    select(on_wanted, on_pressure).await.factor_first().0
}

fn due<R: Runtime>(storage: &ShardStorage<R>, last: Last) -> Option<Due> {
    if storage.is_over() {
        return Some(Due::Never);
    }
    let pressure = storage.journal.pressure();
    let grown_bytes = pressure.written_bytes - last.written_bytes;
    let has_grown = grown_bytes >= storage.options.checkpoint_bytes;
    let is_pressed = pressure.is_pressed() && storage.journal.completed_end() > last.freed_end;
    if has_grown || is_pressed {
        return Some(Due::Now { frees: true });
    }
    let is_asked = storage.checkpoints.is_asked();
    is_asked.then_some(Due::Now { frees: false })
}

/// Writes back what the journal holds now, then writes a checkpoint and lets the journal go so far.
pub async fn free_journal<R: Runtime>(storage: &Rc<ShardStorage<R>>) -> Result<(), StorageError> {
    write_back_below(storage, storage.journal.completed_end()).await?;
    write_checkpoint(storage, GROWN_BYTES).await
}

/// Writes a checkpoint of this moment; durable when it returns. Index files grow where that is worth it:
/// by entries for so many bytes.
pub async fn write_checkpoint<R: Runtime>(
    storage: &ShardStorage<R>,
    grown_bytes: u64,
) -> Result<(), StorageError> {
    let _turn = storage.checkpoint_turn.lock().await;
    let asked = storage.checkpoints.asked();
    let (content, start) = capture(storage).await?;
    // What it describes must be in the journal before it may be told.
    wait_last_entry(storage).await?;
    if holds(Rule::WriteBacksDurableFirst) {
        make_segments_durable(storage).await?;
    }
    grow_indexes(storage, grown_bytes).await?;
    let mut slots = storage.slots.borrow_mut().take().ok_or_else(closed)?;
    let written = write(&mut slots, storage.run, &content).await;
    storage.checkpoint_room.set_room(slots.room_bytes());
    storage.slots.replace(Some(slots));
    written?;
    storage.journal.trim(start);
    storage.checkpoints.written(asked);
    Ok(())
}

/// Partitions that are looked at without letting others run: far less than a millisecond.
const SLICE_PARTITIONS: usize = 256;
/// Bytes that are encoded without letting others run.
const SLICE_BYTES: usize = 64 << 10;

/// Which partitions a checkpoint says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// Those that are no longer as the last one has them.
    Changed,
}

/// What a checkpoint is to say.
struct CheckpointPart {
    scope: Scope,
    bytes: Vec<u8>,
}

/// Everything where much has changed, otherwise that alone.
async fn capture<R: Runtime>(
    storage: &ShardStorage<R>,
) -> Result<(CheckpointPart, Sequence), StorageError> {
    // What the last one had was not written otherwise.
    let most_bytes = match storage.checkpoints.is_last_durable() {
        true => storage
            .slots
            .borrow()
            .as_ref()
            .ok_or_else(closed)?
            .change_bytes(storage.run),
        false => 0,
    };
    let number = storage.checkpoints.begin();
    if most_changed(storage, most_bytes).await <= most_bytes {
        let (bytes, start) = capture_slices(storage, number, Scope::Changed).await;
        // More may have changed meanwhile.
        if bytes.len() <= most_bytes {
            let scope = Scope::Changed;
            return Ok((CheckpointPart { scope, bytes }, start));
        }
    }
    let scope = Scope::All;
    let (bytes, start) = capture_slices(storage, number, scope).await;
    Ok((CheckpointPart { scope, bytes }, start))
}

async fn write<R: Runtime>(
    slots: &mut CheckpointSlots<R>,
    run: RunId,
    part: &CheckpointPart,
) -> Result<(), CheckpointError> {
    match part.scope {
        Scope::All => slots.write_next(Some(run), run, &part.bytes).await,
        Scope::Changed => slots.write_changes(run, &part.bytes).await,
    }
    .map(|_| ())
}

/// What is no longer as the last checkpoint has it takes so many bytes at most; more than `enough` is not
/// counted to the end.
async fn most_changed<R: Runtime>(storage: &ShardStorage<R>, enough: usize) -> usize {
    let mut most_bytes = ContentWriter::EMPTY_BYTES;
    let slots = storage.logs.borrow().slot_count();
    for from in (0..slots).step_by(SLICE_PARTITIONS) {
        if most_bytes > enough {
            break;
        }
        for partition in storage.logs_in(from..from + SLICE_PARTITIONS) {
            let state = partition.state.borrow();
            if partition.work.said.get() != state.snapshot().changes() {
                most_bytes += state.snapshot().most_bytes();
            }
        }
        storage.rt.yield_now().await;
    }
    most_bytes
}

/// Taken in slices: each partition's part is of one moment, those of others may be of another. What the
/// journal must keep is looked up before the first, as it only becomes less.
async fn capture_slices<R: Runtime>(
    storage: &ShardStorage<R>,
    number: u64,
    scope: Scope,
) -> (Vec<u8>, Sequence) {
    let mut start = storage.journal.completed_end();
    if holds(Rule::TrimKeepsUnwritten)
        && let Some(oldest) = storage.backlog.oldest()
    {
        start = start.min(oldest);
    }
    storage.checkpoint_room.begin();
    let capacity = match scope {
        Scope::All => storage.checkpoint_room.needed_bytes(),
        Scope::Changed => ContentWriter::EMPTY_BYTES,
    };
    let mut content = ContentWriter::new(&storage.journal.position_of(start), capacity);
    let (mut most_bytes, mut slice_bytes) = (0, 0);
    // Who comes later is in the journal behind the start.
    let slots = storage.logs.borrow().slot_count();
    for from in (0..slots).step_by(SLICE_PARTITIONS) {
        for partition in storage.logs_in(from..from + SLICE_PARTITIONS) {
            if slice_bytes > SLICE_BYTES {
                slice_bytes = 0;
                storage.rt.yield_now().await;
            }
            let state = partition.state.borrow();
            if state.is_deleted() {
                continue;
            }
            let changes = state.snapshot().changes();
            if partition.work.said.replace(changes) != changes || scope == Scope::All {
                slice_bytes += content.push(state.snapshot());
            }
            let sealed_end = state.snapshot().sealed_end();
            partition.work.sealed_in.set((number, sealed_end));
            most_bytes += state.snapshot().most_bytes();
        }
        slice_bytes = 0;
        storage.rt.yield_now().await;
    }
    storage.checkpoint_room.end(most_bytes);
    (content.finish(), start)
}

/// Waits until the shard's last entry is safely in the journal.
async fn wait_last_entry<R: Runtime>(storage: &ShardStorage<R>) -> Result<(), StorageError> {
    if storage.needs_flush() {
        storage.journal.flush().await?;
        return Ok(());
    }
    if let Some(last) = storage.last_entry()
        && holds(Rule::JournaledBeforeWriteBack)
    {
        storage.journal.wait_completed(last).await?;
    }
    Ok(())
}

/// Index files of active segments get the entries of what is safely in the journal, where they are for so
/// many bytes.
async fn grow_indexes<R: Runtime>(
    storage: &ShardStorage<R>,
    at_least_bytes: u64,
) -> Result<(), StorageError> {
    let slots = storage.logs.borrow().slot_count();
    for from in (0..slots).step_by(SLICE_PARTITIONS) {
        for partition in storage.logs_in(from..from + SLICE_PARTITIONS) {
            match grow_index(&partition, at_least_bytes).await {
                // The index is made anew; what else the device has lost, nobody knows.
                Err(error) if is_flush_failed(&error) => {
                    let dir = partition.dir.display();
                    return Err(StorageError::Offline(format!("{dir}: {error}")));
                }
                Err(error) => {
                    tracing::warn!(dir = %partition.dir.display(), %error, "index not written");
                }
                Ok(()) => {}
            }
        }
        storage.rt.yield_now().await;
    }
    Ok(())
}

async fn grow_index<R: Runtime>(partition: &Rc<OpenLog<R>>, at_least_bytes: u64) -> io::Result<()> {
    let Ok(_in_use) = partition.use_files() else {
        return Ok(());
    };
    let (growth, tail) = {
        let mut state = partition.state.borrow_mut();
        let Some((index, growth)) = state.grow_index(at_least_bytes) else {
            return Ok(());
        };
        let tail = IndexTail::of(index, growth.had, growth.now);
        (growth, tail)
    };
    let (id, had, now) = (growth.segment, growth.had, growth.now);
    let written = tail.write(&partition.storage.rt, &partition.dir, id);
    let (offsets, times) = written.await?;
    if now.0 / SYNCED_INDEX_ENTRIES > had.0 / SYNCED_INDEX_ENTRIES {
        times.sync().await?;
        offsets.sync().await?;
    }
    Ok(())
}
