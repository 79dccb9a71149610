//! OffsetForLeaderEpoch: where leader epochs end.

use crate::model::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks where leader epochs end, to find out whether a log was truncated (KIP-101, KIP-320).
    struct OffsetForLeaderEpochRequest<'a> {
        replica_id: BrokerId [3..] = BrokerId(-2),
        topics: Vec<OffsetForLeaderTopic<'a>> [0..],
    }

    /// The partitions asked about of one topic.
    struct OffsetForLeaderTopic<'a> {
        topic: Str<'a> [0..],
        partitions: Vec<OffsetForLeaderPartition> [0..],
    }

    /// The epoch asked about of one partition.
    struct OffsetForLeaderPartition {
        partition: PartitionIndex [0..],
        current_leader_epoch: LeaderEpoch [2..] = LeaderEpoch(-1),
        leader_epoch: LeaderEpoch [0..],
    }

    /// Where the epochs end.
    struct OffsetForLeaderEpochResponse<'a> {
        throttle_time_ms: i32 [2..],
        topics: Vec<OffsetForLeaderTopicResult<'a>> [0..],
    }

    /// The ends found in one topic.
    struct OffsetForLeaderTopicResult<'a> {
        topic: Str<'a> [0..],
        partitions: Vec<EpochEndOffset> [0..],
    }

    /// The end of the largest epoch not above the one asked about.
    struct EpochEndOffset {
        error_code: ErrorCode [0..],
        partition: PartitionIndex [0..],
        leader_epoch: LeaderEpoch [1..] = LeaderEpoch(-1),
        end_offset: Offset [0..] = Offset(-1),
    }
}
