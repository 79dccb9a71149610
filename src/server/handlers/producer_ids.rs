//! InitProducerId.

use crate::model::{ProducerEpoch, ProducerId};
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::request::Request;
use crate::wire::ErrorCode;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// Serves InitProducerId: a fresh id for an idempotent producer (KIP-98).
pub async fn init_producer_id<R: Runtime>(
    context: &Context<R>,
    request: &Request<InitProducerIdRequest<'_>>,
) -> InitProducerIdResponse {
    let allocated = match request.transactional_id.as_deref() {
        None => context
            .shard
            .next_producer_id()
            .await
            .map_err(|error| error.code()),
        Some("") => Err(ErrorCode::InvalidRequest),
        // Transactions do not exist yet; this code makes clients stop instead of trying again.
        Some(_) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
    };
    match allocated {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: ProducerEpoch(0),
            ..Default::default()
        },
        Err(error_code) => InitProducerIdResponse {
            error_code,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            ..Default::default()
        },
    }
}
