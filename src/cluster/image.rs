//! The state that metadata records add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::shared_map::SharedMap;
use super::topic::{Configs, PartitionState, Placement, Topic};
use crate::model::{NodeId, PartitionId, PartitionIndex, ProducerId, ShardIndex, TopicId};

/// The cluster's metadata at one point of its log. Never changes; [`Image::apply`] makes the next
/// one, which shares with this one whatever stays. Copies are cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub(super) cluster_id: Option<Arc<str>>,
    pub(super) nodes: Arc<BTreeMap<NodeId, NodeState>>,
    pub(super) by_name: SharedMap<Arc<str>, Arc<Topic>>,
    pub(super) by_id: SharedMap<TopicId, Arc<Topic>>,
    /// Names with '.' or '_', '.' written as '_': what counts as the same in names of metrics.
    pub(super) by_metric_name: SharedMap<Arc<str>, Arc<str>>,
    /// How many partitions of which topic a shard has.
    pub(super) owned: SharedMap<(Placement, TopicId), usize>,
    /// Deleted, but with files under their name.
    pub(super) leaving: SharedMap<Arc<str>, Arc<Topic>>,
    /// Under `None`, the cluster's default.
    pub(super) broker_configs: Arc<BTreeMap<Option<NodeId>, Configs>>,
    pub(super) next_producer_id: i64,
    /// Partitions per shard, so that new ones go where there are fewest.
    pub(super) load: Arc<BTreeMap<Placement, usize>>,
}

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its number of shards in its newest run.
    pub shards: u16,
}

impl Image {
    /// Kafka's `cluster.id`; `None` before the first record.
    pub fn cluster_id(&self) -> Option<&Arc<str>> {
        self.cluster_id.as_ref()
    }

    /// All nodes, ids rising.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, NodeState)> {
        self.nodes.iter().map(|(id, state)| (*id, *state))
    }

    /// A node that everything here is of, when `node` is none of the cluster: what it would start from
    /// is not its own.
    pub fn owner_other_than(&self, node: NodeId) -> Option<NodeId> {
        match self.nodes.contains_key(&node) {
            true => None,
            false => self.nodes.keys().next().copied(),
        }
    }

    /// A node by its id.
    pub fn node(&self, id: NodeId) -> Option<NodeState> {
        self.nodes.get(&id).copied()
    }

    /// Every shard of every node: the brokers that clients see, in order.
    pub fn shards(&self) -> impl Iterator<Item = Placement> {
        self.nodes().flat_map(|(node, state)| {
            (0..state.shards).map(move |shard| Placement {
                node,
                shard: ShardIndex(shard),
            })
        })
    }

    /// All topics, names rising.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.by_name.len()
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// A partition: who owns it, and in which leader epoch.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionState> {
        self.topic_by_id(id.topic)?.partition(id.index)
    }

    /// The partitions of which a shard has a replica, by topic id and index. Costs what the topics
    /// cost of which it has any.
    pub fn partitions_of(
        &self,
        owner: Placement,
    ) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &PartitionState)> {
        self.topics_of(owner).flat_map(move |topic| {
            let indexed = topic.indexed();
            let here = indexed.filter(move |(_, state)| state.is_on(owner));
            here.map(move |(index, state)| (topic, index, state))
        })
    }

    /// The topics of which a shard has a replica, by their ids.
    pub fn topics_of(&self, owner: Placement) -> impl Iterator<Item = &Arc<Topic>> {
        let from = self.owned.iter_from(&(owner, TopicId::ZERO));
        from.take_while(move |((other, _), _)| *other == owner)
            .filter_map(|((_, topic), _)| self.topic_by_id(*topic))
    }

    /// A deleted topic that still has files under its name.
    pub fn leaving_topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.leaving.get(name)
    }

    /// Deleted topics whose files have not all been renamed yet, names rising.
    pub fn leaving_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.leaving.values()
    }

    /// What was set at run time for a node, or for `None` as the cluster's default.
    pub fn broker_configs(&self, node: Option<NodeId>) -> Configs {
        self.broker_configs.get(&node).cloned().unwrap_or_default()
    }

    /// The first producer id that no shard was given.
    pub fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer_id)
    }
}
