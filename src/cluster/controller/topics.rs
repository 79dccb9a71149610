//! Creating, growing and deleting topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Draft;
use super::change::{Change, Made, NewPartitions, NewTopic, TopicKey};
use super::error::ControllerError::{self, *};
use super::names::{check_free, check_topic_name};
use super::placement::{round, round_after, shard_of};
use super::rules::Rules;
use crate::cluster::image::Image;
use crate::cluster::records::{PARTITIONS_PER_RECORD, Record};
use crate::cluster::topic::{PartitionState, Placement, Topic};
use crate::model::{BrokerId, PartitionIndex, TopicId};

/// Partitions that one request can add, to all its topics together (Kafka's own bound).
pub const MAX_NEW_PARTITIONS: i32 = 10_000;

/// Partitions that a topic can have: its record stays far below the longest one.
pub const MAX_PARTITIONS: i32 = 100_000;

/// How many partitions a change may make of one topic.
#[derive(Clone, Copy, Debug)]
pub struct NewPartitionCount<'c> {
    name: &'c str,
    count: i64,
    /// Whether the client says which brokers have them.
    is_assigned: bool,
}

/// How many partitions a change may make of each topic that it names, as long as the image stays as it
/// is. A new topic that does not say how many has `default_count`.
pub fn new_partition_counts<'c>(
    image: &Image,
    default_count: i32,
    change: &'c Change,
) -> impl Iterator<Item = NewPartitionCount<'c>> {
    let (created, grown): (&[NewTopic], &[NewPartitions]) = match change {
        Change::CreateTopics(topics) => (topics, &[]),
        Change::CreatePartitions(asked) => (&[], asked),
        _ => (&[], &[]),
    };
    let of_new = move |new: &'c NewTopic| NewPartitionCount {
        name: &new.name,
        count: count_of(new, default_count),
        is_assigned: !new.assignments.is_empty(),
    };
    let of_grown = |new: &'c NewPartitions| {
        let now = image.topic(&new.name).map(|topic| topic.partition_count());
        NewPartitionCount {
            name: &new.name,
            count: now.map_or(0, |now| i64::from(new.total_count) - i64::from(now)),
            is_assigned: new.assignments.is_some(),
        }
    };
    created.iter().map(of_new).chain(grown.iter().map(of_grown))
}

/// The room that each shard must hold for a change: of each topic, how many partitions one shard may get
/// at most.
///
/// An example with 3 shards: of a new topic with 7 partitions, which go in turns, one gets 3 at most; of
/// 7 that are assigned to brokers, one may get all.
#[derive(Debug)]
pub struct RoomNeeded {
    shards: i64,
    all: i64,
    topics: Vec<(Arc<str>, usize)>,
}

impl RoomNeeded {
    /// None yet, on the shards of an image.
    pub fn on(image: &Image) -> Self {
        Self {
            shards: image.shards().count().max(1) as i64,
            all: 0,
            topics: Vec::new(),
        }
    }

    /// One topic more.
    pub fn add(&mut self, new: NewPartitionCount<'_>) {
        let most = match new.is_assigned {
            true => new.count,
            false => (new.count + self.shards - 1) / self.shards,
        };
        if new.count > 0 {
            self.all += new.count;
            let most = usize::try_from(most).unwrap_or(0);
            self.topics.push((Arc::from(new.name), most));
        }
    }

    /// Of each topic its name and how many; nothing for what is going to be refused.
    pub fn per_topic(self) -> Vec<(Arc<str>, usize)> {
        match check_count(self.all) {
            Ok(()) => self.topics,
            Err(_) => Vec::new(),
        }
    }
}

/// How many partitions a new topic is to have.
pub(super) fn count_of(new: &NewTopic, default_count: i32) -> i64 {
    match new.partition_count {
        _ if !new.assignments.is_empty() => new.assignments.len() as i64,
        -1 => i64::from(default_count),
        count => i64::from(count).max(0),
    }
}

/// Decides on a new topic. What does not fit its first record is left to be added.
pub(super) fn create(
    draft: &mut Draft,
    rules: &impl Rules,
    default_count: i32,
    new: &NewTopic,
) -> Result<Made, ControllerError> {
    check_topic_name(&new.name)?;
    let asked_again = draft.image.topic(&new.name);
    if let Some(topic) = asked_again.filter(|topic| topic.id == new.id) {
        return Ok(made(topic));
    }
    check_free(&draft.image, &new.name)?;
    let owners = if new.assignments.is_empty() {
        owners_in_turn(&draft.image, new, default_count)?
    } else {
        owners_as_assigned(&draft.image, new)?
    };
    let checked = rules.check_topic(&draft.image, &new.configs);
    checked.map_err(InvalidConfig)?;
    let mut states = new_states(owners);
    let partition_count = i32::try_from(states.len()).unwrap_or(i32::MAX);
    let further = states.split_off(states.len().min(PARTITIONS_PER_RECORD));
    draft.add(Record::TopicCreated {
        name: new.name.as_str().into(),
        id: new.id,
        partitions: states,
        configs: new.configs.clone(),
    })?;
    draft.leave(new.id, PARTITIONS_PER_RECORD, further);
    Ok(Made::Topic {
        id: new.id,
        partition_count,
        replication_factor: named(&draft.image, &new.name)?.replication_factor(),
    })
}

/// Decides on more partitions for a topic, which are left to be added; all topics have `left` together.
pub(super) fn grow(
    draft: &mut Draft,
    new: &NewPartitions,
    left: &mut i64,
) -> Result<Made, ControllerError> {
    let image = &draft.image;
    let topic = named(image, &new.name)?;
    let first = topic.partition_count();
    let added = i64::from(new.total_count) - i64::from(first);
    check_growth(topic, new.total_count, added)?;
    check_count(i64::from(MAX_NEW_PARTITIONS) - *left + added)?;
    let owners: Vec<Placement> = match &new.assignments {
        None => round_after(image, topic)?.take(added as usize).collect(),
        Some(given) if given.len() as i64 != added => {
            return Err(InvalidAssignment(format!(
                "{added} partitions are added, but {} are assigned to brokers.",
                given.len()
            )));
        }
        Some(given) => given
            .iter()
            .map(|b| only_replica(image, b))
            .collect::<Result<_, _>>()?,
    };
    let id = topic.id;
    let first = topic.partitions.len();
    draft.leave(id, first, new_states(owners));
    *left -= added;
    Ok(Made::Partitions {
        id,
        partition_count: new.total_count,
    })
}

/// The states of partitions that are created with these owners. Those of one owner share what they
/// say.
fn new_states(owners: Vec<Placement>) -> Vec<PartitionState> {
    let mut by_owner = BTreeMap::new();
    let state = |owner| {
        let state = by_owner.entry(owner);
        state.or_insert_with(|| PartitionState::new(owner)).clone()
    };
    owners.into_iter().map(state).collect()
}

/// Decides on the deletion of a topic. Its name is free only after [`purge`].
pub(super) fn delete(
    draft: &mut Draft,
    rules: &impl Rules,
    key: &TopicKey,
) -> Result<Made, ControllerError> {
    let topic = match key {
        TopicKey::Name(name) => named(&draft.image, name)?,
        TopicKey::Id(id) => draft.image.topic_by_id(*id).ok_or(UnknownTopicId(*id))?,
    };
    if !rules.can_delete_topics(&draft.image) {
        return Err(DeletionDisabled);
    }
    let (id, name) = (topic.id, topic.name.clone());
    draft.add(Record::TopicDeleted { id })?;
    Ok(Made::Deleted { id, name })
}

/// Decides that a deleted topic's name is free, once every owner has renamed its files.
pub(super) fn purge(draft: &mut Draft, id: TopicId) -> Result<Made, ControllerError> {
    if draft.image.leaving_topics().all(|topic| topic.id != id) {
        return Err(UnknownTopicId(id));
    }
    draft.add(Record::TopicPurged { id })?;
    Ok(Made::Purged)
}

pub(super) fn named<'i>(image: &'i Image, name: &str) -> Result<&'i Arc<Topic>, ControllerError> {
    image
        .topic(name)
        .ok_or_else(|| UnknownTopic(name.to_string()))
}

fn made(topic: &Topic) -> Made {
    Made::Topic {
        id: topic.id,
        partition_count: topic.partition_count(),
        replication_factor: topic.replication_factor(),
    }
}

fn owners_in_turn(
    image: &Image,
    new: &NewTopic,
    default_partitions: i32,
) -> Result<Vec<Placement>, ControllerError> {
    let replicas = new.replication_factor;
    if replicas == 0 || replicas < -1 {
        return Err(InvalidReplicationFactor(
            "The replication factor must be 1 or more, or -1 for the default.".into(),
        ));
    }
    let nodes = image.nodes().count();
    if replicas > 1 {
        return Err(InvalidReplicationFactor(format!(
            "The replication factor {replicas} needs as many nodes; there are {nodes}, and \
             replicas never share a node."
        )));
    }
    let count = match new.partition_count {
        -1 => default_partitions,
        count => count,
    };
    if count < 1 {
        return Err(InvalidPartitions(
            "The number of partitions must be 1 or more, or -1 for the default.".into(),
        ));
    }
    Ok(round(image)?.take(count as usize).collect())
}

fn owners_as_assigned(image: &Image, new: &NewTopic) -> Result<Vec<Placement>, ControllerError> {
    if new.partition_count != -1 || new.replication_factor != -1 {
        return Err(InvalidRequest(
            "Where brokers are assigned, the numbers of partitions and replicas must be -1.".into(),
        ));
    }
    let mut by_index: Vec<_> = new.assignments.iter().collect();
    by_index.sort_by_key(|assignment| assignment.index);
    let expected = (0..).map(PartitionIndex);
    if !by_index
        .iter()
        .map(|assignment| assignment.index)
        .eq(expected.take(by_index.len()))
    {
        return Err(InvalidAssignment(
            "Partitions must be numbered from 0 without gaps.".into(),
        ));
    }
    by_index
        .iter()
        .map(|assignment| only_replica(image, &assignment.brokers))
        .collect()
}

fn only_replica(image: &Image, brokers: &[BrokerId]) -> Result<Placement, ControllerError> {
    match brokers {
        [] => Err(InvalidAssignment("Each partition needs a broker.".into())),
        [broker] => shard_of(image, *broker),
        many => Err(InvalidReplicationFactor(format!(
            "A partition cannot have {} replicas: replication does not exist yet.",
            many.len()
        ))),
    }
}

fn check_growth(topic: &Topic, total_count: i32, added: i64) -> Result<(), ControllerError> {
    let (name, count) = (&topic.name, topic.partition_count());
    if added <= 0 {
        return Err(InvalidPartitions(format!(
            "Topic '{name}' has {count} partitions; {total_count} would not be more."
        )));
    }
    if total_count > MAX_PARTITIONS {
        return Err(PolicyViolation(format!(
            "A topic can have {MAX_PARTITIONS} partitions at most, not {total_count}."
        )));
    }
    Ok(())
}

pub(super) fn check_count(count: i64) -> Result<(), ControllerError> {
    if count <= i64::from(MAX_NEW_PARTITIONS) {
        return Ok(());
    }
    Err(PolicyViolation(format!(
        "One request can add {MAX_NEW_PARTITIONS} partitions at most, not {count}."
    )))
}
