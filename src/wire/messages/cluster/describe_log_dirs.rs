//! DescribeLogDirs: space taken per partition.

use crate::model::PartitionIndex;
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks how much space partitions take (KIP-113).
    struct DescribeLogDirsRequest<'a> {
        topics: Option<Vec<DescribableLogDirTopic<'a>>> [0..],
    }

    /// The partitions asked about of one topic.
    struct DescribableLogDirTopic<'a> {
        topic: Str<'a> [0..],
        partitions: Vec<PartitionIndex> [0..],
    }

    /// The log directories and what is in them.
    struct DescribeLogDirsResponse<'a> {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult<'a>> [0..],
    }

    /// One log directory.
    struct DescribeLogDirsResult<'a> {
        error_code: ErrorCode [0..],
        log_dir: Str<'a> [0..],
        topics: Vec<DescribeLogDirsTopic<'a>> [0..],
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    /// What one topic takes in it.
    struct DescribeLogDirsTopic<'a> {
        name: Str<'a> [0..],
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }

    /// What one partition takes in it.
    struct DescribeLogDirsPartition {
        partition_index: PartitionIndex [0..],
        partition_size: i64 [0..],
        offset_lag: i64 [0..],
        is_future_key: bool [0..],
    }
}
