//! Structs that several APIs share.

use crate::model::{BrokerId, LeaderEpoch};
use crate::wire::Str;

message! {
    /// Who leads a partition now: the answer to a request that came to the wrong broker (KIP-951).
    struct LeaderIdAndEpoch {
        leader_id: BrokerId [0..] = BrokerId(-1),
        leader_epoch: LeaderEpoch [0..] = LeaderEpoch(-1),
    }

    /// Where the leaders that a response names can be reached (KIP-951).
    struct NodeEndpoint<'a> {
        node_id: BrokerId [0..],
        host: Str<'a> [0..],
        port: i32 [0..],
        rack: Option<Str<'a>> [0..],
    }
}
