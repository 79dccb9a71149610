//! CreateTopics: new topics with partitions, placement and configs.

use crate::model::{BrokerId, PartitionIndex, TopicId};
use crate::wire::{ErrorCode, Str};

message! {
    /// Creates topics.
    struct CreateTopicsRequest<'a> {
        topics: Vec<CreatableTopic<'a>> [0..],
        timeout_ms: i32 [0..] = 60_000,
        validate_only: bool [1..],
    }

    /// A topic to create; counts of -1 ask for the broker's default.
    struct CreatableTopic<'a> {
        name: Str<'a> [0..],
        num_partitions: i32 [0..],
        replication_factor: i16 [0..],
        assignments: Vec<CreatableReplicaAssignment> [0..],
        configs: Vec<CreatableTopicConfig<'a>> [0..],
    }

    /// The brokers on which one partition shall live.
    struct CreatableReplicaAssignment {
        partition_index: PartitionIndex [0..],
        broker_ids: Vec<BrokerId> [0..],
    }

    /// A config to create the topic with.
    struct CreatableTopicConfig<'a> {
        name: Str<'a> [0..],
        value: Option<Str<'a>> [0..],
    }

    /// What became of each topic.
    struct CreateTopicsResponse<'a> {
        throttle_time_ms: i32 [2..],
        topics: Vec<CreatableTopicResult<'a>> [0..],
    }

    /// The outcome for one topic.
    struct CreatableTopicResult<'a> {
        name: Str<'a> [0..],
        topic_id: TopicId [7..],
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [1..],
        topic_config_error_code: ErrorCode [5..] tag 0,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs<'a>>> [5..],
    }

    /// A config that the topic now has.
    struct CreatableTopicConfigs<'a> {
        name: Str<'a> [5..],
        value: Option<Str<'a>> [5..],
        read_only: bool [5..],
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}
