//! Write-backs that have completed and are not durable yet: they become so all at once, before a checkpoint
//! lets the journal forget what they hold.
//!
//! Until then the journal has all of it, so that a write-back need not be durable by itself. On a disk
//! with a volatile cache each durable one costs a flush of the device: with 10,000 partitions, of which
//! each gathers some KiB, flushes were all that the disk did.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::error::StorageError;
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::run::RUN_FILE;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::open_files::SegmentKey;
use crate::log::shard::storage::ShardStorage;
use crate::model::PartitionId;
use crate::rt::{File, Runtime};

/// Files that are synced one by one. More are synced with all of their file system, which costs what is
/// unsynced there, and not a flush for every few of them.
const BY_FILE: usize = 256;
/// Of these, at a time: they share flushes.
const AT_A_TIME: usize = 16;

/// The segments of a shard that were written to since they were last durable.
#[derive(Default)]
pub struct UnsyncedSegments {
    keys: RefCell<BTreeSet<SegmentKey>>,
    /// Partitions whose directories may be on another file system than the data directory.
    elsewhere: RefCell<BTreeSet<PartitionId>>,
}

impl UnsyncedSegments {
    /// A write-back to it has completed.
    pub fn insert(&self, key: SegmentKey) {
        self.keys.borrow_mut().insert(key);
    }

    /// A partition's directory may be a link to another file system.
    pub fn may_be_elsewhere(&self, partition: PartitionId) {
        self.elsewhere.borrow_mut().insert(partition);
    }

    /// Makes durable what has completed when this is called. After an error everything is unsynced as before.
    ///
    /// # Errors
    /// `OpenRefused`: there is no descriptor now. A failed sync is final.
    pub async fn make_durable<R: Runtime>(
        &self,
        storage: &ShardStorage<R>,
    ) -> Result<(), StorageError> {
        // Write-backs that end meanwhile list their segments again.
        let mut keys = self.keys.take();
        let synced = self.sync(storage, &keys).await;
        if synced.is_err() {
            self.keys.borrow_mut().append(&mut keys);
        }
        synced
    }

    async fn sync<R: Runtime>(
        &self,
        storage: &ShardStorage<R>,
        keys: &BTreeSet<SegmentKey>,
    ) -> Result<(), StorageError> {
        let mut by_file: Vec<SegmentKey> = keys.iter().copied().collect();
        if by_file.len() > BY_FILE && sync_file_system(storage).await? {
            let elsewhere = self.elsewhere.borrow();
            by_file.retain(|(partition, _)| elsewhere.contains(partition));
        }
        let syncs = by_file.into_iter().map(|key| sync_file(storage, key));
        let syncs = stream::iter(syncs).buffer_unordered(AT_A_TIME);
        syncs.try_collect().await
    }

    /// What is unsynced.
    #[cfg(test)]
    pub fn keys(&self) -> BTreeSet<SegmentKey> {
        self.keys.borrow().clone()
    }
}

/// Syncs the file system of the data directory; false where that is not to be relied on.
pub(super) async fn sync_file_system<R: Runtime>(
    storage: &ShardStorage<R>,
) -> Result<bool, StorageError> {
    let path = storage.options.data_dir.join(RUN_FILE);
    let synced = storage.rt.sync_file_system(&path).await;
    // Whatever the error, a sync that succeeds later says nothing of what was written before.
    synced.map_err(|error| StorageError::Offline(format!("{}: {error}", path.display())))
}

async fn sync_file<R: Runtime>(
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
            match partition
                .state
                .borrow()
                .snapshot()
                .segments()
                .any(is_listed)
            {
                true => Err(failed(error)),
                // Retention has removed it.
                false => Ok(()),
            }
        }
        Err(error) => Err(error.into()),
    }
}
