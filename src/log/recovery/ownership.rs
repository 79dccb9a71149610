//! Whose checkpoint and whose entries count, of all that shards have said of a partition in one run. Pure.
//!
//! The metadata counts who has owned a partition, and everything that an owner writes of it carries that
//! count. Before a partition has another owner, all that the former one has of it is in segment files, its
//! checkpoint says so durably, and the metadata has the greater epoch. So whatever is of an
//! earlier owner says nothing that is not in the files, and can only be wrong: its end was passed since.
//!
//! An example. Shard 1 owns a partition at epoch 4, its checkpoint says that the log ends at 10, and its
//! journal still has the entries of 0 to 9. Shard 0 takes it over at epoch 5 and appends 10 to 19; its
//! checkpoint says 15, its journal has the entries of 15 to 19. Power is lost.
//!
//! | found | epoch | counts |
//! |---|---|---|
//! | checkpoint of shard 0: end 15 | 5 | yes: the newest |
//! | checkpoint of shard 1: end 10 | 4 | no: from there the entries that follow would leave a gap |
//! | journal of shard 0: 15 to 19 | 5 | yes |
//! | journal of shard 1: 0 to 9, of which 5 to 9 have rotted | 4 | no: nor does the rot, as nothing is lost |
//!
//! Had shard 0 written no checkpoint yet, the one of shard 1 would be the newest: its epoch is 4, that of
//! the metadata 5, and entries count from 5 on. They go on where that checkpoint ends.
//!
//! A start voids all journals by its run, so the new checkpoints carry the epoch that the metadata is
//! about to have, and no more than that. One that was cut short before the metadata had it is found as a
//! checkpoint of epoch 6 beside a metadata of 5, and no entries: the run has none yet.

use std::collections::BTreeMap;

use crate::log::partition::snapshot::Snapshot;
use crate::log::rules::{Rule, holds};
use crate::model::{OwnerEpoch, PartitionId, ShardIndex};

/// Whose entries of a partition count: they are all in one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    journal: ShardIndex,
    since: OwnerEpoch,
}

impl Ownership {
    /// Of the shard that owns it by the metadata, and from which epoch on, by its checkpoint and by the
    /// metadata.
    pub fn new(owner: ShardIndex, checkpointed: OwnerEpoch, in_metadata: OwnerEpoch) -> Self {
        Self {
            journal: owner,
            since: checkpointed.max(in_metadata),
        }
    }

    /// Whether the entries that count are in the journal of this shard.
    pub fn reads(self, journal: ShardIndex) -> bool {
        self.journal == journal
    }

    /// Whether what carries this epoch, in the journal of this shard, counts, be it whole or lost.
    pub fn counts(self, journal: ShardIndex, epoch: OwnerEpoch) -> bool {
        let is_of_newest = epoch >= self.since || !holds(Rule::EarlierEntriesVoid);
        self.reads(journal) && is_of_newest
    }
}

/// Takes in what one more checkpoint says, unless there is one of a later owner.
pub fn keep_newest(contents: &mut BTreeMap<PartitionId, Snapshot>, content: Snapshot) {
    let is_newer = |kept: &Snapshot| kept.owner_epoch() > content.owner_epoch();
    if holds(Rule::NewestOwnerSpeaks) && contents.get(&content.id()).is_some_and(is_newer) {
        return;
    }
    contents.insert(content.id(), content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::partition::snapshot::tests::example;

    #[test]
    fn entries_count_from_the_newest_owner_on() {
        let [owner, other] = [ShardIndex(1), ShardIndex(0)];
        let counts = |checkpointed, in_metadata| {
            let (checkpointed, in_metadata) = (OwnerEpoch(checkpointed), OwnerEpoch(in_metadata));
            let ownership = Ownership::new(owner, checkpointed, in_metadata);
            assert!(!ownership.counts(other, OwnerEpoch(6)));
            [4, 5, 6].map(|epoch| ownership.counts(owner, OwnerEpoch(epoch)))
        };
        assert_eq!(counts(4, 4), [true; 3]);
        assert_eq!(counts(4, 5), [false, true, true]);
        assert_eq!(counts(5, 5), [false, true, true]);
        assert_eq!(counts(6, 5), [false, false, true]);
    }

    #[test]
    fn the_newest_owner_has_the_checkpoint_that_counts() {
        let of = |epoch| example(epoch).owned_by(OwnerEpoch(epoch as u32));
        for epochs in [[4, 5], [5, 4]] {
            let mut contents = BTreeMap::new();
            for epoch in epochs {
                keep_newest(&mut contents, of(epoch));
            }
            assert_eq!(Vec::from_iter(contents.into_values()), [of(5)]);
        }
    }
}
