//! A topic in the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{BrokerId, LeaderEpoch, NodeId, PartitionIndex, ShardIndex, TopicId};

/// Settings by key.
pub type Configs = Arc<BTreeMap<String, String>>;

/// One incarnation of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity across deletion and re-creation of the name.
    pub id: TopicId,
    /// Its partitions; the position is the partition's index.
    pub partitions: Vec<PartitionState>,
    /// The settings of its own.
    pub configs: Configs,
}

/// One partition: who leads it and in which leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its only replica.
    pub placement: Placement,
    /// The leader epoch; rises with every new owner and with every unclean start.
    pub leader_epoch: LeaderEpoch,
    /// Counts the shards that have owned it, so that a former owner knows that it is one.
    pub owner_epoch: u32,
}

/// A shard of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// The shard of that node.
    pub shard: ShardIndex,
}

impl Topic {
    /// A partition by its index.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// All partitions with their indices.
    pub fn indexed(&self) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }
}

impl PartitionState {
    /// A partition that has just been created.
    pub fn new(placement: Placement) -> Self {
        Self {
            placement,
            leader_epoch: LeaderEpoch(0),
            owner_epoch: 0,
        }
    }
}

impl Placement {
    /// The broker that clients are sent to.
    pub fn broker(self) -> BrokerId {
        BrokerId::of(self.node, self.shard)
    }
}
