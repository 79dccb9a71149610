//! Indexes of sealed segments, loaded when needed and bounded in memory.

use std::cell::RefCell;
use std::rc::Rc;

use crate::log::segment::index::SegmentIndex;
use crate::log::segment::open_files::{SegmentKey, segments_of};
use crate::log::segment::recent::Recent;
use crate::model::PartitionId;

/// The most recently used indexes of a shard.
#[derive(Debug)]
pub struct IndexCache {
    limit_bytes: usize,
    cached: RefCell<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    indexes: Recent<SegmentKey, Rc<SegmentIndex>>,
    bytes: usize,
}

impl IndexCache {
    /// None yet; they may take `limit_bytes`, or are one.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            cached: RefCell::default(),
        }
    }

    /// The index of a segment, if it is here.
    pub fn get(&self, key: SegmentKey) -> Option<Rc<SegmentIndex>> {
        self.cached.borrow_mut().indexes.get(key).cloned()
    }

    /// Keeps an index, at the price of the least recently used ones.
    pub fn put(&self, key: SegmentKey, index: Rc<SegmentIndex>) {
        let cached = &mut *self.cached.borrow_mut();
        cached.bytes += index.memory_bytes();
        let before = cached.indexes.insert(key, index);
        cached.count_out(before);
        while cached.bytes > self.limit_bytes && cached.indexes.len() > 1 {
            let oldest = cached.indexes.remove_oldest();
            cached.count_out(oldest);
        }
    }

    /// Forgets the index of a segment.
    pub fn remove(&self, key: SegmentKey) {
        let mut cached = self.cached.borrow_mut();
        let gone = cached.indexes.remove(key);
        cached.count_out(gone);
    }

    /// Forgets the indexes of a partition.
    pub fn remove_partition(&self, id: PartitionId) {
        let mut cached = self.cached.borrow_mut();
        let gone = cached.indexes.remove_range(segments_of(id));
        cached.count_out(gone);
    }
}

impl Cached {
    fn count_out(&mut self, gone: impl IntoIterator<Item = Rc<SegmentIndex>>) {
        for index in gone {
            self.bytes -= index.memory_bytes();
        }
    }
}
