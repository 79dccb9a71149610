//! Write-back: what is journaled goes to segment files, and segments that are complete are sealed.
//!
//! | file | what |
//! |---|---|
//! | `backlog` | what is to be written back, and in which order |
//! | `unsynced` | what is written and not durable yet |
//! | `barrier` | becomes durable, all at once |

pub(in crate::log) mod backlog;
pub(in crate::log) mod barrier;
pub(in crate::log) mod unsynced;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::{StorageError, is_disk_full};
use crate::log::files::partition_files::{SegmentFile, SegmentId, segment_path};
use crate::log::files::small_file::{sync_names, write_small};
use crate::log::journal::Sequence;
use crate::log::partition::effects::{SealedSegment, WriteBack};
use crate::log::partition::write_back_plan::{Urgency, WriteBackPlan};
use crate::log::rules::{Rule, holds};
use crate::log::segment::index_files::IndexTail;
use crate::log::shard::open_log::{OpenLog, ShardStorage};
use crate::model::{Offset, PartitionId, PartitionIndex, TopicId};
use crate::rt::{BLOCK_BYTES, Buf, File, Runtime, WriteMode};
use barrier::make_dirs_durable;

/// Longest write-back. A partition has one under way, so this is what keeps the disk busy: with one busy
/// partition, 1 MiB gave 842 MiB/s, 4 MiB 1,130, 8 MiB 1,234 (p99 7.8, 8.4, 6.0 ms), 16 MiB no more.
const MAX_WRITE_BACK_BYTES: u64 = 8 << 20;

/// One of a shard's write-back tasks: takes partitions from the queue until the log closes.
pub async fn run_write_back<R: Runtime>(storage: Rc<ShardStorage<R>>) {
    while let Some(slot) = storage.backlog.next(|| storage.is_over()).await {
        if let Some(partition) = storage.log_at(slot) {
            write_back_partition(&storage, &partition).await;
        }
        storage.rt.yield_now().await;
    }
}

/// Lets the next partitions that have bytes to write back do so; the others have their turn at the next
/// call. As long as nothing waits for memory, that is where whole blocks are asked for, no more are than
/// are in the queue already, and those with little are passed over: with each write-back they would
/// have few bytes more. Who waits always has others asked: those in the queue may give nothing.
pub fn press_write_back<R: Runtime>(storage: &ShardStorage<R>, urgency: Urgency) {
    const AT_ONCE: usize = 64;
    const LITTLE_BYTES: u64 = 2 * BLOCK_BYTES as u64;
    if urgency == Urgency::Blocks && storage.backlog.queue_len() >= AT_ONCE {
        return;
    }
    let pressed = storage.backlog.next_pressed(AT_ONCE);
    for log in pressed.into_iter().filter_map(|slot| storage.log_at(slot)) {
        let bytes = log.state.borrow().write_back_bytes();
        if urgency == Urgency::Everything || bytes >= LITTLE_BYTES {
            log.request_write_back(urgency);
        }
    }
}

/// What has become of a write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    /// There was nothing to write, or the partition cannot be used.
    Nothing,
    /// There was no memory or no room for it: it is wanted as before, after a while.
    Refused,
}

/// Writes back what is wanted of one partition, one plan at a time.
async fn write_back_partition<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
) {
    const REFUSED_RETRY: Duration = Duration::from_millis(10);
    let work = &partition.work;
    if work.write_backs.get() > 0 && holds(Rule::WriteBacksDoNotOverlap) {
        // The one that is under way looks again when it ends.
        return;
    }
    work.write_backs.set(work.write_backs.get() + 1);
    let urgency = work.wanted.take().unwrap_or(Urgency::Blocks);
    let outcome = write_back_once(storage, partition, urgency).await;
    if outcome == Outcome::Refused && !storage.is_over() {
        storage.rt.sleep(REFUSED_RETRY).await;
    }
    work.write_backs.set(work.write_backs.get() - 1);
    partition.tell_if_idle();
    let has_more = {
        let state = partition.state.borrow();
        state.write_back_bytes() >= storage.options.write_back_bytes
    };
    let goes_on = match outcome {
        Outcome::Written => has_more || urgency == Urgency::Everything,
        Outcome::Nothing => false,
        Outcome::Refused => true,
    };
    // To the end of the queue: other partitions' bytes hold the journal, too.
    if let Some(next) = work.wanted.take().max(goes_on.then_some(urgency)) {
        partition.request_write_back(next);
    }
    // One that cannot be used any more leaves the list.
    partition.list_waiting();
    if outcome == Outcome::Written {
        storage.tail.look_again();
    }
}

async fn write_back_once<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
    urgency: Urgency,
) -> Outcome {
    if storage.needs_flush() && flush_journal(storage, partition).await.is_err() {
        return Outcome::Refused;
    }
    let mut lacks_memory = false;
    let block = || {
        let block = storage.rt.arena().alloc(BLOCK_BYTES).ok();
        lacks_memory = block.is_none();
        block
    };
    let next = partition
        .state
        .borrow_mut()
        .next_write_back(urgency, MAX_WRITE_BACK_BYTES, block);
    let Some(WriteBack { plan, pieces }) = next else {
        return match lacks_memory {
            true => Outcome::Refused,
            false => Outcome::Nothing,
        };
    };
    match write_segment(storage, partition, &plan, pieces).await {
        Ok(()) => {
            advance_marks(storage, partition, &plan).await;
            Outcome::Written
        }
        Err(error) => {
            if !partition.state.borrow().is_deleted() {
                let path = segment_path(&partition.dir, plan.from.id(), SegmentFile::Log);
                storage.take_offline(&format!("{}: {error}", path.display()));
            }
            Outcome::Nothing
        }
    }
}

/// Below level `fsync` a completed journal write is not safe yet.
async fn flush_journal<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
) -> Result<(), StorageError> {
    let completed = partition.state.borrow().completed_end();
    if let Err(error) = storage.journal.flush().await {
        let error = StorageError::from(error);
        if error != StorageError::DiskFull {
            storage.take_offline(&error.to_string());
        }
        return Err(error);
    }
    partition.state.borrow_mut().flushed(completed);
    Ok(())
}

async fn write_segment<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
    plan: &WriteBackPlan,
    pieces: Vec<Buf>,
) -> io::Result<()> {
    let durable = make_dirs_durable(storage, partition).await;
    durable.map_err(io::Error::other)?;
    let named = name_file(partition, plan.from.segment).await;
    named.map_err(io::Error::other)?;
    let key = (partition.id, plan.from.id());
    let is_online = || storage.check_online().is_ok();
    let file = storage.files.get_patiently(key, &partition.dir, is_online);
    let file = file.await?;
    if !pieces.is_empty() {
        write_retrying(storage, &file, pieces, plan.from.byte).await?;
    }
    if plan.seals {
        file.set_len(plan.to).await?;
    }
    storage.unsynced.add_segment(key);
    Ok(())
}

/// Gives a segment's file the name of its base offset, before anything is written to it: the journal has
/// all before it by now. Durable when it returns, so that segment-durable never passes into a file that
/// a power cut takes off its name. Waits for room, and for descriptors.
///
/// # Errors
/// `Offline` when a sync has failed; what the file system gives.
pub async fn name_file<R: Runtime>(
    partition: &OpenLog<R>,
    base: Offset,
) -> Result<(), StorageError> {
    const RETRY: Duration = Duration::from_millis(100);
    let (storage, dir) = (&partition.storage, &partition.dir);
    let _turn = partition.dir_turn.lock().await;
    let mut is_renamed = false;
    loop {
        let prepared = {
            let state = partition.state.borrow();
            state.prepared_file(base).filter(|_| !state.is_deleted())
        };
        let Some(number) = prepared else {
            return Ok(());
        };
        let named = async {
            if !is_renamed {
                let path = segment_path(dir, SegmentId::appended(base), SegmentFile::Log);
                storage
                    .rt
                    .rename(&partition.prepared_path(number), &path)
                    .await?;
                is_renamed = true;
            }
            match holds(Rule::NameDurable) {
                true => sync_names(&storage.rt, dir).await,
                false => Ok(()),
            }
        };
        match named.await {
            Err(StorageError::DiskFull | StorageError::OpenRefused(_)) => {
                storage.check_online()?;
                storage.rt.sleep(RETRY).await;
            }
            named => {
                named?;
                partition.state.borrow_mut().name_file(base);
            }
        }
    }
}

/// The space was reserved; where a file system runs out all the same, it is tried again.
async fn write_retrying<R: Runtime>(
    storage: &ShardStorage<R>,
    file: &R::File,
    pieces: Vec<Buf>,
    at: u64,
) -> io::Result<()> {
    const RETRY: Duration = Duration::from_millis(100);
    loop {
        match file.write_at(pieces.clone(), at, WriteMode::Plain).await {
            Err(error) if is_disk_full(&error) => storage.rt.sleep(RETRY).await,
            result => return result,
        }
        storage.check_online().map_err(io::Error::other)?;
    }
}

/// The bytes are in the segment: the marks rise, and a complete segment becomes a sealed one.
async fn advance_marks<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
    plan: &WriteBackPlan,
) {
    let sealed = partition.state.borrow_mut().written_back(plan);
    partition.list_waiting();
    partition.release_chunks();
    partition.marks_changed();
    if let Some(sealed) = sealed
        && let Err(error) = write_sealed_files(storage, partition, sealed).await
    {
        // Neither is needed: indexes are rebuilt, and the checkpoint has the producers.
        tracing::warn!(dir = %partition.dir.display(), %error, "files of a sealed segment not written");
    }
}

/// Finishes the index files, and writes the producer snapshot named by the segment's end.
async fn write_sealed_files<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
    mut sealed: SealedSegment,
) -> io::Result<()> {
    let Some(_in_use) = partition.keep_files() else {
        return Ok(());
    };
    partition.complete_rolled_index(&mut sealed).await?;
    sealed.index.finish();
    let (dir, id) = (&partition.dir, sealed.facts.id());
    let tail = IndexTail::rest_of(&sealed.index, sealed.indexed);
    tail.write(&storage.rt, dir, id).await?;
    let path = segment_path(
        dir,
        SegmentId::appended(sealed.facts.end_offset),
        SegmentFile::Snapshot,
    );
    write_small(&storage.rt, &path, 0, sealed.producers).await?;
    storage
        .indexes
        .put((partition.id, id), Rc::new(sealed.index));
    Ok(())
}

/// Writes back everything that only the journal has below one of its writes, which has completed. The
/// oldest are asked for, some at a time: when half of them are done, others are the oldest.
pub async fn write_back_below<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    target: Sequence,
) -> Result<(), StorageError> {
    const AT_A_TIME: usize = 64;
    let first_id = PartitionId {
        topic: TopicId::ZERO,
        index: PartitionIndex(0),
    };
    let _aim = storage.backlog.aim(target).await;
    // What is listed below has entries in writes that may not have completed, none behind this one.
    if let Some(last) = storage.last_entry() {
        storage.journal.wait_completed(last).await?;
    }
    loop {
        storage.check_online()?;
        if storage.closing.get() {
            return Ok(());
        }
        let oldest = storage.backlog.below(target, AT_A_TIME);
        let Some((middle, _)) = oldest.get(oldest.len() / 2) else {
            return Ok(());
        };
        let goes_on_at = match oldest.len() < AT_A_TIME {
            true => (target, first_id),
            false => *middle,
        };
        for log in oldest.iter().filter_map(|(_, slot)| storage.log_at(*slot)) {
            // One that cannot be used any more leaves the list.
            log.list_waiting();
            log.request_write_back(Urgency::Everything);
        }
        storage.backlog.wait_passed(goes_on_at).await;
    }
}
