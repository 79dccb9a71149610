//! What a change of metadata means on a shard.
//!
//! The image is taken over at once. What follows from the records is done behind, each change by a
//! task of its own and in slices, so that a topic of ten thousand partitions holds up neither
//! requests nor the next change. Whatever a task does, it does by the image of that moment: a
//! partition whose topic has been deleted meanwhile is not made any more.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::configs::dynamic_configs;
use super::control::ChangeError;
use super::lanes::{Applied, RoomTicket};
use super::{PARTITIONS_AT_ONCE, Shard};
use crate::cluster::{Image, PartitionState, Record, Topic};
use crate::log::{HeldRoom, PartitionSpec, StorageError};
use crate::model::{OwnerEpoch, PartitionId, PartitionIndex, TopicId};
use crate::partition::{Partition, PartitionConfig};
use crate::rt::Runtime;

impl<R: Runtime> Shard<R> {
    /// Holds room for partitions that are about to be decided on.
    pub async fn hold_room(
        &self,
        ticket: RoomTicket,
        topics: &[(Arc<str>, usize)],
    ) -> Result<(), ChangeError> {
        let topics = topics.iter().map(|(name, count)| (&**name, *count));
        let room = self.inner.log.reserve_partitions(topics).await?;
        self.inner.rooms.borrow_mut().insert(ticket, room);
        Ok(())
    }

    /// Gives back the room of a change that takes none of it.
    pub fn let_go_room(&self, ticket: RoomTicket) {
        self.inner.rooms.borrow_mut().remove(&ticket);
    }

    /// Takes over the image that records lead to, and then, in the future, does what they say, in the
    /// room that is held for it. What cannot be made is logged, leaves the partition unusable for its
    /// clients, and is tried again with [`Shard::make_missing`].
    pub fn apply(
        &self,
        records: Arc<[Record]>,
        image: Arc<Image>,
        room: Option<RoomTicket>,
    ) -> impl Future<Output = Applied> + use<R> {
        self.inner.image.replace(image);
        let shard = self.clone();
        let room = room.and_then(|ticket| self.inner.rooms.borrow_mut().remove(&ticket));
        async move { shard.carry_out(&records, room).await }
    }

    async fn carry_out(&self, records: &[Record], room: Option<HeldRoom>) -> Applied {
        let mut applied = Applied::default();
        let mut created = Vec::new();
        for record in records {
            match record {
                Record::TopicCreated { id, partitions, .. } => {
                    let first = PartitionIndex(0);
                    created.extend(self.owned_of(*id, first, partitions));
                }
                Record::PartitionsAdded {
                    id,
                    first,
                    partitions,
                } => created.extend(self.owned_of(*id, *first, partitions)),
                Record::TopicDeleted { id } => {
                    applied.has_undeleted |= !self.delete_topic(*id).await;
                }
                Record::TopicConfigChanged { id, .. } => self.reconfigure_topic(*id).await,
                Record::BrokerConfigChanged { .. } => self.reconfigure().await,
                Record::ClusterCreated { .. }
                | Record::RunStarted { .. }
                | Record::PartitionsMoved { .. }
                | Record::TopicPurged { .. }
                | Record::ProducerIdsAllocated { .. } => {}
            }
        }
        self.make(created, room).await;
        applied
    }

    fn owned_of<'p>(
        &self,
        topic: TopicId,
        first: PartitionIndex,
        partitions: &'p [PartitionState],
    ) -> impl Iterator<Item = PartitionId> + use<'p, R> {
        let place = self.inner.place;
        let numbered = (first.0..).map(PartitionIndex).zip(partitions);
        numbered
            .filter(move |(_, state)| state.is_on(place))
            .map(move |(index, _)| PartitionId { topic, index })
    }

    /// Makes every partition that the image gives to this shard, at its start.
    pub(super) async fn make_all(&self) {
        let image = self.image();
        let all = image.partitions_of(self.inner.place);
        let ids = all.map(|(topic, index, _)| PartitionId {
            topic: topic.id,
            index,
        });
        self.make(ids.collect(), None).await;
    }

    /// Tries again to make what could not be made before.
    pub async fn make_missing(&self) {
        let unmade = self.inner.unmade.borrow().iter().copied().collect();
        self.make(unmade, None).await;
    }

    /// Makes partitions, a slice at a time, in the room that is held for them, or that is asked for now.
    async fn make(&self, ids: Vec<PartitionId>, mut held: Option<HeldRoom>) {
        for slice in ids.chunks(PARTITIONS_AT_ONCE) {
            let mut found = match held {
                Some(_) => None,
                None => Some(self.find_room(slice).await),
            };
            let image = self.image();
            for id in slice {
                // One that has been deleted meanwhile is made no more.
                let Some(topic) = image.topic_by_id(id.topic) else {
                    self.inner.unmade.borrow_mut().remove(id);
                    continue;
                };
                if let Some(room) = held.as_mut().or(found.as_mut()) {
                    let made = self.make_one(topic, *id, room);
                    self.note_made(topic, *id, made);
                }
            }
            self.inner.rt.yield_now().await;
        }
    }

    /// Room for those of these that have no log yet; none at all where there is too little.
    async fn find_room(&self, ids: &[PartitionId]) -> HeldRoom {
        let (image, log) = (self.image(), &self.inner.log);
        let new = ids.iter().filter(|id| log.partition(**id).is_none());
        let topics = new.filter_map(|id| image.topic_by_id(id.topic));
        let found = log.reserve_partitions(topics.map(|topic| (&*topic.name, 1)));
        found.await.unwrap_or_else(|_| log.no_room())
    }

    fn note_made(&self, topic: &Topic, id: PartitionId, made: Result<(), StorageError>) {
        let mut unmade = self.inner.unmade.borrow_mut();
        match made {
            Ok(()) => {
                unmade.remove(&id);
            }
            Err(error) => {
                let (topic, index) = (&topic.name, id.index);
                tracing::error!(%topic, %index, %error, "partition cannot be created");
                unmade.insert(id);
            }
        }
    }

    fn make_one(
        &self,
        topic: &Arc<Topic>,
        id: PartitionId,
        room: &mut HeldRoom,
    ) -> Result<(), StorageError> {
        if self.inner.partitions.borrow().get(id).is_some() || self.offline(id).is_some() {
            return Ok(());
        }
        let Some(state) = topic.partition(id.index) else {
            return Ok(());
        };
        let config = self.config_of(topic);
        let log = match self.inner.log.partition(id) {
            Some(log) => log,
            None => {
                let spec = PartitionSpec {
                    id,
                    topic: topic.name.to_string(),
                    leader_epoch: state.leader_epoch,
                    owner_epoch: state
                        .replica_of(self.inner.place.node)
                        .map_or(OwnerEpoch::default(), |replica| {
                            OwnerEpoch(replica.owner_epoch)
                        }),
                    config: config.log.clone(),
                };
                self.inner.log.create_partition(spec, room)?
            }
        };
        log.raise_leader_epoch(state.leader_epoch);
        let partition = Partition::lead(topic.name.clone(), log, config)?;
        self.inner.partitions.borrow_mut().insert(id, partition);
        Ok(())
    }

    /// Why a partition that has files cannot be used; nothing brings it back.
    fn offline(&self, id: PartitionId) -> Option<StorageError> {
        let failure = self.inner.log.partition(id)?.failure()?;
        matches!(failure, StorageError::PartitionOffline(_)).then_some(failure)
    }

    /// Whether a partition of this shard could not be made, or has files that cannot be used.
    pub(super) fn is_unusable(&self, id: PartitionId) -> bool {
        self.inner.unmade.borrow().contains(&id) || self.offline(id).is_some()
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

    /// Gives whether nothing of the topic is under its name any more.
    async fn delete_topic(&self, topic: TopicId) -> bool {
        self.inner.partitions.borrow_mut().remove_topic(topic);
        self.inner
            .unmade
            .borrow_mut()
            .retain(|id| id.topic != topic);
        let image = self.image();
        let Some(topic) = image.leaving_topics().find(|leaving| leaving.id == topic) else {
            return true;
        };
        let mut all_deleted = true;
        let mut deleting = FuturesUnordered::new();
        for (index, state) in topic.indexed() {
            let id = PartitionId {
                topic: topic.id,
                index,
            };
            if !state.is_on(self.inner.place) {
                continue;
            }
            if deleting.len() >= PARTITIONS_AT_ONCE {
                all_deleted &= deleting.next().await.unwrap_or(true);
            }
            deleting.push(self.delete_partition(topic, id));
        }
        while let Some(deleted) = deleting.next().await {
            all_deleted &= deleted;
        }
        all_deleted
    }

    /// By the log's list, not the shard's: one that is offline is in the log alone, and one whose
    /// creation failed half-way is in neither.
    async fn delete_partition(&self, topic: &Topic, id: PartitionId) -> bool {
        let log = &self.inner.log;
        let deleted = match log.delete_partition(id).await {
            Ok(()) => log.discard_unfinished(&topic.name, id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &deleted {
            let (topic, index) = (&topic.name, id.index);
            tracing::error!(%topic, %index, %error, "partition cannot be deleted");
        }
        deleted.is_ok()
    }

    async fn reconfigure_topic(&self, id: TopicId) {
        let of_topic: Vec<_> = {
            let partitions = self.inner.partitions.borrow();
            partitions.of_topic(id).map(|(_, p)| p.clone()).collect()
        };
        for slice in of_topic.chunks(PARTITIONS_AT_ONCE) {
            if let Some(topic) = self.image().topic_by_id(id) {
                let config = self.config_of(topic);
                for partition in slice {
                    partition.set_config(config.clone());
                }
            }
            self.inner.rt.yield_now().await;
        }
    }

    async fn reconfigure(&self) {
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
        let image = self.image();
        for topic in image.topics_of(self.inner.place) {
            self.reconfigure_topic(topic.id).await;
        }
    }

    /// What a topic's settings mean for its partitions, under the broker's of now.
    fn config_of(&self, topic: &Topic) -> Rc<PartitionConfig> {
        self.inner.configs.config_of(topic, &self.config())
    }
}
