//! One request on its way from its frame to its handler.

use std::rc::Rc;

use super::context::Context;
use super::gate;
use super::response::{Counted, Header, Outgoing, Pieces, ResponseFrame, kind_of};
use super::session::Session;
use crate::metrics::{RequestKind, RequestTimes, Stage};
use crate::rt::{Buf, Permit, Runtime};
use crate::wire::{DecodeError, Message, RequestHeader, Response};

/// What a handler of kind `message` gets: the message, whose fields are its own, and what is beside
/// it.
#[derive(Debug)]
pub struct Request<M> {
    pub message: M,
    pub header: Header,
    /// The connection that it came on.
    pub session: Rc<Session>,
}

impl<M> std::ops::Deref for Request<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

/// What a handler of kind `hot` gets: a decoder that borrows, and a writer of responses.
#[derive(Debug)]
pub struct Call {
    /// The request's header.
    pub header: Header,
    /// The connection that it came on.
    pub session: Rc<Session>,
    /// Its stages so far.
    pub times: RequestTimes,
    frame: Buf,
    body_at: usize,
}

impl Call {
    /// The request that `frame` holds, split at the end of its header.
    pub fn new(
        header: &RequestHeader<'_>,
        body: &[u8],
        frame: Buf,
        session: Rc<Session>,
        times: RequestTimes,
    ) -> Self {
        session.set_client_id(header.client_id);
        Self {
            header: Header {
                api: header.api,
                version: header.version,
                correlation_id: header.correlation_id,
            },
            session,
            times,
            body_at: frame.len() - body.len(),
            frame,
        }
    }

    /// The request's message.
    pub fn read<'a, M: Message<'a>>(&'a self) -> Result<M, DecodeError> {
        M::decode_lenient(self.body(), self.header.version)
    }

    /// The request's message with all that a handler may want to know beside it.
    pub fn open<'a, M: Message<'a>>(&'a self) -> Result<Request<M>, DecodeError> {
        Ok(Request {
            message: self.read()?,
            header: self.header,
            session: self.session.clone(),
        })
    }

    /// What it is measured as.
    pub fn kind(&self) -> RequestKind {
        kind_of(self.header.api)
    }

    /// A stage of it ends now.
    pub fn lap<R: Runtime>(&self, context: &Context<R>, stage: Stage) {
        self.times.lap(stage, context.shard.rt().now());
    }

    /// The request's body as it came.
    pub fn body(&self) -> &[u8] {
        &self.frame[self.body_at..]
    }

    /// The frame of a response that holds everything itself.
    pub fn respond<'a, R: Runtime, M: Response<'a>>(
        &self,
        context: &Context<R>,
        mut message: M,
    ) -> ResponseFrame {
        self.throttle(context, &mut message);
        let arena = context.shard.rt().arena();
        let (pieces, counted) = context.writer.write(arena, self.header, &message)?;
        Some(self.outgoing(context, pieces, counted, None))
    }

    /// Charges the request to its principal's quota, and has the response say so.
    pub fn throttle<'a, R: Runtime>(&self, context: &Context<R>, response: &mut impl Response<'a>) {
        gate::throttle(context, &self.session, response);
    }

    /// A response that is written: its records are charged to `memory`, the rest is charged beside
    /// it.
    pub fn outgoing<R: Runtime>(
        &self,
        context: &Context<R>,
        pieces: Pieces,
        counted: Counted,
        memory: Option<Permit>,
    ) -> Outgoing {
        let memory = context.responses.charge(memory, counted.framing_bytes());
        Outgoing {
            pieces,
            memory: Some(memory),
            times: self.times.clone(),
            counted,
        }
    }
}

/// The frame of a small message that nothing is charged for.
pub fn plain_response<'a, R: Runtime, M: Response<'a>>(
    context: &Context<R>,
    header: Header,
    message: &M,
    times: RequestTimes,
) -> ResponseFrame {
    let arena = context.shard.rt().arena();
    let (pieces, counted) = context.writer.write(arena, header, message)?;
    Some(Outgoing {
        pieces,
        memory: None,
        times,
        counted,
    })
}
