//! Directories that first appends have made, and that are not durable yet.
//!
//! Records are written to a segment only once its directory outlives a power cut, with what says whose it
//! is: a directory that has records and no owner could be anybody's. The first write-back that comes upon
//! one that is not durable makes all of them so: ten thousand partitions that get their first records
//! together take one sync of the file system, not thirty thousand syncs one by one.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::error::StorageError;
use crate::log::shard::open_log::{DirIs, OpenLog};
use crate::log::shard::storage::ShardStorage;
use crate::log::shard::unsynced::sync_file_system;
use crate::model::PartitionSlot;
use crate::rt::{Mutex, Runtime};

/// Directories that are synced one by one. More are synced with all of their file system.
const BY_DIR: usize = 64;
/// Of these, at a time: they share flushes.
const AT_A_TIME: usize = 16;

/// Whose directories of a shard are not durable.
#[derive(Default)]
pub struct FreshDirs {
    slots: RefCell<Vec<PartitionSlot>>,
    turn: Mutex,
}

impl FreshDirs {
    /// A partition's directory was made.
    pub fn insert(&self, slot: PartitionSlot) {
        self.slots.borrow_mut().push(slot);
    }

    /// The directory of a partition is durable when this returns, if it was not deleted, and so are all
    /// others that were there before.
    ///
    /// # Errors
    /// `Offline` when a sync has failed; what the file system gives. Then all are as before.
    pub async fn make_durable<R: Runtime>(
        &self,
        storage: &ShardStorage<R>,
        partition: &Rc<OpenLog<R>>,
    ) -> Result<(), StorageError> {
        if partition.dir_is.get() != DirIs::Written {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if partition.dir_is.get() != DirIs::Written {
            return Ok(());
        }
        let slots = self.slots.take();
        let logs = slots.iter().filter_map(|slot| storage.log_at(*slot));
        let logs: Vec<_> = logs.collect();
        let made = make_all_durable(storage, &logs).await;
        if made.is_err() {
            self.slots.borrow_mut().extend(slots);
        }
        made
    }
}

async fn make_all_durable<R: Runtime>(
    storage: &ShardStorage<R>,
    logs: &[Rc<OpenLog<R>>],
) -> Result<(), StorageError> {
    if logs.len() > BY_DIR && sync_file_system(storage).await? {
        for log in logs {
            log.dir_is.set(DirIs::Durable);
        }
        return Ok(());
    }
    let made = stream::iter(logs.iter().map(OpenLog::make_dir_durable));
    made.buffer_unordered(AT_A_TIME).try_collect().await
}
