//! Fetch: reads record batches. The hot path: [`List`] and [`Records`] keep it free of copies.

use crate::model::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId};
use crate::wire::messages::{LeaderIdAndEpoch, NodeEndpoint};
use crate::wire::{ErrorCode, List, Records, Str};

message! {
    /// Reads record batches from partitions, in or outside a fetch session (KIP-227).
    struct FetchRequest<'a> {
        cluster_id: Option<Str<'a>> [12..] tag 0,
        replica_id: BrokerId [0..=14] = BrokerId(-1),
        replica_state: FetchReplicaState [15..] tag 1,
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [3..] = i32::MAX,
        isolation_level: i8 [4..],
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: List<FetchTopic<'a>> [0..],
        forgotten_topics_data: Vec<ForgottenTopic<'a>> [7..],
        rack_id: Str<'a> [11..],
    }

    /// Who a fetching follower is (KIP-903).
    struct FetchReplicaState {
        replica_id: BrokerId [15..] = BrokerId(-1),
        replica_epoch: i64 [15..] = -1,
    }

    /// The partitions to read of one topic.
    struct FetchTopic<'a> {
        topic: Str<'a> [0..=12],
        topic_id: TopicId [13..],
        partitions: List<FetchPartition> [0..],
    }

    /// Where to read one partition.
    struct FetchPartition {
        partition: PartitionIndex [0..],
        current_leader_epoch: LeaderEpoch [9..] = LeaderEpoch(-1),
        fetch_offset: Offset [0..],
        last_fetched_epoch: LeaderEpoch [12..] = LeaderEpoch(-1),
        log_start_offset: Offset [5..] = Offset(-1),
        partition_max_bytes: i32 [0..],
        replica_directory_id: uuid::Uuid [17..] tag 0,
        high_watermark: Offset [18..] tag 1 = Offset(i64::MAX),
    }

    /// Partitions that leave the fetch session.
    struct ForgottenTopic<'a> {
        topic: Str<'a> [7..=12],
        topic_id: TopicId [13..],
        partitions: Vec<PartitionIndex> [7..],
    }

    /// The batches read, or why there are none.
    struct FetchResponse<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [7..],
        session_id: i32 [7..],
        responses: List<FetchableTopicResponse<'a>> [0..],
        node_endpoints: Vec<NodeEndpoint<'a>> [16..] tag 0,
    }

    /// What was read of one topic.
    struct FetchableTopicResponse<'a> {
        topic: Str<'a> [0..=12],
        topic_id: TopicId [13..],
        partitions: List<FetchPartitionData<'a>> [0..],
    }

    /// What was read of one partition.
    struct FetchPartitionData<'a> {
        partition_index: PartitionIndex [0..],
        error_code: ErrorCode [0..],
        high_watermark: Offset [0..],
        last_stable_offset: Offset [4..] = Offset(-1),
        log_start_offset: Offset [5..] = Offset(-1),
        diverging_epoch: DivergingEpoch [12..] tag 0,
        current_leader: LeaderIdAndEpoch [12..] tag 1,
        snapshot_id: SnapshotId [12..] tag 2,
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..],
        preferred_read_replica: BrokerId [11..] = BrokerId(-1),
        records: Option<Records<'a>> [0..],
    }

    /// Where a follower's log parts from the leader's (KIP-595).
    struct DivergingEpoch {
        epoch: LeaderEpoch [12..] = LeaderEpoch(-1),
        end_offset: Offset [12..] = Offset(-1),
    }

    /// The snapshot that a follower of the metadata log must fetch first (KIP-630).
    struct SnapshotId {
        end_offset: Offset [0..] = Offset(-1),
        epoch: LeaderEpoch [0..] = LeaderEpoch(-1),
    }

    /// A transaction whose records a `read_committed` consumer drops.
    struct AbortedTransaction {
        producer_id: ProducerId [4..],
        first_offset: Offset [4..],
    }
}
