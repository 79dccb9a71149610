//! The way of a request: authorize → handle → quota → throttle → encode → measure.
//!
//! Handlers are of two kinds, which the API table ([`crate::wire`]) names. A *message* handler gets
//! a [`Request`](super::request::Request) and gives its response as a message. It neither decodes
//! nor encodes, throttles nor measures; while it runs, the connection's next request waits, as in
//! Kafka. A *hot* handler (Produce, Fetch) gets a [`Call`], decodes from it without copying, and
//! gives a [`Reply`], whose future, in memory of a pool, joins the connection's queue of responses.
//! Both kinds go through the same stages.

use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use super::connection::{Reply, Service};
use super::context::Context;
use super::gate::authorize;
use super::handlers;
use super::request::{Call, plain_response};
use super::response::{Counted, Header, ResponseFrame};
use super::session::Session;
use crate::metrics::{RequestTimes, Stage};
use crate::net::{FrameError, PREFIX_BYTES};
use crate::rt::{Buf, FuturePool, Runtime};
use crate::wire::{ApiKey, DecodeError, RequestError, RequestHeader, for_each_api};

/// Serves one connection's requests.
pub struct Router<R: Runtime> {
    context: Context<R>,
    session: Rc<Session>,
    pending: Rc<Pending<R>>,
}

/// Memory for hot requests that wait to be answered, of one shard.
#[derive(Debug)]
pub struct Pending<R: Runtime> {
    produce: FuturePool<handlers::AcceptedProduce<R>, ResponseFrame>,
    fetch: FuturePool<handlers::PlannedFetch<R>, ResponseFrame>,
}

impl<R: Runtime> Default for Pending<R> {
    fn default() -> Self {
        Self {
            produce: FuturePool::new(handlers::AcceptedProduce::acknowledge),
            fetch: FuturePool::new(handlers::PlannedFetch::serve),
        }
    }
}

macro_rules! handle {
    (message $module:ident, $context:ident, $call:ident, $pending:ident) => {
        // Boxed, so that a connection is no larger than its hot requests make it.
        Box::pin(async move {
            $context.responses.some_left().await;
            let request = $call.open()?;
            let response = handlers::$module($context, &request).await;
            $call.lap($context, Stage::Accepted);
            Ok(Reply::Ready($call.respond($context, response)))
        })
        .await
    };
    (hot $module:ident, $context:ident, $call:ident, $pending:ident) => {
        handlers::$module($context, $call, &$pending.$module).await
    };
}

macro_rules! handle_any {
    ($($name:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $module:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        /// Hands a request to its handler, the module of its messages in `handlers`.
        async fn handle<R: Runtime>(
            context: &Context<R>,
            call: Call,
            pending: &Pending<R>,
        ) -> Result<Reply, DecodeError> {
            match call.header.api {
                $(ApiKey::$name => handle!($kind $module, context, call, pending),)*
            }
        }
    };
}

for_each_api!(handle_any);

impl<R: Runtime> Router<R> {
    /// Serves the requests of one connection.
    pub fn new(context: Context<R>, session: Rc<Session>, pending: Rc<Pending<R>>) -> Self {
        Self {
            context,
            session,
            pending,
        }
    }

    fn refuse(&self, what: &dyn Display, error: &dyn Display) -> Reply {
        let now = self.context.shard.rt().now();
        let refusals = &self.context.refusals;
        refusals.tell(now, &self.session, what, error);
        Reply::Close
    }
}

impl<R: Runtime> Service for Router<R> {
    async fn accept(&self, frame: Buf, times: RequestTimes) -> Reply {
        let call = match RequestHeader::decode(&frame) {
            Ok((header, body)) => {
                Call::new(&header, body, frame.clone(), self.session.clone(), times)
            }
            // KIP-511: an ApiVersions request from the future is answered in version 0.
            Err(RequestError::UnsupportedVersion {
                api: api @ ApiKey::ApiVersions,
                correlation_id,
                ..
            }) => {
                let header = Header {
                    api,
                    version: 0,
                    correlation_id,
                };
                return Reply::Ready(plain_response(
                    &self.context,
                    header,
                    &handlers::unsupported_api_versions(),
                    times,
                ));
            }
            Err(error) => return self.refuse(&"a frame", &error),
        };
        let Header { api, version, .. } = call.header;
        let counts = self.context.metrics.apis.of(api.place());
        counts.requests.add(1);
        counts.bytes_in.add((PREFIX_BYTES + frame.len()) as u64);
        let what = format_args!("{api} version {version}");
        if !authorize(self.session.principal(), api) {
            counts.refused.add(1);
            return self.refuse(&what, &"not authorized");
        }
        match handle(&self.context, call, &self.pending).await {
            Ok(reply) => {
                counts.refused.add(u64::from(matches!(reply, Reply::Close)));
                reply
            }
            Err(error) => {
                counts.refused.add(1);
                self.refuse(&what, &error)
            }
        }
    }

    fn ended(&self, error: &FrameError) {
        match error {
            FrameError::Io(_) | FrameError::CutShort => {}
            FrameError::Length { .. } | FrameError::Silent | FrameError::Late { .. } => {
                self.refuse(&"a frame", error);
            }
        }
    }

    fn answered(&self, counted: &Counted, times: &RequestTimes) {
        let metrics = &self.context.metrics;
        metrics.times.record(counted.kind(), times);
        let of_api = metrics.apis.of(counted.api.place());
        of_api.errors.add(counted.errors as u64);
        of_api.bytes_out.add(counted.bytes as u64);
    }

    fn muted_until(&self) -> Duration {
        self.session.muted_until()
    }
}
