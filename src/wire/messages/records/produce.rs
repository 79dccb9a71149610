//! Produce: appends record batches. The hot path: [`List`] and [`Records`] keep it free of copies.

use crate::model::{Offset, PartitionIndex, TopicId};
use crate::wire::messages::{LeaderIdAndEpoch, NodeEndpoint};
use crate::wire::{ErrorCode, List, Records, Str};

message! {
    /// Appends record batches to partitions.
    struct ProduceRequest<'a> {
        transactional_id: Option<Str<'a>> [3..],
        acks: i16 [0..],
        timeout_ms: i32 [0..],
        topic_data: List<TopicProduceData<'a>> [0..],
    }

    /// The batches for one topic.
    struct TopicProduceData<'a> {
        name: Str<'a> [0..=12],
        topic_id: TopicId [13..],
        partition_data: List<PartitionProduceData<'a>> [0..],
    }

    /// The batch for one partition.
    struct PartitionProduceData<'a> {
        index: PartitionIndex [0..],
        records: Option<Records<'a>> [0..],
    }

    /// What became of each batch.
    struct ProduceResponse<'a> {
        responses: List<TopicProduceResponse<'a>> [0..],
        throttle_time_ms: i32 [1..],
        node_endpoints: Vec<NodeEndpoint<'a>> [10..] tag 0,
    }

    /// The outcome for one topic.
    struct TopicProduceResponse<'a> {
        name: Str<'a> [0..=12],
        topic_id: TopicId [13..],
        partition_responses: List<PartitionProduceResponse<'a>> [0..],
    }

    /// The outcome for one partition.
    struct PartitionProduceResponse<'a> {
        index: PartitionIndex [0..],
        error_code: ErrorCode [0..],
        base_offset: Offset [0..],
        log_append_time_ms: i64 [2..] = -1,
        log_start_offset: Offset [5..] = Offset(-1),
        record_errors: Vec<BatchIndexAndErrorMessage<'a>> [8..],
        error_message: Option<Str<'a>> [8..],
        current_leader: LeaderIdAndEpoch [10..] tag 0,
    }

    /// A record that made its batch fail.
    struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32 [8..],
        batch_index_error_message: Option<Str<'a>> [8..],
    }
}
