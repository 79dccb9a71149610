//! What can happen to the cluster's metadata, one variant each.

mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::topic::{PartitionState, Placement};
use crate::model::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId};

/// The longest stored record. Bounds what reading one can allocate.
pub const MAX_RECORD_BYTES: usize = 8 << 20;

/// Partitions in one record, at most, in what the controller decides: making, storing and applying
/// one takes no core longer than a fraction of a millisecond.
pub(super) const PARTITIONS_PER_RECORD: usize = 1000;

/// Keys with their new value; `None` takes the key back.
pub type ConfigChanges = BTreeMap<String, Option<String>>;

/// A change. Applied in order, records add up to an [`super::Image`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster exists; always the first record.
    ClusterCreated {
        /// Kafka's `cluster.id`.
        cluster_id: Arc<str>,
    },
    /// A node has started with so many shards. After an unclean stop the leader epoch of every
    /// partition that it leads rises by one: clients may have seen offsets that are lost.
    RunStarted {
        node: NodeId,
        /// Its number of shards.
        shards: u16,
        /// Whether the run before ended with everything durable.
        after_clean_stop: bool,
    },
    /// A topic exists, with all its partitions.
    TopicCreated {
        name: Arc<str>,
        id: TopicId,
        /// Its partitions; the position is the index.
        partitions: Vec<PartitionState>,
        /// The settings of its own.
        configs: BTreeMap<String, String>,
    },
    /// A topic has more partitions, numbered on from the ones that it had.
    PartitionsAdded {
        /// The topic.
        id: TopicId,
        /// How many it had.
        first: PartitionIndex,
        /// The new ones.
        partitions: Vec<PartitionState>,
    },
    /// Partitions have other owners.
    PartitionsMoved {
        /// Which ones, and where to.
        moves: Vec<Move>,
    },
    /// A topic is gone for clients. Its name stays taken until its files are out of the way.
    TopicDeleted {
        /// The topic.
        id: TopicId,
    },
    /// Every owner has renamed the files of a deleted topic, durably: the name is free.
    TopicPurged {
        /// The topic.
        id: TopicId,
    },
    /// A topic's own settings have changed.
    TopicConfigChanged {
        /// The topic.
        id: TopicId,
        /// The keys that changed.
        changes: ConfigChanges,
    },
    /// Settings of brokers have changed at run time.
    BrokerConfigChanged {
        /// The node; `None` for the cluster's default.
        node: Option<NodeId>,
        /// The keys that changed.
        changes: ConfigChanges,
    },
    /// All producer ids below this one have been given out to shards.
    ProducerIdsAllocated {
        /// The first id that is free.
        next: ProducerId,
    },
}

/// A partition's new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// The new owner.
    pub placement: Placement,
    /// The leader epoch of the new owner, above the former one.
    pub leader_epoch: LeaderEpoch,
    /// One more than the former one.
    pub owner_epoch: u32,
}

/// A stored record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than any record is.
    #[error("metadata record of {0} bytes; at most {MAX_RECORD_BYTES} are read")]
    TooLong(usize),
    /// Not the stored form of any record.
    #[error("metadata record does not parse: {0}")]
    Malformed(String),
    /// Written by another version, in a form that this one does not know.
    #[error(
        "metadata record of format version {0}; this version of corelane reads {own} alone",
        own = stored::FORMAT_VERSION
    )]
    Unsupported(u32),
    /// A number that the field cannot have.
    #[error("metadata record has {field} = {value}")]
    OutOfRange {
        field: &'static str,
        /// The number.
        value: u64,
    },
}

impl Record {
    /// About how long the stored form is, at most: what can be said without making it.
    pub fn estimated_bytes(&self) -> usize {
        const PARTITION_BYTES: usize = 64;
        const MOVE_BYTES: usize = 64;
        const REST_BYTES: usize = 1024;
        let of_changes = |changes: &ConfigChanges| -> usize {
            let each = changes.iter().map(|(key, value)| {
                let value = value.as_ref().map_or(0, String::len);
                key.len() + value + 16
            });
            each.sum()
        };
        let variable = match self {
            Self::TopicCreated {
                partitions,
                configs,
                ..
            } => {
                let each = configs
                    .iter()
                    .map(|(key, value)| key.len() + value.len() + 16);
                PARTITION_BYTES * partitions.len() + each.sum::<usize>()
            }
            Self::PartitionsAdded { partitions, .. } => PARTITION_BYTES * partitions.len(),
            Self::PartitionsMoved { moves } => MOVE_BYTES * moves.len(),
            Self::TopicConfigChanged { changes, .. }
            | Self::BrokerConfigChanged { changes, .. } => of_changes(changes),
            _ => 0,
        };
        REST_BYTES + variable
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    /// Reads the stored form. Fields of later versions within the same format are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        stored::decode(bytes)
    }
}
