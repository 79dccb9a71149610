//! CreatePartitions: more partitions for existing topics.

use crate::model::BrokerId;
use crate::wire::{ErrorCode, Str};

message! {
    /// Raises the number of partitions of topics.
    struct CreatePartitionsRequest<'a> {
        topics: Vec<CreatePartitionsTopic<'a>> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }

    /// A topic and its new partition count.
    struct CreatePartitionsTopic<'a> {
        name: Str<'a> [0..],
        count: i32 [0..],
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..],
    }

    /// The brokers on which one new partition shall live.
    struct CreatePartitionsAssignment {
        broker_ids: Vec<BrokerId> [0..],
    }

    /// What became of each topic.
    struct CreatePartitionsResponse<'a> {
        throttle_time_ms: i32 [0..],
        results: Vec<CreatePartitionsTopicResult<'a>> [0..],
    }

    /// The outcome for one topic.
    struct CreatePartitionsTopicResult<'a> {
        name: Str<'a> [0..],
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [0..],
    }
}
