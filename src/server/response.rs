//! A response on its way out.

use std::cell::RefCell;

use smallvec::SmallVec;

use crate::metrics::{RequestKind, RequestTimes};
use crate::rt::{Arena, Buf, BufMut, Permit};
use crate::wire::{ApiKey, EncodeError, Encoded, Response, encode_response};

/// Responses of so many bytes lie together in one buffer; larger ones have their own.
const TOGETHER_BYTES_MAX: usize = 1 << 10;
/// Of which there is so much at a time. It stays for as long as one of its responses waits to be
/// written, of which a connection has few.
const TOGETHER_BYTES: usize = 16 << 10;

/// What a request's header says, but for the client id, which the session has.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub api: ApiKey,
    /// Version of request and response.
    pub version: i16,
    /// What the response carries back.
    pub correlation_id: i32,
}

/// A response frame. None where it could not be encoded: the connection is closed instead.
pub type ResponseFrame = Option<Outgoing>;

/// The pieces that a response is written from. Most have one; with the records of one partition, there
/// are three.
pub type Pieces = SmallVec<[Buf; 3]>;

/// A response frame.
#[derive(Debug)]
pub struct Outgoing {
    /// What it is written from, its length prefix included.
    pub pieces: Pieces,
    /// What it is charged with until it is written.
    pub memory: Option<Permit>,
    /// The stages of its request.
    pub times: RequestTimes,
    /// What is counted of it.
    pub counted: Counted,
}

/// An encoded response, and where records that are held elsewhere go.
#[derive(Debug)]
pub struct Written {
    pub encoded: Encoded,
    /// The bytes that `encoded` speaks of.
    pub framing: Buf,
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

    /// Its bytes without the records.
    pub fn framing_bytes(&self) -> usize {
        self.bytes - self.records_bytes
    }
}

/// What the times of an API's requests are told under.
pub fn kind_of(api: ApiKey) -> RequestKind {
    match api {
        ApiKey::Produce => RequestKind::Produce,
        ApiKey::Fetch => RequestKind::Fetch,
        _ => RequestKind::Other,
    }
}

/// Where a shard's responses are encoded, in memory that is used again.
#[derive(Debug)]
pub struct ResponseWriter {
    encoded: RefCell<Vec<u8>>,
    together: RefCell<BufMut>,
}

impl Default for ResponseWriter {
    fn default() -> Self {
        Self {
            encoded: RefCell::default(),
            together: RefCell::new(BufMut::empty()),
        }
    }
}

impl ResponseWriter {
    /// The frame of a message that holds everything itself.
    pub fn write<'a, M: Response<'a>>(
        &self,
        arena: &Arena,
        header: Header,
        message: &M,
    ) -> Option<(Pieces, Counted)> {
        let mut bytes = self.begin();
        let encoded = encode_response(&mut bytes, header.version, header.correlation_id, message);
        let Written {
            framing, counted, ..
        } = self.end(arena, header, bytes, encoded)?;
        Some((Pieces::from_iter([framing]), counted))
    }

    /// Memory to encode one response in, empty; [`ResponseWriter::end`] takes it back.
    pub fn begin(&self) -> Vec<u8> {
        let mut bytes = self.encoded.take();
        bytes.clear();
        bytes
    }

    /// What was encoded in `bytes`, which [`ResponseWriter::begin`] gave. Nothing where that did not
    /// come off.
    pub fn end(
        &self,
        arena: &Arena,
        header: Header,
        bytes: Vec<u8>,
        encoded: Result<Encoded, EncodeError>,
    ) -> Option<Written> {
        let encoded = match encoded {
            Ok(encoded) => encoded,
            // Nothing that a handler makes comes near the protocol's limits; should it, the
            // connection is closed.
            Err(error) => {
                tracing::error!(api = %header.api, %error, "response cannot be encoded");
                return None;
            }
        };
        let framing = match self.with_others(arena, &bytes) {
            Some(framing) => {
                self.encoded.replace(bytes);
                framing
            }
            None => Buf::from_vec(bytes),
        };
        let counted = Counted {
            api: header.api,
            errors: encoded.error_count(),
            bytes: encoded.frame_bytes(),
            records_bytes: encoded.frame_bytes() - encoded.framing().len(),
        };
        Some(Written {
            encoded,
            framing,
            counted,
        })
    }

    /// A copy of a small response's bytes in the buffer of many.
    fn with_others(&self, arena: &Arena, bytes: &[u8]) -> Option<Buf> {
        if bytes.len() > TOGETHER_BYTES_MAX {
            return None;
        }
        let mut together = self.together.borrow_mut();
        if together.room() < bytes.len() {
            *together = arena.alloc(TOGETHER_BYTES).ok()?;
        }
        let start = together.len();
        together.extend_from_slice(bytes);
        Some(together.slice(start..start + bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::ProduceResponse;

    #[test]
    fn small_responses_lie_together_and_stay_as_they_were() {
        let (arena, writer) = (Arena::new(1 << 20), ResponseWriter::default());
        let frame = |correlation_id| {
            let header = Header {
                api: ApiKey::Produce,
                version: 9,
                correlation_id,
            };
            let written = writer.write(&arena, header, &ProduceResponse::default());
            let (mut pieces, counted) = written.expect("encoded");
            assert_eq!((pieces.len(), pieces[0].len()), (1, counted.bytes));
            pieces.remove(0)
        };
        let frames: Vec<_> = (0..3_000).map(frame).collect();
        for (frame, correlation_id) in frames.iter().zip(0_i32..) {
            assert_eq!(frame[4..8], correlation_id.to_be_bytes());
        }
        assert!(frames[0].shares_memory_with(&frames[1]));
        let all_bytes = 3_000 * frames[0].len();
        assert!(arena.used_bytes() < all_bytes + 2 * TOGETHER_BYTES);
        drop(frames);
        assert_eq!(arena.used_bytes(), TOGETHER_BYTES);
    }
}
