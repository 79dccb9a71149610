//! The vocabulary: ids, offsets, and the record batch as a checked view. Imports nothing of ours.

pub mod batch;
mod ids;

pub use ids::{
    BrokerId, DirectoryId, LeaderEpoch, NodeId, NotAnId, Offset, PartitionId, PartitionIndex,
    ProducerEpoch, ProducerId, ShardIndex, TopicId,
};
