//! Indexes of sealed segments, loaded when needed and bounded in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::log::segment::index::SegmentIndex;
use crate::log::segment::open_files::SegmentKey;
use crate::model::PartitionId;

/// Memory that cached indexes may take.
const LIMIT_BYTES: usize = 16 << 20;

/// The most recently used indexes of a shard.
#[derive(Debug, Default)]
pub struct IndexCache {
    entries: RefCell<BTreeMap<SegmentKey, (Rc<SegmentIndex>, u64)>>,
    bytes: Cell<usize>,
    clock: Cell<u64>,
}

impl IndexCache {
    /// The index of a segment, if it is here.
    pub fn get(&self, key: SegmentKey) -> Option<Rc<SegmentIndex>> {
        let now = self.tick();
        let mut entries = self.entries.borrow_mut();
        let (index, used) = entries.get_mut(&key)?;
        *used = now;
        Some(index.clone())
    }

    /// Keeps an index, at the price of the least recently used ones.
    pub fn put(&self, key: SegmentKey, index: Rc<SegmentIndex>) {
        self.remove(key);
        self.bytes.set(self.bytes.get() + index.memory_bytes());
        let now = self.tick();
        self.entries.borrow_mut().insert(key, (index, now));
        while self.bytes.get() > LIMIT_BYTES && self.entries.borrow().len() > 1 {
            let oldest = {
                let entries = self.entries.borrow();
                entries
                    .iter()
                    .min_by_key(|(_, (_, used))| *used)
                    .map(|(key, _)| *key)
            };
            match oldest {
                Some(oldest) => self.remove(oldest),
                None => return,
            }
        }
    }

    /// Forgets the index of a segment.
    pub fn remove(&self, key: SegmentKey) {
        if let Some((index, _)) = self.entries.borrow_mut().remove(&key) {
            self.bytes.set(self.bytes.get() - index.memory_bytes());
        }
    }

    /// Forgets the indexes of a partition.
    pub fn remove_partition(&self, id: PartitionId) {
        let keys: Vec<_> = {
            let entries = self.entries.borrow();
            entries.keys().filter(|key| key.0 == id).copied().collect()
        };
        for key in keys {
            self.remove(key);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}
