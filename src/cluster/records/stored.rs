//! The stored form of records: protocol buffers, so that fields can be added.
//!
//! Tags are never used again for something else. [`FORMAT_VERSION`] rises when a record can no
//! longer be understood by leaving out what is unknown. Version 1 was never released and is not read.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use uuid::Uuid;

use super::{MAX_RECORD_BYTES, Move, Record, RecordError};
use crate::cluster::topic::{PartitionState, Placement, Replica};
use crate::model::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, ShardIndex, TopicId};

/// The form that is written, and the only one that is read.
pub(super) const FORMAT_VERSION: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(oneof = "Change", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    change: Option<Change>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Change {
    #[prost(string, tag = "2")]
    ClusterCreated(String),
    #[prost(message, tag = "3")]
    RunStarted(RunStarted),
    #[prost(message, tag = "4")]
    TopicCreated(TopicCreated),
    #[prost(message, tag = "5")]
    PartitionsAdded(PartitionsAdded),
    #[prost(message, tag = "6")]
    PartitionsMoved(PartitionsMoved),
    #[prost(message, tag = "7")]
    TopicDeleted(Id),
    #[prost(message, tag = "8")]
    TopicPurged(Id),
    #[prost(message, tag = "9")]
    TopicConfigChanged(TopicConfigChanged),
    #[prost(message, tag = "10")]
    BrokerConfigChanged(BrokerConfigChanged),
    #[prost(uint64, tag = "11")]
    ProducerIdsAllocated(u64),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RunStarted {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint32, tag = "2")]
    shards: u32,
    #[prost(bool, tag = "3")]
    after_clean_stop: bool,
}

#[derive(Clone, PartialEq, Message)]
struct TopicCreated {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    id: Option<Id>,
    #[prost(message, repeated, tag = "3")]
    partitions: Vec<Partition>,
    #[prost(btree_map = "string, string", tag = "4")]
    configs: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionsAdded {
    #[prost(message, optional, tag = "1")]
    id: Option<Id>,
    #[prost(uint32, tag = "2")]
    first: u32,
    #[prost(message, repeated, tag = "3")]
    partitions: Vec<Partition>,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionsMoved {
    #[prost(message, repeated, tag = "1")]
    moves: Vec<StoredMove>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredMove {
    #[prost(message, optional, tag = "1")]
    topic: Option<Id>,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(message, optional, tag = "3")]
    to: Option<StoredReplica>,
    #[prost(uint32, tag = "4")]
    leader_epoch: u32,
}

#[derive(Clone, PartialEq, Message)]
struct TopicConfigChanged {
    #[prost(message, optional, tag = "1")]
    id: Option<Id>,
    #[prost(btree_map = "string, message", tag = "2")]
    changes: BTreeMap<String, StoredValue>,
}

#[derive(Clone, PartialEq, Message)]
struct BrokerConfigChanged {
    #[prost(uint32, optional, tag = "1")]
    node: Option<u32>,
    #[prost(btree_map = "string, message", tag = "2")]
    changes: BTreeMap<String, StoredValue>,
}

/// Absent: the key is taken back.
#[derive(Clone, PartialEq, Message)]
struct StoredValue {
    #[prost(string, optional, tag = "1")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Partition {
    #[prost(message, repeated, tag = "1")]
    replicas: Vec<StoredReplica>,
    /// Its place among the replicas, from 1 on; 0 is none.
    #[prost(uint32, tag = "2")]
    leader: u32,
    /// Their places among the replicas, from 1 on.
    #[prost(uint32, repeated, tag = "3")]
    isr: Vec<u32>,
    #[prost(uint32, tag = "4")]
    leader_epoch: u32,
    #[prost(uint32, tag = "5")]
    partition_epoch: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredReplica {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint32, tag = "2")]
    shard: u32,
    #[prost(uint32, tag = "3")]
    owner_epoch: u32,
}

/// A topic id as two halves.
#[derive(Clone, Copy, PartialEq, Message)]
struct Id {
    #[prost(fixed64, tag = "1")]
    high: u64,
    #[prost(fixed64, tag = "2")]
    low: u64,
}

pub(super) fn encode(record: &Record) -> Vec<u8> {
    let change = match record.clone() {
        Record::ClusterCreated { cluster_id } => Change::ClusterCreated(cluster_id.to_string()),
        Record::RunStarted {
            node,
            shards,
            after_clean_stop,
        } => Change::RunStarted(RunStarted {
            node: node.0.cast_unsigned(),
            shards: shards.into(),
            after_clean_stop,
        }),
        Record::TopicCreated {
            name,
            id,
            partitions,
            configs,
        } => Change::TopicCreated(TopicCreated {
            name: name.to_string(),
            id: Some(id.into()),
            partitions: partitions.into_iter().map(Partition::from).collect(),
            configs,
        }),
        Record::PartitionsAdded {
            id,
            first,
            partitions,
        } => Change::PartitionsAdded(PartitionsAdded {
            id: Some(id.into()),
            first: first.0.cast_unsigned(),
            partitions: partitions.into_iter().map(Partition::from).collect(),
        }),
        Record::PartitionsMoved { moves } => Change::PartitionsMoved(PartitionsMoved {
            moves: moves.into_iter().map(StoredMove::from).collect(),
        }),
        Record::TopicDeleted { id } => Change::TopicDeleted(id.into()),
        Record::TopicPurged { id } => Change::TopicPurged(id.into()),
        Record::TopicConfigChanged { id, changes } => {
            Change::TopicConfigChanged(TopicConfigChanged {
                id: Some(id.into()),
                changes: changes.into_iter().map(to_stored).collect(),
            })
        }
        Record::BrokerConfigChanged { node, changes } => {
            Change::BrokerConfigChanged(BrokerConfigChanged {
                node: node.map(|node| node.0.cast_unsigned()),
                changes: changes.into_iter().map(to_stored).collect(),
            })
        }
        Record::ProducerIdsAllocated { next } => {
            Change::ProducerIdsAllocated(next.0.cast_unsigned())
        }
    };
    StoredRecord {
        version: FORMAT_VERSION,
        change: Some(change),
    }
    .encode_to_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong(bytes.len()));
    }
    let stored =
        StoredRecord::decode(bytes).map_err(|error| RecordError::Malformed(error.to_string()))?;
    if stored.version != FORMAT_VERSION {
        return Err(RecordError::Unsupported(stored.version));
    }
    match stored.change {
        Some(change) => from_change(change),
        None => Err(RecordError::Malformed(
            "no change that this version knows".into(),
        )),
    }
}

fn from_change(change: Change) -> Result<Record, RecordError> {
    Ok(match change {
        Change::ClusterCreated(id) => Record::ClusterCreated {
            cluster_id: id.into(),
        },
        Change::RunStarted(run) => Record::RunStarted {
            node: node(run.node)?,
            shards: narrow("shards", run.shards)?,
            after_clean_stop: run.after_clean_stop,
        },
        Change::TopicCreated(topic) => Record::TopicCreated {
            name: topic.name.into(),
            id: required(topic.id)?.into(),
            partitions: partitions(topic.partitions)?,
            configs: topic.configs,
        },
        Change::PartitionsAdded(added) => Record::PartitionsAdded {
            id: required(added.id)?.into(),
            first: PartitionIndex(narrow("first", added.first)?),
            partitions: partitions(added.partitions)?,
        },
        Change::PartitionsMoved(moved) => Record::PartitionsMoved {
            moves: moved
                .moves
                .into_iter()
                .map(Move::try_from)
                .collect::<Result<_, _>>()?,
        },
        Change::TopicDeleted(id) => Record::TopicDeleted { id: id.into() },
        Change::TopicPurged(id) => Record::TopicPurged { id: id.into() },
        Change::TopicConfigChanged(changed) => Record::TopicConfigChanged {
            id: required(changed.id)?.into(),
            changes: changed.changes.into_iter().map(from_stored).collect(),
        },
        Change::BrokerConfigChanged(changed) => Record::BrokerConfigChanged {
            node: changed.node.map(node).transpose()?,
            changes: changed.changes.into_iter().map(from_stored).collect(),
        },
        Change::ProducerIdsAllocated(next) => Record::ProducerIdsAllocated {
            next: ProducerId(next.try_into().map_err(|_| RecordError::OutOfRange {
                field: "producer id",
                value: next,
            })?),
        },
    })
}

impl From<TopicId> for Id {
    fn from(id: TopicId) -> Self {
        let (high, low) = id.0.as_u64_pair();
        Self { high, low }
    }
}

impl From<Id> for TopicId {
    fn from(id: Id) -> Self {
        Self(Uuid::from_u64_pair(id.high, id.low))
    }
}

impl From<PartitionState> for Partition {
    fn from(state: PartitionState) -> Self {
        let place = |shard: Placement| {
            let mut replicas = state.replicas.iter();
            let at = replicas.position(|replica| replica.placement == shard);
            at.map_or(0, |at| at as u32 + 1)
        };
        Self {
            replicas: state
                .replicas
                .iter()
                .copied()
                .map(StoredReplica::from)
                .collect(),
            leader: state.leader.map_or(0, place),
            isr: state.isr.iter().copied().map(place).collect(),
            leader_epoch: state.leader_epoch.0.cast_unsigned(),
            partition_epoch: state.partition_epoch,
        }
    }
}

impl TryFrom<Partition> for PartitionState {
    type Error = RecordError;

    fn try_from(stored: Partition) -> Result<Self, RecordError> {
        let replicas = stored.replicas.into_iter().map(Replica::try_from);
        let replicas: Arc<[Replica]> = replicas.collect::<Result<_, _>>()?;
        let shard_at = |place: u32| {
            let at = (place as usize).checked_sub(1);
            let replica = at.and_then(|at| replicas.get(at));
            let placement = replica.map(|replica| replica.placement);
            placement.ok_or(RecordError::OutOfRange {
                field: "replica",
                value: place.into(),
            })
        };
        let leader = match stored.leader {
            0 => None,
            place => Some(shard_at(place)?),
        };
        let isr = stored.isr.into_iter().map(shard_at);
        Ok(Self {
            leader,
            isr: isr.collect::<Result<_, _>>()?,
            leader_epoch: LeaderEpoch(narrow("leader epoch", stored.leader_epoch)?),
            partition_epoch: stored.partition_epoch,
            replicas,
        })
    }
}

impl From<Replica> for StoredReplica {
    fn from(replica: Replica) -> Self {
        Self {
            node: replica.placement.node.0.cast_unsigned(),
            shard: replica.placement.shard.0.into(),
            owner_epoch: replica.owner_epoch,
        }
    }
}

impl TryFrom<StoredReplica> for Replica {
    type Error = RecordError;

    fn try_from(stored: StoredReplica) -> Result<Self, RecordError> {
        Ok(Self {
            placement: Placement {
                node: node(stored.node)?,
                shard: ShardIndex(narrow("shard", stored.shard)?),
            },
            owner_epoch: stored.owner_epoch,
        })
    }
}

impl From<Move> for StoredMove {
    fn from(moved: Move) -> Self {
        let to = Replica {
            placement: moved.placement,
            owner_epoch: moved.owner_epoch,
        };
        Self {
            topic: Some(moved.topic.into()),
            index: moved.index.0.cast_unsigned(),
            to: Some(to.into()),
            leader_epoch: moved.leader_epoch.0.cast_unsigned(),
        }
    }
}

impl TryFrom<StoredMove> for Move {
    type Error = RecordError;

    fn try_from(stored: StoredMove) -> Result<Self, RecordError> {
        let to = Replica::try_from(required(stored.to)?)?;
        Ok(Self {
            topic: required(stored.topic)?.into(),
            index: PartitionIndex(narrow("partition", stored.index)?),
            placement: to.placement,
            leader_epoch: LeaderEpoch(narrow("leader epoch", stored.leader_epoch)?),
            owner_epoch: to.owner_epoch,
        })
    }
}

fn partitions(stored: Vec<Partition>) -> Result<Vec<PartitionState>, RecordError> {
    stored.into_iter().map(PartitionState::try_from).collect()
}

fn node(stored: u32) -> Result<NodeId, RecordError> {
    narrow("node", stored).map(NodeId)
}

fn to_stored((key, value): (String, Option<String>)) -> (String, StoredValue) {
    (key, StoredValue { value })
}

fn from_stored((key, stored): (String, StoredValue)) -> (String, Option<String>) {
    (key, stored.value)
}

fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, RecordError> {
    value.try_into().map_err(|_| RecordError::OutOfRange {
        field,
        value: value.into(),
    })
}

fn required<T>(field: Option<T>) -> Result<T, RecordError> {
    field.ok_or_else(|| RecordError::Malformed("a field is missing".into()))
}
