//! A bounded set of open segment files, each locked on the descriptor that writes it.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::files::lock::open_locked;
use crate::log::files::partition_files::{SegmentFile, SegmentId, segment_path};
use crate::log::files::small_file::sync_names;
use crate::log::segment::recent::Recent;
use crate::model::{Offset, PartitionId};
use crate::rt::{Create, File, Mutex, OpenMode, Runtime, is_open_refused};

/// Which segment.
pub type SegmentKey = (PartitionId, SegmentId);

/// How long somebody who needs a file waits for a descriptor before it is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// All segments of a partition.
pub(super) fn segments_of(id: PartitionId) -> std::ops::RangeInclusive<SegmentKey> {
    let last = SegmentId {
        base_offset: Offset(i64::MAX),
        generation: u32::MAX,
    };
    (id, SegmentId::appended(Offset(i64::MIN)))..=(id, last)
}

/// Open segment files of a shard, the least recently used ones closed.
pub struct OpenFiles<R: Runtime> {
    rt: R,
    limit: usize,
    open: RefCell<Recent<SegmentKey, R::File>>,
    /// One opening at a time: two of the same file would wait for each other's lock.
    opening: Mutex,
    /// It is told once that there are not enough descriptors.
    is_told: Cell<bool>,
}

impl<R: Runtime> OpenFiles<R> {
    /// None open yet, at most `limit`.
    pub fn new(rt: R, limit: usize) -> Self {
        Self {
            rt,
            limit: limit.max(1),
            open: RefCell::default(),
            opening: Mutex::new(),
            is_told: Cell::new(false),
        }
    }

    /// The segment's data file, opened direct.
    ///
    /// # Errors
    /// One that [`is_open_refused`] knows when there is no descriptor even though half of the files
    /// that were open are closed; it may be tried again.
    pub async fn get(&self, key: SegmentKey, dir: &Path) -> io::Result<R::File> {
        if let Some(file) = self.cached(key) {
            return Ok(file);
        }
        self.get_at(key, &segment_path(dir, key.1, SegmentFile::Log))
            .await
    }

    /// The segment's data file, which is at `path`, perhaps not for long: it stays open under its key.
    ///
    /// # Errors
    /// As [`OpenFiles::get`].
    pub async fn get_at(&self, key: SegmentKey, path: &Path) -> io::Result<R::File> {
        let _turn = self.opening.lock().await;
        if let Some(file) = self.cached(key) {
            return Ok(file);
        }
        let file = self.open(path, OpenMode::DIRECT).await?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// As [`OpenFiles::get`], waiting for a descriptor for as long as `goes_on` says.
    pub async fn get_patiently(
        &self,
        key: SegmentKey,
        dir: &Path,
        goes_on: impl Fn() -> bool,
    ) -> io::Result<R::File> {
        loop {
            match self.get(key, dir).await {
                Err(error) if is_open_refused(&error) && goes_on() => self.rt.sleep(RETRY).await,
                opened => return opened,
            }
        }
    }

    /// A file that is prepared for a segment to come; created where it is not there. It is not kept open.
    ///
    /// # Errors
    /// As [`OpenFiles::get`].
    pub async fn prepare(&self, path: &Path) -> io::Result<R::File> {
        let mode = OpenMode {
            direct: true,
            create: Create::IfMissing,
        };
        self.open(path, mode).await
    }

    /// Creates the data file of a segment that is written as a whole, its name durable. What an interrupted
    /// attempt left is emptied first.
    ///
    /// # Errors
    /// `Offline` when a sync has failed; whoever calls this takes the directory offline.
    pub async fn create(&self, key: SegmentKey, dir: &Path) -> Result<R::File, StorageError> {
        let file = self
            .prepare(&segment_path(dir, key.1, SegmentFile::Log))
            .await?;
        if file.size()? > 0 {
            file.set_len(0).await?;
        }
        sync_names(&self.rt, dir).await?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// Creates the data file of a log's first segment, which must not exist. Its name is not durable.
    pub async fn begin(&self, key: SegmentKey, dir: &Path) -> io::Result<()> {
        let path = segment_path(dir, key.1, SegmentFile::Log);
        let mode = OpenMode {
            direct: true,
            create: Create::New,
        };
        let file = self.open(&path, mode).await?;
        self.put(key, file);
        Ok(())
    }

    /// Closes a segment's file once nobody uses it.
    pub fn forget(&self, key: SegmentKey) {
        self.open.borrow_mut().remove(key);
    }

    /// Closes all files of a partition.
    pub fn forget_partition(&self, id: PartitionId) {
        self.open.borrow_mut().remove_range(segments_of(id));
    }

    /// Closes all files.
    pub fn clear(&self) {
        self.open.take();
    }

    /// The turns of opening.
    #[cfg(test)]
    pub fn opening(&self) -> &Mutex {
        &self.opening
    }

    /// Opens a file under lock. Without a descriptor for it, half of those that are kept for later go.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<R::File> {
        match open_locked(&self.rt, path, mode).await {
            Err(error) if is_open_refused(&error) => {
                if !self.is_told.replace(true) {
                    tracing::warn!(%error, "files are closed to open others; this is said once");
                }
                let mut open = self.open.borrow_mut();
                for _ in 0..open.len().div_ceil(2) {
                    open.remove_oldest();
                }
            }
            opened => return opened,
        }
        open_locked(&self.rt, path, mode).await
    }

    fn cached(&self, key: SegmentKey) -> Option<R::File> {
        self.open.borrow_mut().get(key).cloned()
    }

    fn put(&self, key: SegmentKey, file: R::File) {
        let mut open = self.open.borrow_mut();
        open.insert(key, file);
        if open.len() > self.limit {
            open.remove_oldest();
        }
    }
}
