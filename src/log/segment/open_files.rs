//! A bounded set of open segment files, each locked on the descriptor that writes it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::log::error::StorageError;
use crate::log::files::lock::open_locked;
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::small_file::sync_names;
use crate::model::{Offset, PartitionId};
use crate::rt::{Budget, Create, File, OpenMode, Runtime};

/// Which segment.
pub type SegmentKey = (PartitionId, Offset);

/// Open segment files of a shard, the least recently used ones closed.
pub struct OpenFiles<R: Runtime> {
    rt: R,
    limit: usize,
    open: RefCell<BTreeMap<SegmentKey, Opened<R::File>>>,
    /// One opening at a time: two of the same file would wait for each other's lock.
    opening: Budget,
    clock: Cell<u64>,
}

struct Opened<F> {
    file: F,
    used: u64,
}

impl<R: Runtime> OpenFiles<R> {
    /// None open yet, at most `limit`.
    pub fn new(rt: R, limit: usize) -> Self {
        Self {
            rt,
            limit: limit.max(1),
            open: RefCell::default(),
            opening: Budget::new(1),
            clock: Cell::new(0),
        }
    }

    /// The segment's data file, opened direct.
    pub async fn get(&self, key: SegmentKey, dir: &Path) -> io::Result<R::File> {
        if let Some(file) = self.cached(key) {
            return Ok(file);
        }
        let _turn = self.opening.acquire(1).await;
        if let Some(file) = self.cached(key) {
            return Ok(file);
        }
        let path = segment_path(dir, key.1, SegmentFile::Log);
        let file = open_locked(&self.rt, &path, OpenMode::DIRECT).await?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// Creates the data file of a segment that begins, durably. What an interrupted attempt left
    /// is emptied first.
    ///
    /// # Errors
    /// `Offline` when a sync has failed; whoever calls this takes the directory offline.
    pub async fn create(&self, key: SegmentKey, dir: &Path) -> Result<R::File, StorageError> {
        let path = segment_path(dir, key.1, SegmentFile::Log);
        let mode = OpenMode {
            direct: true,
            create: Create::IfMissing,
        };
        let file = open_locked(&self.rt, &path, mode).await?;
        if file.size()? > 0 {
            file.set_len(0).await?;
            // Another attempt would find it empty, and not sync it any more.
            let synced = file.sync().await;
            synced.map_err(|e| StorageError::Offline(format!("{}: {e}", path.display())))?;
        }
        sync_names(&self.rt, dir).await?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// Closes a segment's file once nobody uses it.
    pub fn forget(&self, key: SegmentKey) {
        self.open.borrow_mut().remove(&key);
    }

    /// Closes all files of a partition.
    pub fn forget_partition(&self, id: PartitionId) {
        self.open.borrow_mut().retain(|key, _| key.0 != id);
    }

    /// Closes all files.
    pub fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    /// The turns of opening.
    #[cfg(test)]
    pub fn opening(&self) -> &Budget {
        &self.opening
    }

    fn cached(&self, key: SegmentKey) -> Option<R::File> {
        let used = self.tick();
        let mut open = self.open.borrow_mut();
        let opened = open.get_mut(&key)?;
        opened.used = used;
        Some(opened.file.clone())
    }

    fn put(&self, key: SegmentKey, file: R::File) {
        let used = self.tick();
        let mut open = self.open.borrow_mut();
        if open.len() >= self.limit
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, opened)| opened.used)
                .map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        open.insert(key, Opened { file, used });
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}
