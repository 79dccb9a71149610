//! Metadata: brokers, topics, leaders.

use crate::model::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks for brokers, topics, and who leads their partitions.
    struct MetadataRequest<'a> {
        topics: Option<Vec<MetadataRequestTopic<'a>>> [0..] null [1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    /// A topic asked about, by name or by id.
    struct MetadataRequestTopic<'a> {
        topic_id: TopicId [10..],
        name: Option<Str<'a>> [0..] null [10..],
    }

    /// The cluster as clients see it.
    struct MetadataResponse<'a> {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker<'a>> [0..],
        cluster_id: Option<Str<'a>> [2..],
        controller_id: BrokerId [1..] = BrokerId(-1),
        topics: Vec<MetadataResponseTopic<'a>> [0..],
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13..],
    }

    /// A broker and where it listens.
    struct MetadataResponseBroker<'a> {
        node_id: BrokerId [0..],
        host: Str<'a> [0..],
        port: i32 [0..],
        rack: Option<Str<'a>> [1..],
    }

    /// A topic and its partitions.
    struct MetadataResponseTopic<'a> {
        error_code: ErrorCode [0..],
        name: Option<Str<'a>> [0..] null [12..],
        topic_id: TopicId [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition> [0..],
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// A partition, its leader and its replicas.
    struct MetadataResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: PartitionIndex [0..],
        leader_id: BrokerId [0..],
        leader_epoch: LeaderEpoch [7..] = LeaderEpoch(-1),
        replica_nodes: Vec<BrokerId> [0..],
        isr_nodes: Vec<BrokerId> [0..],
        offline_replicas: Vec<BrokerId> [5..],
    }
}
