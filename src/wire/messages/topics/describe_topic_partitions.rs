//! DescribeTopicPartitions: topics and partitions, page by page.

use crate::model::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks for topics page by page (KIP-966).
    struct DescribeTopicPartitionsRequest<'a> {
        topics: Vec<DescribeTopicPartitionsTopic<'a>> [0..],
        response_partition_limit: i32 [0..] = 2000,
        cursor: Option<Cursor<'a>> [0..],
    }

    /// A topic asked about.
    struct DescribeTopicPartitionsTopic<'a> {
        name: Str<'a> [0..],
    }

    /// Where a page begins.
    struct Cursor<'a> {
        topic_name: Str<'a> [0..],
        partition_index: PartitionIndex [0..],
    }

    /// One page of topics.
    struct DescribeTopicPartitionsResponse<'a> {
        throttle_time_ms: i32 [0..],
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>> [0..],
        next_cursor: Option<Cursor<'a>> [0..],
    }

    /// A topic, or the part of it that fits the page.
    struct DescribeTopicPartitionsResponseTopic<'a> {
        error_code: ErrorCode [0..],
        name: Option<Str<'a>> [0..],
        topic_id: TopicId [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        topic_authorized_operations: i32 [0..] = i32::MIN,
    }

    /// A partition, its leader and its replicas.
    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: PartitionIndex [0..],
        leader_id: BrokerId [0..],
        leader_epoch: LeaderEpoch [0..] = LeaderEpoch(-1),
        replica_nodes: Vec<BrokerId> [0..],
        isr_nodes: Vec<BrokerId> [0..],
        eligible_leader_replicas: Option<Vec<BrokerId>> [0..],
        last_known_elr: Option<Vec<BrokerId>> [0..],
        offline_replicas: Vec<BrokerId> [0..],
    }
}
