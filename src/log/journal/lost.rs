//! What a scan tells of writes that cannot be read any more.

use super::Sequence;
use super::format::EntryHead;
use crate::model::{Offset, PartitionId};

/// Rot: writes that had been flushed are not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostWrites {
    /// The first of them.
    pub first: Sequence,
    /// The one after the last of them.
    pub end: Sequence,
    /// What is known all the same. None when no table can be read any more: then every partition
    /// without a later entry that continues it may have lost some, and any a log start.
    pub kept: Option<Kept>,
}

/// What the table of a write says whose payload is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whose bytes it carried.
    pub partitions: Vec<PartitionId>,
    /// Log starts, which stand in the table.
    pub log_starts: Vec<(PartitionId, Offset)>,
}

impl Kept {
    pub(super) fn of(heads: &[EntryHead]) -> Self {
        let mut kept = Self::default();
        for head in heads {
            match *head {
                EntryHead::Data { partition, .. } => kept.partitions.push(partition),
                EntryHead::LogStart {
                    partition,
                    log_start,
                } => kept.log_starts.push((partition, log_start)),
            }
        }
        kept
    }
}
