//! InitProducerId.

use crate::model::{ProducerEpoch, ProducerId};
use crate::rt::Runtime;
use crate::server::connection::ResponseFrame;
use crate::server::errors::Code;
use crate::server::service::{Call, Context};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::{DecodeError, ErrorCode};

/// Serves InitProducerId: a fresh id for an idempotent producer (KIP-98).
pub async fn init_producer_id<R: Runtime>(
    context: &Context<R>,
    call: &Call,
) -> Result<ResponseFrame, DecodeError> {
    let request: InitProducerIdRequest = call.read()?;
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
    Ok(call.respond(&match allocated {
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
    }))
}
