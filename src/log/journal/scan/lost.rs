//! What a scan tells of writes that cannot be read any more.

use crate::log::journal::format::{ChangeHead, EntryHead};
use crate::log::journal::{EventChange, PartitionEvent, Sequence};
use crate::model::{OwnerEpoch, PartitionId};

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
    /// Whose bytes it carried, and the owner epoch that stood then.
    pub partitions: Vec<(PartitionId, OwnerEpoch)>,
    /// Events, which stand in the table.
    pub events: Vec<(PartitionId, OwnerEpoch, PartitionEvent)>,
}

impl Kept {
    pub(super) fn of(heads: &[EntryHead]) -> Self {
        let mut kept = Self::default();
        for head in heads {
            match *head {
                EntryHead::Data { .. } => kept.partitions.push(head.owner()),
                EntryHead::Event {
                    partition,
                    owner_epoch,
                    number,
                    change: ChangeHead::LogStart(log_start),
                } => {
                    let change = EventChange::LogStart(log_start);
                    kept.events
                        .push((partition, owner_epoch, PartitionEvent { number, change }));
                }
                // Without it the segments that were to be replaced are those of the log: their files
                // are there until a checkpoint says otherwise.
                EntryHead::Event {
                    change: ChangeHead::SegmentsReplaced { .. },
                    ..
                } => {}
            }
        }
        kept
    }
}
