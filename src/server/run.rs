//! Serves the clients of one shard, from its listeners to the last connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::context::Context;
use super::fetch_session::SessionCache;
use super::listeners::Connections;
use super::memory::response_memory;
use crate::metrics::{ApiCounters, RequestMetrics, StageTimes};
use crate::rt::{Latches, Runtime, TaskClass};
use crate::shard::Shard;
use crate::wire::ApiKey;

/// How long a stop waits for requests that were accepted.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How many fetch sessions one connection may hold; clients use one.
const SESSIONS_PER_CONNECTION: usize = 8;

/// Nothing measured yet.
pub fn request_metrics() -> RequestMetrics {
    RequestMetrics {
        times: StageTimes::default(),
        apis: ApiCounters::new(ApiKey::ALL.iter().map(|api| api.name())),
    }
}

/// Serves clients until `stopped` completes, and then what was accepted. What is measured of
/// it goes to `metrics`.
pub async fn serve<R: Runtime>(
    shard: &Shard<R>,
    listeners: Vec<R::Listener>,
    metrics: Rc<RequestMetrics>,
    stopped: impl Future<Output = ()>,
) {
    let config = shard.config();
    let plan = shard.memory();
    let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let sessions =
        SessionCache::new(slots, SESSIONS_PER_CONNECTION).partitions_max(plan.session_partitions);
    let context = Context {
        shard: shard.clone(),
        sessions: Rc::new(RefCell::new(sessions)),
        refusals: Rc::default(),
        writer: Rc::default(),
        responses: response_memory(plan),
        latches: Latches::default(),
        metrics,
    };
    let connections = Connections::new(context);
    for (index, listener) in listeners.into_iter().enumerate() {
        connections.accept_from(index, listener);
    }
    let idle = connections.clone();
    shard.rt().spawn(
        TaskClass::Background,
        async move { idle.close_idle().await },
    );
    stopped.await;
    connections.stop(STOP_GRACE).await;
}
