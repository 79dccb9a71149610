//! DescribeCluster: the id of the cluster and its brokers.

use crate::model::BrokerId;
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks for the cluster's id and brokers.
    struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0..],
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    /// The cluster's id and brokers.
    struct DescribeClusterResponse<'a> {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [0..],
        endpoint_type: i8 [1..] = 1,
        cluster_id: Str<'a> [0..],
        controller_id: BrokerId [0..] = BrokerId(-1),
        brokers: Vec<DescribeClusterBroker<'a>> [0..],
        cluster_authorized_operations: i32 [0..] = i32::MIN,
    }

    /// A broker and where it listens.
    struct DescribeClusterBroker<'a> {
        broker_id: BrokerId [0..],
        host: Str<'a> [0..],
        port: i32 [0..],
        rack: Option<Str<'a>> [0..],
        is_fenced: bool [2..],
    }
}
