//! Creating, growing and deleting topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Draft;
use super::change::{Change, Made, NewPartitions, NewTopic, Outcome, TopicKey};
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

/// Of each topic of which a change may make partitions: its name, and how many of them one shard may
/// get at most, as long as the image stays as it is. Nothing for what is going to be refused.
///
/// An example with 3 shards: of a new topic with 7 partitions, which go in turns, one gets 3 at most; of
/// 7 that are assigned to brokers, one may get all.
pub fn most_per_shard(
    image: &Image,
    rules: &impl Rules,
    change: &Change,
) -> Vec<(Arc<str>, usize)> {
    let shards = image.shards().count().max(1);
    let most = |name: &str, count: i64, assigned: bool| {
        let count = usize::try_from(count).unwrap_or(0);
        let most = if assigned {
            count
        } else {
            count.div_ceil(shards)
        };
        (Arc::from(name), most)
    };
    let (counts, most): (Vec<i64>, Vec<_>) = match change {
        Change::CreateTopics(topics) => {
            let default_count = rules.default_partition_count(image);
            let one = |new: &NewTopic| {
                let count = count_of(new, default_count);
                (count, most(&new.name, count, !new.assignments.is_empty()))
            };
            topics.iter().map(one).unzip()
        }
        Change::CreatePartitions(asked) => {
            let one = |new: &NewPartitions| {
                let now = image.topic(&new.name).map(|topic| topic.partition_count());
                let count = now.map_or(0, |now| i64::from(new.total_count) - i64::from(now));
                (count, most(&new.name, count, new.assignments.is_some()))
            };
            asked.iter().map(one).unzip()
        }
        _ => return Vec::new(),
    };
    let all = counts.iter().filter(|count| **count > 0).sum();
    match check_count(all) {
        Ok(()) => most.into_iter().filter(|(_, count)| *count > 0).collect(),
        Err(_) => Vec::new(),
    }
}

/// How many partitions a new topic is to have.
fn count_of(new: &NewTopic, default_count: i32) -> i64 {
    match new.partition_count {
        _ if !new.assignments.is_empty() => new.assignments.len() as i64,
        -1 => i64::from(default_count),
        count => i64::from(count).max(0),
    }
}

/// Decides on new topics. All are refused where they have too many partitions together.
pub(super) fn create_all(draft: &mut Draft, rules: &impl Rules, topics: &[NewTopic]) -> Outcome {
    let default_count = rules.default_partition_count(&draft.image);
    let count = topics.iter().map(|new| count_of(new, default_count)).sum();
    if let Err(refusal) = check_count(count) {
        return topics.iter().map(|_| Err(refusal.clone())).collect();
    }
    let times = times_named(topics.iter().map(|new| new.name.as_str()));
    let create = |new: &NewTopic| {
        check_named_once(&times, &new.name)?;
        create(draft, rules, default_count, new)
    };
    topics.iter().map(create).collect()
}

fn create(
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
    let states = new_states(owners);
    let (first, further) = states.split_at(states.len().min(PARTITIONS_PER_RECORD));
    draft.add(Record::TopicCreated {
        name: new.name.as_str().into(),
        id: new.id,
        partitions: first.to_vec(),
        configs: new.configs.clone(),
    })?;
    add_partitions(draft, new.id, PARTITIONS_PER_RECORD, further)?;
    named(&draft.image, &new.name).map(|topic| made(topic))
}

/// Decides on more partitions for topics.
pub(super) fn grow_all(draft: &mut Draft, asked: &[NewPartitions]) -> Outcome {
    let times = times_named(asked.iter().map(|new| new.name.as_str()));
    let mut left = i64::from(MAX_NEW_PARTITIONS);
    let grow = |new: &NewPartitions| {
        check_named_once(&times, &new.name)?;
        grow(draft, new, &mut left)
    };
    asked.iter().map(grow).collect()
}

fn grow(draft: &mut Draft, new: &NewPartitions, left: &mut i64) -> Result<Made, ControllerError> {
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
    add_partitions(draft, id, first, &new_states(owners))?;
    *left -= added;
    Ok(Made::Partitions {
        id,
        partition_count: new.total_count,
    })
}

/// Adds partitions from an index on, in records of their length.
fn add_partitions(
    draft: &mut Draft,
    id: TopicId,
    mut first: usize,
    states: &[PartitionState],
) -> Result<(), ControllerError> {
    for states in states.chunks(PARTITIONS_PER_RECORD) {
        draft.add(Record::PartitionsAdded {
            id,
            first: PartitionIndex(i32::try_from(first).unwrap_or(i32::MAX)),
            partitions: states.to_vec(),
        })?;
        first += states.len();
    }
    Ok(())
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

fn times_named<'n>(names: impl Iterator<Item = &'n str>) -> BTreeMap<&'n str, usize> {
    let mut times = BTreeMap::new();
    names.for_each(|name| *times.entry(name).or_default() += 1);
    times
}

fn check_named_once(times: &BTreeMap<&str, usize>, name: &str) -> Result<(), ControllerError> {
    match times.get(name) {
        Some(2..) => Err(InvalidRequest("The request names the topic twice.".into())),
        _ => Ok(()),
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

fn check_count(count: i64) -> Result<(), ControllerError> {
    if count <= i64::from(MAX_NEW_PARTITIONS) {
        return Ok(());
    }
    Err(PolicyViolation(format!(
        "One request can add {MAX_NEW_PARTITIONS} partitions at most, not {count}."
    )))
}
