//! InitProducerId: an id and epoch for idempotent and transactional producers.

use crate::model::{ProducerEpoch, ProducerId};
use crate::wire::{ErrorCode, Str};

message! {
    /// Asks for the id and epoch of an idempotent or transactional producer.
    struct InitProducerIdRequest<'a> {
        transactional_id: Option<Str<'a>> [0..],
        transaction_timeout_ms: i32 [0..],
        producer_id: ProducerId [3..] = ProducerId(-1),
        producer_epoch: ProducerEpoch [3..] = ProducerEpoch(-1),
    }

    /// The producer's id and epoch.
    struct InitProducerIdResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        producer_id: ProducerId [0..] = ProducerId(-1),
        producer_epoch: ProducerEpoch [0..],
    }
}
