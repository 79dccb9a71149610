//! The vocabulary: ids, offsets, and the record batch as a checked view. Imports nothing of ours.

pub mod batch;
mod codec;
mod ids;
mod map;
mod partition_table;
mod topic_name;

pub use codec::Codec;
pub use ids::{
    BrokerId, DirectoryId, LeaderEpoch, NodeId, NotAnId, Offset, OwnerEpoch, PartitionId,
    PartitionIndex, ProducerEpoch, ProducerId, ShardIndex, TopicId,
};
pub use map::LookupMap;
pub use partition_table::{PartitionSlot, PartitionTable};
pub use topic_name::{
    MAX_TOPIC_NAME_BYTES, RESERVED_TOPIC_NAME, is_topic_name, is_topic_name_byte,
};
