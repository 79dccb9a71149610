//! One record more: from an image to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{Image, NodeState};
use super::records::{ConfigChanges, Move, Record};
use super::topic::{PartitionState, Topic};
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
        let led = |state: &PartitionState| state.placement.node == node;
        let topics: Vec<_> = self
            .topics()
            .filter(|t| t.partitions.iter().any(led))
            .cloned()
            .collect();
        for topic in topics {
            let mut topic = Topic::clone(&topic);
            for state in topic.partitions.iter_mut().filter(|state| led(state)) {
                state.leader_epoch = LeaderEpoch(state.leader_epoch.0.saturating_add(1));
            }
            self.put(topic);
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
        self.count(partitions, 1);
        self.put(Topic {
            name: Arc::clone(name),
            id,
            partitions: partitions.to_vec(),
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
        topic.partitions.extend_from_slice(partitions);
        self.count(partitions, 1);
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
        let wrong = ApplyError::WrongPartition(topic.id, moved.index);
        let index = usize::try_from(moved.index.0).map_err(|_| wrong.clone())?;
        let state = topic.partitions.get_mut(index).ok_or(wrong)?;
        if moved.leader_epoch <= state.leader_epoch || moved.owner_epoch <= state.owner_epoch {
            return Err(ApplyError::StaleEpoch(topic.id, moved.index));
        }
        self.count(std::slice::from_ref(state), -1);
        *state = PartitionState {
            placement: moved.placement,
            leader_epoch: moved.leader_epoch,
            owner_epoch: moved.owner_epoch,
        };
        self.count(std::slice::from_ref(state), 1);
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        self.by_name.remove(&topic.name);
        self.count(&topic.partitions, -1);
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

    fn count(&mut self, partitions: &[PartitionState], by: isize) {
        let load = Arc::make_mut(&mut self.load);
        for state in partitions {
            let count = load.entry(state.placement).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                load.remove(&state.placement);
            }
        }
    }
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
