//! What is written becomes durable, all at once.
//!
//! **Segments**, before a checkpoint lets the journal forget what they hold. Until then the journal has all of
//! it, so that a write-back need not be durable by itself. On a disk with a volatile cache each durable one
//! costs a flush of the device: with 10,000 partitions, each of which gathers some KiB, flushes were
//! all that the disk did.
//!
//! **Directories** that first appends have made, before anything is written to a segment in them: one that
//! has records, and does not say whose it is, could be anybody's. The first write-back that comes upon such
//! a directory makes all of them durable: ten thousand partitions that get their first records together take
//! one sync of the file system, not thirty thousand syncs one by one.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::error::StorageError;
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::run::RUN_FILE;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::open_files::SegmentKey;
use crate::log::shard::open_log::ShardStorage;
use crate::log::shard::open_log::{DirIs, OpenLog};
use crate::rt::{File, Runtime, is_open_refused};

/// Files that are synced at a time: they share flushes.
const AT_A_TIME: usize = 16;

/// Makes durable what was written to segments when this is called. After an error everything is unsynced as
/// before.
///
/// # Errors
/// `OpenRefused`: there is no descriptor now. A failed sync is final.
pub async fn make_segments_durable<R: Runtime>(
    storage: &ShardStorage<R>,
) -> Result<(), StorageError> {
    let segments = storage.unsynced.take_segments();
    let synced = sync_segments(storage, &segments).await;
    if synced.is_err() {
        storage.unsynced.put_back_segments(segments);
    }
    synced
}

async fn sync_segments<R: Runtime>(
    storage: &ShardStorage<R>,
    segments: &BTreeSet<SegmentKey>,
) -> Result<(), StorageError> {
    let mut by_file: Vec<SegmentKey> = segments.iter().copied().collect();
    if by_file.len() > storage.options.syncs_by_file && sync_file_system(storage).await? {
        by_file.retain(|(partition, _)| storage.unsynced.may_be_elsewhere(*partition));
    }
    let syncs = by_file.into_iter().map(|key| sync_segment(storage, key));
    let syncs = stream::iter(syncs).buffer_unordered(AT_A_TIME);
    syncs.try_collect().await
}

async fn sync_segment<R: Runtime>(
    storage: &ShardStorage<R>,
    key: SegmentKey,
) -> Result<(), StorageError> {
    let Some(partition) = storage.log_of(key.0) else {
        return Ok(());
    };
    // Otherwise its path may be another topic's by the time that the file is opened.
    let Some(_in_use) = partition.keep_files() else {
        return Ok(());
    };
    let path = || segment_path(&partition.dir, key.1, SegmentFile::Log);
    let failed = |error| StorageError::Offline(format!("{}: {error}", path().display()));
    match storage.files.get(key, &partition.dir).await {
        Ok(file) => file.sync().await.map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_listed = |facts: &SegmentFacts| facts.id() == key.1;
            let state = partition.state.borrow();
            match state.snapshot().segments().any(is_listed) {
                true => Err(failed(error)),
                // Retention has removed it.
                false => Ok(()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The directory of a partition is durable when this returns, if it was not deleted, and so are all others
/// that were there before.
///
/// # Errors
/// `Offline` when a sync has failed; what the file system gives. Then all are as before.
pub async fn make_dirs_durable<R: Runtime>(
    storage: &ShardStorage<R>,
    partition: &OpenLog<R>,
) -> Result<(), StorageError> {
    if partition.dir_is.get() != DirIs::Written {
        return Ok(());
    }
    let _turn = storage.unsynced.dirs_turn.lock().await;
    if partition.dir_is.get() != DirIs::Written {
        return Ok(());
    }
    let slots = storage.unsynced.take_dirs();
    let logs = slots.iter().filter_map(|slot| storage.log_at(*slot));
    let logs: Vec<_> = logs.collect();
    let synced = sync_dirs(storage, &logs).await;
    if synced.is_err() {
        storage.unsynced.put_back_dirs(slots);
    }
    synced
}

async fn sync_dirs<R: Runtime>(
    storage: &ShardStorage<R>,
    logs: &[Rc<OpenLog<R>>],
) -> Result<(), StorageError> {
    if logs.len() > storage.options.syncs_by_file / 4 && sync_file_system(storage).await? {
        for log in logs {
            log.dir_is.set(DirIs::Durable);
        }
        return Ok(());
    }
    let synced = stream::iter(logs.iter().map(OpenLog::make_dir_durable));
    synced.buffer_unordered(AT_A_TIME).try_collect().await
}

/// Syncs the file system of the data directory, which costs what is unsynced there, and not a flush for every
/// few files; false where that is not to be relied on, or there is no descriptor for it now.
async fn sync_file_system<R: Runtime>(storage: &ShardStorage<R>) -> Result<bool, StorageError> {
    let path = storage.options.data_dir.join(RUN_FILE);
    match storage.rt.sync_file_system(&path).await {
        Err(error) if is_open_refused(&error) => Ok(false),
        // Whatever the error, a sync that succeeds later says nothing of what was written before.
        synced => {
            synced.map_err(|error| StorageError::Offline(format!("{}: {error}", path.display())))
        }
    }
}
