//! Kafka's protocol: bytes to values and back. Pure; knows sockets no more than logs.
//!
//! # Definitions
//!
//! Every message is written down once, in the words of Kafka's own schemas
//! (`clients/src/main/resources/common/message/*.json`), in `messages/`, a file per API:
//!
//! ```text
//! message! {
//!     /// Asks for brokers, topics, and who leads their partitions.
//!     struct MetadataRequest<'a> {
//!         topics: Option<Vec<MetadataRequestTopic<'a>>> [0..] null [1..],
//!         allow_auto_topic_creation: bool [4..] = true,
//!         include_cluster_authorized_operations: bool [8..=10],
//!     }
//! }
//! ```
//!
//! - `[8..=10]`: the versions that have the field. In all others it keeps its default when read
//!   and is left out when written.
//! - `Option<…>`: nullable; `null [1..]` says from which version on, where that is not all of
//!   them. A `None` in a version without null is written as the empty value.
//! - `tag 0`: a tagged field (KIP-482), written only where it differs from its default. Tags rise
//!   from field to field.
//! - `= true`: the default, where it is not the type's own.
//!
//! From that follow the struct with public fields, `Default`, and [`Wire`]: read, write and the
//! least size of a value. Field types are the integers, `bool`, `uuid::Uuid`, the ids of
//! [`crate::model`], [`ErrorCode`], [`Str`], [`Records`], other messages, and `Vec` or [`List`]
//! of these.
//!
//! To add an API: a file of messages in a room of `messages/` (and its name in the room's
//! `mod.rs`), a row in the table in `api.rs`, a handler in `server/handlers/`. The router, the answer to ApiVersions,
//! the fuzz targets, round trips against an independent codec and hostile input follow from the
//! row. What the oracle does not see, the `null` clauses and versions it lacks, goes into
//! `tests/wire_oracle/known.rs`.
//!
//! # Use
//!
//! Frames are cut below (`net::FrameReader`), and come here without their length. A broker
//! reads the header ([`RequestHeader::decode`]), then the body ([`Message::decode`] or
//! [`messages::AnyRequest`]), and answers with [`encode_response`]. A client uses
//! [`encode_request`] and, once [`correlation_id`] has told which request it answers,
//! [`decode_response`].
//!
//! # Limits
//!
//! Input is hostile. Values borrow from the frame; each length is checked against the bytes that
//! remain before anything is allocated; arrays start with room for 1,024 elements at most and
//! together take at most four times the frame plus 1 MiB (CVE-2022-34917, CVE-2026-111108);
//! tagged fields are few, rising, and skipped where unknown (CVE-2026-111115); bytes behind the
//! last field are an error. Messages do not nest beyond their definitions.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod api;
mod error;
mod error_code;
mod fetch_walk;
mod fetch_writer;
mod header;
mod limits;
mod list;
#[macro_use]
mod message;
pub mod messages;
mod reader;
mod types;
mod writer;

pub(crate) use api::for_each_api;
pub use api::{ApiKey, api_name};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use fetch_walk::{FetchItem, FetchWalk};
pub use fetch_writer::FetchWriter;
pub use header::{
    RequestError, RequestHeader, begin_response, correlation_id, decode_response, encode_request,
    encode_response,
};
pub use limits::{MAX_STRING_BYTES, MAX_TAGS_PER_SECTION, Version};
pub use list::List;
pub use reader::{MAX_UNKNOWN_TAGS, Reader};
pub use types::{Nullable, Records, Str, Wire, read_present, write_present};
pub use writer::{Encoded, Piece, Tags, Writer};

/// A whole request or response body.
pub trait Message<'a>: Wire<'a> {
    /// The API that it belongs to.
    const KEY: ApiKey;

    /// Reads a body; it must fill the bytes to the last.
    fn decode(body: &'a [u8], version: i16) -> Result<Self, DecodeError> {
        let (message, reader) = decode_front(body, version)?;
        reader.finish()?;
        Ok(message)
    }

    /// Reads a body and ignores what follows it. A broker must: librdkafka up to 2.16 at least writes
    /// the null list of a Metadata request for all topics in four bytes instead of one (its issue
    /// 5049), so that three are left over, and Kafka answers it.
    fn decode_lenient(body: &'a [u8], version: i16) -> Result<Self, DecodeError> {
        Ok(decode_front(body, version)?.0)
    }
}

fn decode_front<'a, M: Message<'a>>(
    body: &'a [u8],
    version: i16,
) -> Result<(M, Reader<'a>), DecodeError> {
    if !M::KEY.supports(version) {
        return Err(DecodeError::Version(version));
    }
    let mut reader = Reader::new(body, M::KEY.version(version));
    let mut message = M::default();
    message.read(&mut reader)?;
    Ok((message, reader))
}

/// A message that clients send.
pub trait Request<'a>: Message<'a> {
    /// The message that answers it, borrowing from a frame of its own.
    type Response<'r>: Response<'r>;
}

/// A message that brokers send.
pub trait Response<'a>: Message<'a> {}
