//! Damage that reads have come upon, so that each place is told of once: clients ask again and
//! again.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::log::segment::open_files::SegmentKey;
use crate::model::PartitionId;

/// Errors that are remembered. Beyond, all are forgotten, and told again.
const LIMIT: usize = 1024;

/// The errors of reads that were told.
#[derive(Debug, Default)]
pub struct Damage {
    told: RefCell<BTreeSet<(SegmentKey, String)>>,
}

impl Damage {
    /// Whether this error, which names the place, has not been told yet. It counts as told then.
    pub fn is_news(&self, key: SegmentKey, error: &str) -> bool {
        let mut told = self.told.borrow_mut();
        if told.len() >= LIMIT {
            told.clear();
        }
        told.insert((key, error.to_owned()))
    }

    /// Forgets a partition, whose files may be another's from now on.
    pub fn forget_partition(&self, id: PartitionId) {
        self.told.borrow_mut().retain(|(key, _)| key.0 != id);
    }

    /// How many were told.
    #[cfg(test)]
    pub fn told_count(&self) -> usize {
        self.told.borrow().len()
    }
}
