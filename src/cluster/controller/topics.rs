//! Creating, growing and deleting topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::configs::ConfigRules;
use super::error::ControllerError::{self, *};
use super::names::{check_free, check_topic_name};
use super::placement::{round, round_after, shard_of};
use crate::cluster::image::Image;
use crate::cluster::records::Record;
use crate::cluster::topic::{PartitionState, Placement, Topic};
use crate::model::{BrokerId, PartitionIndex, TopicId};

/// Partitions that one request can add to a topic (Kafka's own bound per request).
pub const MAX_NEW_PARTITIONS: i32 = 10_000;

/// Partitions that a topic can have: its record stays far below the longest one.
pub const MAX_PARTITIONS: i32 = 100_000;

/// A topic that someone asks for.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
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
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The partition.
    pub index: PartitionIndex,
    /// The brokers of its replicas.
    pub brokers: Vec<BrokerId>,
}

/// Partitions that someone asks to be added.
#[derive(Clone, Debug)]
pub struct NewPartitions {
    /// The topic.
    pub name: String,
    /// The number of partitions that it shall have.
    pub total_count: i32,
    /// The brokers of each new partition's replicas, where the client says so.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Decides on a new topic; `default_partitions` is the node's `num.partitions`.
pub fn create_topic(
    image: &Image,
    rules: &impl ConfigRules,
    default_partitions: i32,
    new: NewTopic,
) -> Result<Vec<Record>, ControllerError> {
    check_topic_name(&new.name)?;
    check_free(image, &new.name)?;
    let owners = if new.assignments.is_empty() {
        owners_in_turn(image, &new, default_partitions)?
    } else {
        owners_as_assigned(image, &new)?
    };
    rules.check_topic(&new.configs).map_err(InvalidConfig)?;
    Ok(vec![Record::TopicCreated {
        name: new.name.into(),
        id: new.id,
        partitions: owners.into_iter().map(PartitionState::new).collect(),
        configs: new.configs,
    }])
}

/// Decides on more partitions for a topic.
pub fn add_partitions(image: &Image, new: &NewPartitions) -> Result<Vec<Record>, ControllerError> {
    let topic = named(image, &new.name)?;
    let first = topic.partitions.len() as i64;
    let added = i64::from(new.total_count) - first;
    check_growth(topic, new.total_count, added)?;
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
    Ok(vec![Record::PartitionsAdded {
        id: topic.id,
        first: PartitionIndex(first as i32),
        partitions: owners.into_iter().map(PartitionState::new).collect(),
    }])
}

/// Decides on the deletion of a topic. Its name is free only after [`purge_topic`].
pub fn delete_topic(image: &Image, id: TopicId) -> Result<Vec<Record>, ControllerError> {
    match image.topic_by_id(id) {
        Some(_) => Ok(vec![Record::TopicDeleted { id }]),
        None => Err(UnknownTopicId(id)),
    }
}

/// Decides that a deleted topic's name is free, once every owner has renamed its files.
pub fn purge_topic(image: &Image, id: TopicId) -> Result<Vec<Record>, ControllerError> {
    match image.leaving_topics().any(|topic| topic.id == id) {
        true => Ok(vec![Record::TopicPurged { id }]),
        false => Err(UnknownTopicId(id)),
    }
}

pub(super) fn named<'i>(image: &'i Image, name: &str) -> Result<&'i Arc<Topic>, ControllerError> {
    image
        .topic(name)
        .ok_or_else(|| UnknownTopic(name.to_string()))
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
    check_count(count)?;
    Ok(round(image)?.take(count as usize).collect())
}

fn owners_as_assigned(image: &Image, new: &NewTopic) -> Result<Vec<Placement>, ControllerError> {
    if new.partition_count != -1 || new.replication_factor != -1 {
        return Err(InvalidRequest(
            "Where brokers are assigned, the numbers of partitions and replicas must be -1.".into(),
        ));
    }
    check_count(i32::try_from(new.assignments.len()).unwrap_or(i32::MAX))?;
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
    let (name, count) = (&topic.name, topic.partitions.len());
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
    check_count(i32::try_from(added).unwrap_or(i32::MAX))
}

fn check_count(count: i32) -> Result<(), ControllerError> {
    if count <= MAX_NEW_PARTITIONS {
        return Ok(());
    }
    Err(PolicyViolation(format!(
        "One request can add {MAX_NEW_PARTITIONS} partitions at most, not {count}."
    )))
}
