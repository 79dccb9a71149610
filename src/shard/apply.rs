//! What a change of metadata means on a shard.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Shard;
use super::config_check::dynamic_configs;
use crate::cluster::{Image, PartitionState, Record, Topic};
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::{PartitionSpec, StorageError};
use crate::model::{PartitionId, PartitionIndex, TopicId};
use crate::partition::{Partition, PartitionConfig};
use crate::rt::Runtime;

/// Partitions created at the same time: enough to share directory flushes.
const CREATED_AT_ONCE: usize = 64;

impl<R: Runtime> Shard<R> {
    /// Applies records that lead to `image`. What cannot be created is logged, leaves the partition
    /// broken for its clients, and is tried again with [`Shard::repair`].
    ///
    /// Gives whether all that is deleted is off its name.
    pub async fn apply(&self, records: &[Record], image: Arc<Image>) -> bool {
        self.inner.image.replace(image);
        let mut all_deleted = true;
        for record in records {
            match record {
                Record::TopicCreated { .. } | Record::PartitionsAdded { .. } => {}
                Record::TopicDeleted { id } => all_deleted &= self.delete_topic(*id).await,
                Record::TopicConfigChanged { id, .. } => self.reconfigure_topic(*id),
                Record::BrokerConfigChanged { .. } => self.reconfigure(),
                Record::ClusterCreated { .. }
                | Record::RunStarted { .. }
                | Record::PartitionsMoved { .. }
                | Record::TopicPurged { .. }
                | Record::ProducerIdsAllocated { .. } => {}
            }
        }
        let creates = |record: &Record| {
            matches!(
                record,
                Record::TopicCreated { .. } | Record::PartitionsAdded { .. }
            )
        };
        if records.iter().any(creates) {
            self.repair().await;
        }
        all_deleted
    }

    /// Creates the partitions that the image gives to this shard and that it does not have.
    pub async fn repair(&self) {
        let _turn = self.inner.changing.acquire(1).await;
        let image = self.image();
        let missing: Vec<_> = image
            .partitions_of(self.inner.place)
            .filter(|(topic, index, _)| {
                let id = PartitionId {
                    topic: topic.id,
                    index: *index,
                };
                self.inner.partitions.borrow().get(id).is_none() && self.offline(id).is_none()
            })
            .collect();
        let mut creating = FuturesUnordered::new();
        for (topic, index, state) in missing {
            if creating.len() >= CREATED_AT_ONCE {
                creating.next().await;
            }
            creating.push(self.create(topic, index, state));
        }
        while creating.next().await.is_some() {}
    }

    /// Why a partition that has files cannot be used; nothing repairs it.
    fn offline(&self, id: PartitionId) -> Option<StorageError> {
        let failure = self.inner.log.partition(id)?.failure()?;
        matches!(failure, StorageError::PartitionOffline(_)).then_some(failure)
    }

    /// Tells of the partitions that the start has found damaged. Once: they stay so.
    pub(super) fn tell_offline(&self) {
        for log in self.inner.log.partitions() {
            if let Some(error) = self.offline(log.id()) {
                tracing::error!(topic = %log.topic(), index = %log.id().index, %error,
                    "neither reads nor writes until the topic is deleted");
            }
        }
    }

    async fn create(&self, topic: &Arc<Topic>, index: PartitionIndex, state: &PartitionState) {
        let id = PartitionId {
            topic: topic.id,
            index,
        };
        if let Err(error) = self.try_create(topic, id, state).await {
            tracing::error!(topic = %topic.name, %index, %error, "partition cannot be created");
        }
    }

    async fn try_create(
        &self,
        topic: &Arc<Topic>,
        id: PartitionId,
        state: &PartitionState,
    ) -> Result<(), StorageError> {
        let config = partition_config(topic, &self.config());
        let log = match self.inner.log.partition(id) {
            Some(log) => log,
            None => {
                let spec = PartitionSpec {
                    id,
                    topic: topic.name.to_string(),
                    leader_epoch: state.leader_epoch,
                    config: config.log.clone(),
                };
                self.inner.log.create_partition(spec).await?
            }
        };
        log.raise_leader_epoch(state.leader_epoch).await?;
        let partition = Partition::lead(topic.name.clone(), log, config)?;
        self.inner.partitions.borrow_mut().insert(id, partition);
        Ok(())
    }

    async fn delete_topic(&self, topic: TopicId) -> bool {
        let _turn = self.inner.changing.acquire(1).await;
        self.inner.partitions.borrow_mut().remove_topic(topic);
        let image = self.image();
        let Some(topic) = image.leaving_topics().find(|leaving| leaving.id == topic) else {
            return true;
        };
        let mut all_deleted = true;
        for (index, state) in topic.indexed() {
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            if state.placement != self.inner.place {
                continue;
            }
            if let Err(error) = self.delete_partition(&topic.name, id).await {
                let topic = &topic.name;
                tracing::error!(%topic, %index, %error, "partition cannot be deleted");
                all_deleted = false;
            }
        }
        all_deleted
    }

    /// By the log's list, not the shard's: one that is offline is in the log alone, and one whose
    /// creation failed half-way is in neither.
    async fn delete_partition(&self, topic: &str, id: PartitionId) -> Result<(), StorageError> {
        let log = &self.inner.log;
        log.delete_partition(id).await?;
        log.discard_unfinished(topic, id).await
    }

    fn reconfigure_topic(&self, id: TopicId) {
        let image = self.image();
        let Some(topic) = image.topic_by_id(id) else {
            return;
        };
        let config = partition_config(topic, &self.config());
        for (_, partition) in self.inner.partitions.borrow().of_topic(topic.id) {
            partition.set_config(config.clone());
        }
    }

    fn reconfigure(&self) {
        let dynamic = dynamic_configs(&self.image(), self.inner.place.node);
        match self.inner.settings.resolve(&dynamic) {
            Ok(config) => {
                self.inner.config.replace(Arc::new(config));
            }
            Err(error) => {
                tracing::error!(%error, "settings of run time do not hold; the old ones stay");
                return;
            }
        }
        for topic in self.image().topics() {
            self.reconfigure_topic(topic.id);
        }
    }
}

/// What a topic's settings mean for its partitions.
pub(super) fn partition_config(topic: &Topic, broker: &BrokerConfig) -> Rc<PartitionConfig> {
    let config = TopicConfig::resolve(broker, &topic.configs).or_else(|error| {
        // A default that was fine at creation can stop being so, as with a smaller journal.
        tracing::error!(topic = %topic.name, %error, "topic has invalid settings; defaults hold");
        TopicConfig::resolve(broker, &Default::default())
    });
    match config {
        Ok(config) => Rc::new(PartitionConfig::new(&config, broker)),
        Err(error) => unreachable!("a broker's own defaults were checked at its start: {error}"),
    }
}
