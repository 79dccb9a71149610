//! One record more: from an image to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{Image, NodeState};
use super::records::{ConfigChanges, Move, Record};
use super::topic::{PartitionState, Placement, Replica, Topic};
use crate::model::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId};

/// A record that does not follow from the image. In a log that the controller wrote there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The cluster has another id already.
    #[error("the cluster has an id already")]
    ClusterExists,
    /// The topic's name or id is taken.
    #[error("topic '{0}' exists already")]
    TopicExists(Arc<str>),
    /// No topic of that id.
    #[error("no topic has the id {0}")]
    UnknownTopic(TopicId),
    /// No such partition, or not the next one.
    #[error("topic {0} has no place for partition {1}")]
    WrongPartition(TopicId, PartitionIndex),
    /// An epoch that does not rise.
    #[error("partition {1} of topic {0} does not get a higher epoch")]
    StaleEpoch(TopicId, PartitionIndex),
    /// Producer ids that were given out before.
    #[error("producer ids up to {0} are given out already")]
    StaleProducerIds(ProducerId),
}

impl Image {
    /// The image after one more record.
    pub fn apply(&self, record: &Record) -> Result<Self, ApplyError> {
        let mut next = self.clone();
        match record {
            Record::ClusterCreated { cluster_id } => next.create_cluster(cluster_id)?,
            Record::RunStarted {
                node,
                shards,
                after_clean_stop,
            } => {
                next.start_run(*node, *shards, *after_clean_stop);
            }
            Record::TopicCreated {
                name,
                id,
                partitions,
                configs,
            } => {
                next.create_topic(name, *id, partitions, configs)?;
            }
            Record::PartitionsAdded {
                id,
                first,
                partitions,
            } => {
                next.add_partitions(*id, *first, partitions)?;
            }
            Record::PartitionsMoved { moves } => next.move_partitions(moves)?,
            Record::TopicDeleted { id } => next.delete_topic(*id)?,
            Record::TopicPurged { id } => next.purge_topic(*id)?,
            Record::TopicConfigChanged { id, changes } => next.configure_topic(*id, changes)?,
            Record::BrokerConfigChanged { node, changes } => next.configure_broker(*node, changes),
            Record::ProducerIdsAllocated { next: first } => next.allocate_producer_ids(*first)?,
        }
        Ok(next)
    }

    /// The image after several records, in order.
    pub fn apply_all<'r>(
        &self,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Result<Self, ApplyError> {
        records
            .into_iter()
            .try_fold(self.clone(), |image, record| image.apply(record))
    }

    fn create_cluster(&mut self, cluster_id: &Arc<str>) -> Result<(), ApplyError> {
        match self.cluster_id.replace(Arc::clone(cluster_id)) {
            Some(_) => Err(ApplyError::ClusterExists),
            None => Ok(()),
        }
    }

    fn start_run(&mut self, node: NodeId, shards: u16, after_clean_stop: bool) {
        Arc::make_mut(&mut self.nodes).insert(node, NodeState { shards });
        if after_clean_stop {
            return;
        }
        let raised = |(index, state): (PartitionIndex, &PartitionState)| {
            let mut state = state.clone();
            if state.is_led_by(node) {
                state.leader_epoch = LeaderEpoch(state.leader_epoch.0.saturating_add(1));
                state.partition_epoch = state.partition_epoch.saturating_add(1);
            }
            (index, state)
        };
        let topics: Vec<_> = self.topics().cloned().collect();
        for topic in topics {
            if topic.partitions.values().any(|state| state.is_led_by(node)) {
                let partitions = topic.indexed().map(raised).collect();
                self.put(Topic {
                    partitions,
                    ..Topic::clone(&topic)
                });
            }
        }
    }

    fn create_topic(
        &mut self,
        name: &Arc<str>,
        id: TopicId,
        partitions: &[PartitionState],
        configs: &BTreeMap<String, String>,
    ) -> Result<(), ApplyError> {
        let taken = self.by_name.get(name).is_some() || self.leaving.get(name).is_some();
        if taken || self.by_id.get(&id).is_some() {
            return Err(ApplyError::TopicExists(Arc::clone(name)));
        }
        self.count(id, partitions, 1);
        if let Some(metric_name) = metric_name(name) {
            self.by_metric_name.insert(metric_name, Arc::clone(name));
        }
        self.put(Topic {
            name: Arc::clone(name),
            id,
            partitions: numbered(PartitionIndex(0), partitions).collect(),
            configs: Arc::new(configs.clone()),
        });
        Ok(())
    }

    fn add_partitions(
        &mut self,
        id: TopicId,
        first: PartitionIndex,
        partitions: &[PartitionState],
    ) -> Result<(), ApplyError> {
        let mut topic = self.own_topic(id)?;
        if usize::try_from(first.0) != Ok(topic.partitions.len()) {
            return Err(ApplyError::WrongPartition(id, first));
        }
        for (index, state) in numbered(first, partitions) {
            topic.partitions.insert(index, state);
        }
        self.count(id, partitions, 1);
        self.put(topic);
        Ok(())
    }

    /// Moves of one topic that follow each other change it once.
    fn move_partitions(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        for of_topic in moves.chunk_by(|one, next| one.topic == next.topic) {
            let Some(Move { topic: id, .. }) = of_topic.first() else {
                continue;
            };
            let mut topic = self.own_topic(*id)?;
            for moved in of_topic {
                self.move_one(&mut topic, moved)?;
            }
            self.put(topic);
        }
        Ok(())
    }

    fn move_one(&mut self, topic: &mut Topic, moved: &Move) -> Result<(), ApplyError> {
        let wrong = || ApplyError::WrongPartition(topic.id, moved.index);
        let former = topic.partition(moved.index).ok_or_else(wrong)?.clone();
        let replica = former.replica_of(moved.placement.node).ok_or_else(wrong)?;
        if moved.leader_epoch <= former.leader_epoch || moved.owner_epoch <= replica.owner_epoch {
            return Err(ApplyError::StaleEpoch(topic.id, moved.index));
        }
        let (from, to) = (replica.placement, moved.placement);
        let new_place = |place: Placement| if place == from { to } else { place };
        let new_replica = |replica: &Replica| {
            if replica.placement != from {
                return *replica;
            }
            Replica {
                placement: to,
                owner_epoch: moved.owner_epoch,
            }
        };
        let state = PartitionState {
            replicas: former.replicas.iter().map(new_replica).collect(),
            leader: former.leader.map(new_place),
            isr: former.isr.iter().copied().map(new_place).collect(),
            leader_epoch: moved.leader_epoch,
            partition_epoch: former.partition_epoch.saturating_add(1),
        };
        self.count(topic.id, std::slice::from_ref(&former), -1);
        self.count(topic.id, std::slice::from_ref(&state), 1);
        topic.partitions.insert(moved.index, state);
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        self.by_name.remove(&topic.name);
        if let Some(metric_name) = metric_name(&topic.name) {
            self.by_metric_name.remove(&metric_name);
        }
        self.count(id, topic.partitions.values(), -1);
        self.leaving.insert(Arc::clone(&topic.name), topic);
        Ok(())
    }

    fn purge_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.leaving.values().find(|topic| topic.id == id).cloned();
        let topic = topic.ok_or(ApplyError::UnknownTopic(id))?;
        self.leaving.remove(&topic.name);
        Ok(())
    }

    fn configure_topic(&mut self, id: TopicId, changes: &ConfigChanges) -> Result<(), ApplyError> {
        let mut topic = self.own_topic(id)?;
        change(Arc::make_mut(&mut topic.configs), changes);
        self.put(topic);
        Ok(())
    }

    fn configure_broker(&mut self, node: Option<NodeId>, changes: &ConfigChanges) {
        let all = Arc::make_mut(&mut self.broker_configs);
        let configs = all.entry(node).or_default();
        change(Arc::make_mut(configs), changes);
        if configs.is_empty() {
            all.remove(&node);
        }
    }

    fn allocate_producer_ids(&mut self, next: ProducerId) -> Result<(), ApplyError> {
        if next.0 <= self.next_producer_id {
            return Err(ApplyError::StaleProducerIds(self.next_producer_id()));
        }
        self.next_producer_id = next.0;
        Ok(())
    }

    fn own_topic(&self, id: TopicId) -> Result<Topic, ApplyError> {
        self.topic_by_id(id)
            .map(|topic| Topic::clone(topic))
            .ok_or(ApplyError::UnknownTopic(id))
    }

    fn put(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(Arc::clone(&topic.name), topic);
    }

    /// Counts replicas of a topic to their shards, or with −1 off them.
    fn count<'p>(
        &mut self,
        topic: TopicId,
        partitions: impl IntoIterator<Item = &'p PartitionState>,
        sign: isize,
    ) {
        let mut counts: BTreeMap<Placement, isize> = BTreeMap::new();
        for state in partitions {
            for replica in state.replicas.iter() {
                *counts.entry(replica.placement).or_default() += sign;
            }
        }
        let load = Arc::make_mut(&mut self.load);
        for (shard, by) in counts {
            let all = load.get(&shard).copied().unwrap_or(0);
            match all.saturating_add_signed(by) {
                0 => load.remove(&shard),
                all => load.insert(shard, all),
            };
            let of_topic = self.owned.get(&(shard, topic)).copied().unwrap_or(0);
            match of_topic.saturating_add_signed(by) {
                0 => self.owned.remove(&(shard, topic)),
                count => self.owned.insert((shard, topic), count),
            };
        }
    }
}

fn numbered(
    first: PartitionIndex,
    partitions: &[PartitionState],
) -> impl Iterator<Item = (PartitionIndex, PartitionState)> {
    let indices = (first.0..=i32::MAX).map(PartitionIndex);
    indices.zip(partitions.iter().cloned())
}

/// What a topic's name is in names of metrics, where '.' becomes '_'; `None` for a name that has
/// neither, which no other name can collide with.
pub(super) fn metric_name(name: &str) -> Option<Arc<str>> {
    name.contains(['.', '_'])
        .then(|| name.replace('.', "_").into())
}

/// Applies changes of settings to the ones there are.
pub(super) fn change(configs: &mut BTreeMap<String, String>, changes: &ConfigChanges) {
    for (key, value) in changes {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
}
