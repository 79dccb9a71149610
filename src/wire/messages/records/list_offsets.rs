//! ListOffsets: offsets by timestamp, and both ends of the log.

use crate::model::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks where a log starts, ends, or passes a timestamp.
    struct ListOffsetsRequest<'a> {
        replica_id: BrokerId [0..],
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic<'a>> [0..],
        timeout_ms: i32 [10..],
    }

    /// The partitions asked about of one topic.
    struct ListOffsetsTopic<'a> {
        name: Str<'a> [0..],
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    /// The timestamp asked about, or one of the negative marks such as -1 for the end.
    struct ListOffsetsPartition {
        partition_index: PartitionIndex [0..],
        current_leader_epoch: LeaderEpoch [4..] = LeaderEpoch(-1),
        timestamp: i64 [0..],
    }

    /// The offsets found.
    struct ListOffsetsResponse<'a> {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse<'a>> [0..],
    }

    /// The offsets found in one topic.
    struct ListOffsetsTopicResponse<'a> {
        name: Str<'a> [0..],
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    /// The offset found in one partition, -1 for none.
    struct ListOffsetsPartitionResponse {
        partition_index: PartitionIndex [0..],
        error_code: ErrorCode [0..],
        timestamp: i64 [1..] = -1,
        offset: Offset [1..] = Offset(-1),
        leader_epoch: LeaderEpoch [4..] = LeaderEpoch(-1),
    }
}
