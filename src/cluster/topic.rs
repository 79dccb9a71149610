//! A topic in the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared_map::SharedMap;
use crate::model::{BrokerId, LeaderEpoch, NodeId, PartitionIndex, ShardIndex, TopicId};

/// Settings by key.
pub type Configs = Arc<BTreeMap<String, String>>;

/// One incarnation of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Unique among all topics, deleted ones included while they have files under it.
    pub name: Arc<str>,
    /// Its identity across deletion and re-creation of the name.
    pub id: TopicId,
    /// Its partitions, numbered from 0 without gaps.
    pub partitions: SharedMap<PartitionIndex, PartitionState>,
    /// The settings of its own.
    pub configs: Configs,
}

/// One partition: who has it, who leads it, and in which leader epoch. With one replica, that one
/// leads and is the ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Who has it; the first is the preferred leader. Never two on a node.
    pub replicas: Arc<[Replica]>,
    /// One of the replicas, or none while none may lead.
    pub leader: Option<Placement>,
    /// The in-sync replicas, the leader among them.
    pub isr: Arc<[Placement]>,
    /// Rises with every new leader and with every unclean start of the leader's node.
    pub leader_epoch: LeaderEpoch,
    /// Version of this record (Kafka's partition epoch): rises with every change of it, so that a
    /// proposal made on an older one is recognised.
    pub partition_epoch: u32,
}

/// A copy of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The shard that owns it.
    pub placement: Placement,
    /// Counts the shards of this node that have owned it: says whose journal speaks for it.
    pub owner_epoch: u32,
}

/// A shard of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    pub node: NodeId,
    /// The shard of that node.
    pub shard: ShardIndex,
}

impl Topic {
    /// A partition by its index.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(&index)
    }

    /// Kafka's partition count.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// The largest number of replicas that a partition has.
    pub fn replication_factor(&self) -> i16 {
        let counts = self.partitions.values().map(|state| state.replicas.len());
        i16::try_from(counts.max().unwrap_or(0)).unwrap_or(i16::MAX)
    }

    /// All partitions with their indices.
    pub fn indexed(&self) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        self.indexed_from(PartitionIndex(0))
    }

    /// The partitions from an index on.
    pub fn indexed_from(
        &self,
        first: PartitionIndex,
    ) -> impl Iterator<Item = (PartitionIndex, &PartitionState)> {
        let entries = self.partitions.iter_from(&first);
        entries.map(|(index, state)| (*index, state))
    }
}

impl PartitionState {
    /// A partition that has just been created, with one replica.
    pub fn new(placement: Placement) -> Self {
        Self {
            replicas: Arc::new([Replica {
                placement,
                owner_epoch: 0,
            }]),
            leader: Some(placement),
            isr: Arc::new([placement]),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        }
    }

    /// The replica of a node, if it has one.
    pub fn replica_of(&self, node: NodeId) -> Option<&Replica> {
        let mut replicas = self.replicas.iter();
        replicas.find(|replica| replica.placement.node == node)
    }

    /// Whether this shard has a replica.
    pub fn is_on(&self, shard: Placement) -> bool {
        let mut replicas = self.replicas.iter();
        replicas.any(|replica| replica.placement == shard)
    }

    /// Whether this node leads it.
    pub fn is_led_by(&self, node: NodeId) -> bool {
        self.leader.is_some_and(|leader| leader.node == node)
    }
}

impl Placement {
    /// The broker that clients are sent to.
    pub fn broker(self) -> BrokerId {
        BrokerId::of(self.node, self.shard)
    }
}
