//! DeleteRecords: raises log start offsets.

use crate::model::{Offset, PartitionIndex};
use crate::wire::{ErrorCode, Str};

message! {
    /// Raises the log start offset of partitions (KIP-107).
    struct DeleteRecordsRequest<'a> {
        topics: Vec<DeleteRecordsTopic<'a>> [0..],
        timeout_ms: i32 [0..],
    }

    /// The partitions of one topic.
    struct DeleteRecordsTopic<'a> {
        name: Str<'a> [0..],
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    /// The new start of one partition; -1 stands for the high watermark.
    struct DeleteRecordsPartition {
        partition_index: PartitionIndex [0..],
        offset: Offset [0..],
    }

    /// What became of each partition.
    struct DeleteRecordsResponse<'a> {
        throttle_time_ms: i32 [0..],
        topics: Vec<DeleteRecordsTopicResult<'a>> [0..],
    }

    /// The outcome for one topic.
    struct DeleteRecordsTopicResult<'a> {
        name: Str<'a> [0..],
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    /// The log start offset of one partition, -1 after an error.
    struct DeleteRecordsPartitionResult {
        partition_index: PartitionIndex [0..],
        low_watermark: Offset [0..],
        error_code: ErrorCode [0..],
    }
}
