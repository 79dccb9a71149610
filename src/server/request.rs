//! One request on its way from its frame to its response.

use std::rc::Rc;

use super::context::Context;
use super::gate;
use super::session::Session;
use crate::metrics::{RequestKind, RequestTimes, Stage};
use crate::rt::{Buf, Permit, Runtime};
use crate::wire::{ApiKey, DecodeError, Message, Piece, RequestHeader, Response, encode_response};

/// A response on its way out. None where it could not be encoded: the connection is closed instead.
pub type ResponseFrame = Option<Outgoing>;

/// A response frame.
#[derive(Debug)]
pub struct Outgoing {
    /// The pieces it is written from, its length prefix included.
    pub pieces: Vec<Buf>,
    /// What it is charged with until it is written.
    pub memory: Option<Permit>,
    /// The stages of its request.
    pub times: RequestTimes,
    /// What is counted of it.
    pub counted: Counted,
}

/// What is counted of a response.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub api: ApiKey,
    /// Error codes that it tells of.
    pub errors: usize,
    /// Its bytes, the length prefix included.
    pub bytes: usize,
    /// Those of them that are records held elsewhere.
    records_bytes: usize,
}

impl Counted {
    /// What its times are told under.
    pub fn kind(&self) -> RequestKind {
        kind_of(self.api)
    }
}

fn kind_of(api: ApiKey) -> RequestKind {
    match api {
        ApiKey::Produce => RequestKind::Produce,
        ApiKey::Fetch => RequestKind::Fetch,
        _ => RequestKind::Other,
    }
}

/// What a request's header says, but for the client id, which the session has.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub api: ApiKey,
    /// Version of request and response.
    pub version: i16,
    /// What the response carries back.
    pub correlation_id: i32,
}

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
        M::decode_lenient(&self.frame[self.body_at..], self.header.version)
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

    /// The frame of a response that holds everything itself.
    pub fn respond<'a, R: Runtime, M: Response<'a>>(
        &self,
        context: &Context<R>,
        message: M,
    ) -> ResponseFrame {
        self.respond_with(context, message, &[], None)
    }

    /// The frame of a response whose records (`Records::Elsewhere`, in order) are `records`, each
    /// the pieces of one partition, and charged to `memory`; the rest is charged beside it.
    pub fn respond_with<'a, R: Runtime, M: Response<'a>>(
        &self,
        context: &Context<R>,
        mut message: M,
        records: &[Vec<Buf>],
        memory: Option<Permit>,
    ) -> ResponseFrame {
        gate::throttle(context, &self.session, &mut message);
        let (pieces, counted) = encode(self.header, &message, records)?;
        let framing_bytes = counted.bytes - counted.records_bytes;
        Some(Outgoing {
            pieces,
            memory: Some(context.responses.charge(memory, framing_bytes)),
            times: self.times.clone(),
            counted,
        })
    }
}

/// The frame of a small message that nothing is charged for.
pub fn plain_response<'a, M: Response<'a>>(
    header: Header,
    message: &M,
    times: RequestTimes,
) -> ResponseFrame {
    let (pieces, counted) = encode(header, message, &[])?;
    Some(Outgoing {
        pieces,
        memory: None,
        times,
        counted,
    })
}

/// The frame of a message, and of records beside it.
fn encode<'a, M: Response<'a>>(
    header: Header,
    message: &M,
    records: &[Vec<Buf>],
) -> Option<(Vec<Buf>, Counted)> {
    let mut framing = Vec::new();
    let encoded = encode_response(&mut framing, header.version, header.correlation_id, message);
    let encoded = match encoded {
        Ok(encoded) => encoded,
        // Nothing that a handler makes comes near the protocol's limits; should it, the
        // connection is closed.
        Err(error) => {
            tracing::error!(api = %header.api, %error, "response cannot be encoded");
            return None;
        }
    };
    let framing = Buf::from_vec(framing);
    let mut pieces = Vec::with_capacity(1 + 2 * records.len());
    for piece in encoded.pieces() {
        match piece {
            Piece::Framing(range) => pieces.push(framing.slice(range)),
            Piece::Records(index) => pieces.extend(records[index].iter().cloned()),
        }
    }
    let counted = Counted {
        api: header.api,
        errors: encoded.error_count(),
        bytes: encoded.frame_bytes(),
        records_bytes: encoded.frame_bytes() - encoded.framing().len(),
    };
    Some((pieces, counted))
}
