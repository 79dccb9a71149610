//! What the handlers of one shard share.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::fetch_session::SessionCache;
use super::memory::{FetchMemory, ResponseMemory};
use super::response::ResponseWriter;
use super::session::Session;
use crate::metrics::RequestMetrics;
use crate::rt::{Latches, Runtime};
use crate::shard::Shard;

/// What the handlers of one shard share.
pub struct Context<R: Runtime> {
    pub shard: Shard<R>,
    /// Its fetch sessions.
    pub sessions: Rc<RefCell<SessionCache>>,
    /// What was refused of late.
    pub refusals: Rc<Refusals>,
    /// Where responses are encoded.
    pub writer: Rc<ResponseWriter>,
    /// Memory for responses.
    pub responses: ResponseMemory,
    /// Memory for what Fetch requests say.
    pub fetches: FetchMemory,
    /// For those who wait for several marks.
    pub latches: Latches,
    /// What is measured of requests.
    pub metrics: Rc<RequestMetrics>,
}

impl<R: Runtime> Clone for Context<R> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            sessions: self.sessions.clone(),
            refusals: self.refusals.clone(),
            writer: self.writer.clone(),
            responses: self.responses.clone(),
            fetches: self.fetches.clone(),
            latches: self.latches.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Small steps of a long list, such as to look at a partition, before the shard's other tasks have a
/// turn.
pub const STEPS_AT_ONCE: usize = 256;
/// Partitions that are taken down before the shard's other tasks have a turn.
const TAKEN_DOWN_AT_ONCE: usize = 1024;

impl<R: Runtime> Context<R> {
    /// Lets the shard's other tasks have a turn before every so many'th of the steps of a list.
    pub async fn give_way(&self, nth: usize) {
        if nth % STEPS_AT_ONCE == STEPS_AT_ONCE - 1 {
            self.shard.rt().yield_now().await;
        }
    }

    /// Takes down the fetch sessions that have ended.
    pub async fn take_down_sessions(&self) {
        let some = || self.sessions.borrow_mut().take_down(TAKEN_DOWN_AT_ONCE);
        while some() {
            self.shard.rt().yield_now().await;
        }
    }
}

/// Requests that cannot be read, so that their connection is closed. The client shows its user no
/// more than a lost connection: the broker's log has to say why, but not as often as a hostile
/// client likes.
#[derive(Default)]
pub struct Refusals {
    told_at: Cell<Option<Duration>>,
    suppressed: Cell<u64>,
}

impl Refusals {
    const PAUSE: Duration = Duration::from_secs(1);

    /// How many others were suppressed, if it is time to tell of one.
    fn due(&self, now: Duration) -> Option<u64> {
        let is_due = |told_at| now.saturating_sub(told_at) >= Self::PAUSE;
        if !self.told_at.get().is_none_or(is_due) {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.told_at.set(Some(now));
        Some(self.suppressed.take())
    }

    /// Says in the log why a connection is not taken.
    pub fn tell_of_connection(&self, now: Duration, client: Option<IpAddr>, why: &dyn Display) {
        if let Some(suppressed) = self.due(now) {
            tracing::warn!(?client, %why, suppressed, "connection refused");
        }
    }

    /// Says in the log why a client gets no fetch session. It is served without one, which costs both
    /// sides more with each request.
    pub fn tell_of_session(&self, now: Duration, session: &Session, why: &dyn Display) {
        if let Some(suppressed) = self.due(now) {
            let (client, client_id) = (session.endpoints().remote, &*session.client_id());
            tracing::warn!(%client, client_id, %why, suppressed, "fetch session refused");
        }
    }

    /// Says in the log why a client's connection is closed.
    pub fn tell(&self, now: Duration, session: &Session, what: &dyn Display, error: &dyn Display) {
        let Some(suppressed) = self.due(now) else {
            return;
        };
        let (client, software) = (session.endpoints().remote, session.software());
        let (client_id, principal) = (&*session.client_id(), session.principal());
        let (software, version) = (&software.name, &software.version);
        tracing::warn!(
            %client, client_id, %principal, software, version, %what, %error, suppressed,
            "request refused, connection closed"
        );
    }
}
