//! Write-back: what is journaled goes to segment files, and segments that are complete are sealed.

use std::io;
use std::rc::{Rc, Weak};

use futures_util::future::join_all;

use crate::log::error::{StorageError, is_disk_full};
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::small_file::write_small;
use crate::log::journal::Sequence;
use crate::log::partition::effects::{SealedSegment, WriteBack};
use crate::log::partition::write_back_plan::{Urgency, WriteBackPlan};
use crate::log::rules::{Rule, holds};
use crate::log::segment::index_files::IndexTail;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::storage::ShardStorage;
use crate::rt::{BLOCK_BYTES, Buf, File, Runtime};

/// Longest write-back. A partition has one under way, so this is what keeps the disk busy: with one busy
/// partition, 1 MiB gave 842 MiB/s, 4 MiB 1,130, 8 MiB 1,234 (p99 7.8, 8.4, 6.0 ms), 16 MiB no more.
const MAX_WRITE_BACK_BYTES: u64 = 8 << 20;

/// One of a shard's write-back tasks: takes partitions from the queue until the log closes.
pub async fn run_write_back<R: Runtime>(storage: Rc<ShardStorage<R>>) {
    loop {
        let look = || match storage.closing.get() || storage.offline_reason().is_some() {
            true => Some(None),
            false => storage.write_back_queue.borrow_mut().pop_front().map(Some),
        };
        let Some(partition) = storage.write_back_wanted.wait_until(look).await else {
            return;
        };
        if let Some(partition) = partition.upgrade() {
            write_back_partition(&storage, &partition).await;
        }
        storage.rt.yield_now().await;
    }
}

/// Writes back what is wanted of one partition, one plan at a time.
async fn write_back_partition<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
) {
    let work = &partition.work;
    if work.write_backs.get() > 0 && holds(Rule::WriteBacksDoNotOverlap) {
        // The one that is under way looks again when it ends.
        return;
    }
    work.write_backs.set(work.write_backs.get() + 1);
    let urgency = work.wanted.take().unwrap_or(Urgency::Blocks);
    let is_written = write_back_once(storage, partition, urgency).await;
    work.write_backs.set(work.write_backs.get() - 1);
    let (has_more, is_unusable) = {
        let state = partition.state.borrow();
        let has_more = state.write_back_bytes() >= storage.options.write_back_bytes;
        (has_more, state.check_usable().is_err())
    };
    let goes_on = is_written && (has_more || urgency == Urgency::Everything);
    // To the end of the queue: other partitions' bytes hold the journal, too.
    if let Some(next) = work.wanted.take().max(goes_on.then_some(urgency)) {
        partition.request_write_back(next);
    }
    // One that found nothing is no progress: whoever waits would only ask for it again.
    if is_written || is_unusable {
        storage.tell_progress();
    }
}

/// Whether anything was written.
async fn write_back_once<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    partition: &Rc<OpenLog<R>>,
    urgency: Urgency,
) -> bool {
    if storage.needs_flush() && flush_journal(storage, partition).await.is_err() {
        return false;
    }
    let block = || storage.rt.arena().alloc(BLOCK_BYTES).ok();
    let next = partition
        .state
        .borrow_mut()
        .next_write_back(urgency, MAX_WRITE_BACK_BYTES, block);
    let Some(WriteBack { plan, pieces }) = next else {
        return false;
    };
    match write_segment(storage, partition, &plan, pieces).await {
        Ok(()) => {
            advance_marks(storage, partition, &plan).await;
            true
        }
        Err(error) => {
            if !partition.state.borrow().is_deleted() {
                let path = segment_path(&partition.dir, plan.from.segment, SegmentFile::Log);
                storage.take_offline(&format!("{}: {error}", path.display()));
            }
            false
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
    let durable = partition.make_dir_durable().await;
    durable.map_err(io::Error::other)?;
    let key = (partition.id, plan.from.segment);
    let is_online = || storage.check_online().is_ok();
    let file = storage.files.get_patiently(key, &partition.dir, is_online);
    let file = file.await?;
    if !pieces.is_empty() {
        write_retrying(storage, &file, pieces, plan.from.byte).await?;
        if storage.needs_flush() {
            storage.unsynced.borrow_mut().insert(key);
        }
    }
    if plan.seals {
        file.set_len(plan.to).await?;
        if holds(Rule::SealCutDurable) {
            file.sync().await?;
        }
    }
    Ok(())
}

/// The space was reserved; where a file system runs out all the same, it is tried again.
async fn write_retrying<R: Runtime>(
    storage: &ShardStorage<R>,
    file: &R::File,
    pieces: Vec<Buf>,
    at: u64,
) -> io::Result<()> {
    const RETRY: std::time::Duration = std::time::Duration::from_millis(100);
    loop {
        match file
            .write_at(pieces.clone(), at, storage.write_mode())
            .await
        {
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
    storage.tell_progress();
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
    partition: &OpenLog<R>,
    mut sealed: SealedSegment,
) -> io::Result<()> {
    partition.complete_rolled_index(&mut sealed).await?;
    sealed.index.finish();
    let (dir, base) = (&partition.dir, sealed.facts.base_offset);
    let tail = IndexTail::rest_of(&sealed.index, sealed.indexed);
    tail.write(&storage.rt, dir, base).await?;
    let path = segment_path(dir, sealed.facts.end_offset, SegmentFile::Snapshot);
    write_small(&storage.rt, &path, 0, sealed.producers).await?;
    storage
        .indexes
        .put((partition.id, base), Rc::new(sealed.index));
    Ok(())
}

/// Nobody works on the partition's files any more when this completes.
pub async fn wait_idle<R: Runtime>(partition: &OpenLog<R>) {
    let look = || partition.work.is_idle().then_some(());
    partition.storage.progress.wait_until(look).await;
}

/// Writes back everything that only the journal has below one of its writes. The oldest are asked for,
/// some at a time: as they are done, others are the oldest.
pub async fn write_back_below<R: Runtime>(
    storage: &Rc<ShardStorage<R>>,
    target: Sequence,
) -> Result<(), StorageError> {
    const AT_A_TIME: usize = 64;
    loop {
        storage.check_online()?;
        let seen = storage.progress_count.get();
        let oldest: Vec<_> = {
            let waiting = storage.waiting.borrow();
            let below = waiting.iter().take_while(|((first, _), _)| *first < target);
            below.take(AT_A_TIME).map(|(_, one)| one.clone()).collect()
        };
        if oldest.is_empty() {
            return Ok(());
        }
        let oldest: Vec<_> = oldest.iter().filter_map(Weak::upgrade).collect();
        // All at once, so that they share what a sync costs.
        let durable = join_all(oldest.iter().map(OpenLog::make_dir_durable)).await;
        let durable = durable.into_iter().collect::<Result<(), _>>();
        durable.map_err(|error| storage.failed(error))?;
        let mut is_any_asked = false;
        for partition in oldest {
            // One that cannot be used any more leaves the list.
            partition.list_waiting();
            partition.request_write_back(Urgency::Everything);
            is_any_asked |= partition.work.wanted.get().is_some();
        }
        match is_any_asked {
            true => storage.progress_since(seen).await,
            false => storage.rt.yield_now().await,
        }
    }
}

/// Keeps a weak queue from growing with partitions that are gone.
pub fn drop_gone<R: Runtime>(storage: &ShardStorage<R>) {
    let is_there = |entry: &Weak<OpenLog<R>>| entry.strong_count() > 0;
    storage.write_back_queue.borrow_mut().retain(is_there);
    storage.evictable.borrow_mut().retain(is_there);
    storage
        .waiting
        .borrow_mut()
        .retain(|_, entry| is_there(entry));
}
