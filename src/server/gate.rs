//! Where an authorizer and quotas come in: they let everything pass for now.

use std::time::Duration;

use super::context::Context;
use super::session::{Principal, Session};
use crate::rt::Runtime;
use crate::wire::{ApiKey, Response};

/// Whether a principal may use an API at all. What it may do with which topic or group its handler
/// asks.
pub fn authorize(principal: Principal, _api: ApiKey) -> bool {
    match principal {
        // There is no authorizer yet.
        Principal::Anonymous => true,
    }
}

/// For how long a principal has to pause for what it has used.
fn quota(principal: Principal) -> Duration {
    match principal {
        // There are no quotas yet.
        Principal::Anonymous => Duration::ZERO,
    }
}

/// Charges a request to its principal's quota. What is above it mutes the connection, and the
/// response says for how long (KIP-219).
pub fn throttle<'a, R: Runtime>(
    context: &Context<R>,
    session: &Session,
    response: &mut impl Response<'a>,
) {
    let pause = quota(session.principal());
    if !pause.is_zero() {
        session.mute_until(context.shard.rt().now() + pause);
        response.set_throttle_time_ms(i32::try_from(pause.as_millis()).unwrap_or(i32::MAX));
    }
}
