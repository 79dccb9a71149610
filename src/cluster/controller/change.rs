//! A change of the metadata as data: what can be asked for, and what comes of it.
//!
//! Nothing in here points at the node that asks: a change could cross a wire. Ids are drawn by the
//! asker, so that a change that is asked for again after a lost answer is recognised.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::ControllerError;
use crate::model::{BrokerId, NodeId, PartitionIndex, ProducerId, TopicId};

/// What is to change. Each item of a list is decided by itself, on the image that those before it
/// lead to; one that is refused holds up no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node starts; see [`Record::RunStarted`](crate::cluster::Record::RunStarted).
    StartNode(NodeStart),
    /// Topics are created.
    CreateTopics(Vec<NewTopic>),
    /// Topics get more partitions.
    CreatePartitions(Vec<NewPartitions>),
    /// Topics are deleted. Their names are free after [`Change::PurgeTopics`] alone.
    DeleteTopics(Vec<TopicKey>),
    /// Every owner has renamed the files of these deleted topics, durably.
    PurgeTopics(Vec<TopicId>),
    /// Settings change at run time.
    AlterConfigs(Vec<ConfigAlteration>),
    /// A shard needs producer ids to give out.
    AllocateProducerIds,
}

/// One item of a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum ChangeItem<'c> {
    StartNode(&'c NodeStart),
    CreateTopic(&'c NewTopic),
    CreatePartitions(&'c NewPartitions),
    DeleteTopic(&'c TopicKey),
    PurgeTopic(TopicId),
    AlterConfig(&'c ConfigAlteration),
    AllocateProducerIds,
}

/// What has been made of one item of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The node is known with its shards, its leader epochs are raised.
    Node,
    /// A topic is there.
    Topic {
        /// Which.
        id: TopicId,
        /// How many partitions it has.
        partition_count: i32,
        /// How many replicas each of them has.
        replication_factor: i16,
    },
    /// A topic has more partitions.
    Partitions {
        /// Which.
        id: TopicId,
        /// How many it has now.
        partition_count: i32,
    },
    /// A topic is no more.
    Deleted {
        /// Which it was.
        id: TopicId,
        /// The name that it had.
        name: Arc<str>,
    },
    /// A deleted topic's name is free.
    Purged,
    /// Settings are as asked for, whether they were already or not.
    Configured,
    /// Producer ids, for the asker alone.
    ProducerIds(ProducerIdBlock),
}

/// Ids for one shard to give out, once the record is durable. What a crash leaves of them is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// Behind the last of them.
    pub end: ProducerId,
}

/// What has become of each item, in the order of the change.
pub type Outcome = Vec<Result<Made, ControllerError>>;

/// A node's new run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStart {
    /// The id of the cluster that begins with it, if it is the first one.
    pub cluster_id: Arc<str>,
    pub node: NodeId,
    /// Its number of shards.
    pub shards: u16,
    /// Whether its last run ended with everything durable.
    pub after_clean_stop: bool,
}

/// A topic that someone asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// A random id, never used before.
    pub id: TopicId,
    /// Number of partitions; −1 for the default.
    pub partition_count: i32,
    /// Number of replicas; −1 for the default, which is 1.
    pub replication_factor: i16,
    /// Where the partitions go, where the client says so.
    pub assignments: Vec<Assignment>,
    /// The settings of its own.
    pub configs: BTreeMap<String, String>,
}

/// Where a client wants a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub index: PartitionIndex,
    /// The brokers of its replicas.
    pub brokers: Vec<BrokerId>,
}

/// Partitions that someone asks to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub name: String,
    /// The number of partitions that it shall have.
    pub total_count: i32,
    /// The brokers of each new partition's replicas, where the client says so.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// How a client names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicKey {
    /// Whichever has the name now.
    Name(String),
    /// One incarnation.
    Id(TopicId),
}

/// Settings of one target that are to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigAlteration {
    /// Whose.
    pub target: ConfigTarget,
    /// How.
    pub edit: ConfigEdit,
}

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigTarget {
    Topic(String),
    /// A node's, or with `None` the cluster's default.
    Broker(Option<NodeId>),
}

/// How settings change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigEdit {
    /// To these and no others (AlterConfigs).
    Replace(Vec<(String, Option<String>)>),
    /// These alone (IncrementalAlterConfigs, KIP-339).
    Steps(Vec<Alteration>),
}

/// One step of IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    pub key: String,
    /// What is done to it.
    pub op: AlterOp,
    /// With what; nothing for [`AlterOp::Delete`].
    pub value: Option<String>,
}

/// Kafka's `AlterConfigOp.OpType`, in the order of its numbers from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// Sets the key.
    Set,
    /// Takes the key back to its default.
    Delete,
    /// Adds words to a list.
    Append,
    /// Takes words from a list.
    Subtract,
}

impl Change {
    /// The item at a place, from 0.
    pub(super) fn item(&self, at: usize) -> Option<ChangeItem<'_>> {
        match self {
            Self::StartNode(start) => (at == 0).then_some(ChangeItem::StartNode(start)),
            Self::CreateTopics(topics) => topics.get(at).map(ChangeItem::CreateTopic),
            Self::CreatePartitions(asked) => asked.get(at).map(ChangeItem::CreatePartitions),
            Self::DeleteTopics(keys) => keys.get(at).map(ChangeItem::DeleteTopic),
            Self::PurgeTopics(ids) => ids.get(at).copied().map(ChangeItem::PurgeTopic),
            Self::AlterConfigs(asked) => asked.get(at).map(ChangeItem::AlterConfig),
            Self::AllocateProducerIds => (at == 0).then_some(ChangeItem::AllocateProducerIds),
        }
    }

    /// Whether it makes room instead of taking some, or is what that begins with: such a change goes
    /// through when the disk is full.
    pub fn frees_space(&self) -> bool {
        matches!(
            self,
            Self::StartNode(_) | Self::DeleteTopics(_) | Self::PurgeTopics(_)
        )
    }
}
