//! What of a shard's partitions is written and not durable yet.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::log::segment::open_files::SegmentKey;
use crate::model::{PartitionId, PartitionSlot};
use crate::rt::Mutex;

/// Segments that were written to, and directories that first appends have made.
#[derive(Default)]
pub struct Unsynced {
    segments: RefCell<BTreeSet<SegmentKey>>,
    dirs: RefCell<Vec<PartitionSlot>>,
    /// Partitions whose directories may be on another file system than the data directory.
    elsewhere: RefCell<BTreeSet<PartitionId>>,
    /// Whose turn it is to make directories durable.
    pub dirs_turn: Mutex,
}

impl Unsynced {
    /// A segment was written to, or cut.
    pub fn add_segment(&self, key: SegmentKey) {
        self.segments.borrow_mut().insert(key);
    }

    /// A partition's directory was made.
    pub fn add_dir(&self, slot: PartitionSlot) {
        self.dirs.borrow_mut().push(slot);
    }

    /// A partition's directory may be a link to another file system.
    pub fn add_elsewhere(&self, partition: PartitionId) {
        self.elsewhere.borrow_mut().insert(partition);
    }

    /// Whether a sync of the data directory's file system is not enough for a partition.
    pub fn may_be_elsewhere(&self, partition: PartitionId) -> bool {
        self.elsewhere.borrow().contains(&partition)
    }

    /// The segments that are listed, to be made durable: who writes to one meanwhile lists it again.
    pub fn take_segments(&self) -> BTreeSet<SegmentKey> {
        self.segments.take()
    }

    /// They are not durable.
    pub fn put_back_segments(&self, mut segments: BTreeSet<SegmentKey>) {
        self.segments.borrow_mut().append(&mut segments);
    }

    /// The partitions whose directories are listed, to be made durable.
    pub fn take_dirs(&self) -> Vec<PartitionSlot> {
        self.dirs.take()
    }

    /// They are not durable.
    pub fn put_back_dirs(&self, dirs: Vec<PartitionSlot>) {
        self.dirs.borrow_mut().extend(dirs);
    }

    /// The segments that are listed.
    #[cfg(test)]
    pub fn segments(&self) -> BTreeSet<SegmentKey> {
        self.segments.borrow().clone()
    }
}
