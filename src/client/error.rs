//! What can go wrong between a client and its brokers.

use std::io;

use crate::wire::{ApiKey, DecodeError, EncodeError, ErrorCode};

/// Why a client's request failed for good (what may be retried was retried).
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None of the given brokers answers.
    #[error("no broker answers at {brokers}: {last}")]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// The last failure.
        last: String,
    },
    /// An address that is none.
    #[error("broker address '{address}' is not HOST:PORT")]
    Address {
        /// As given.
        address: String,
    },
    /// The connection broke.
    #[error("connection to {broker}: {source}")]
    Connection {
        /// The broker's address.
        broker: String,
        /// What happened.
        source: io::Error,
    },
    /// The broker sent what the protocol does not allow.
    #[error("{broker} sent a malformed {api} response: {source}")]
    Malformed {
        /// The broker's address.
        broker: String,
        api: ApiKey,
        /// What is wrong.
        source: DecodeError,
    },
    /// A request that the protocol cannot express in the negotiated version.
    #[error("{api} request: {source}")]
    Encode {
        api: ApiKey,
        /// What does not fit.
        source: EncodeError,
    },
    /// Broker and client have no version of an API in common.
    #[error("{broker} speaks no version of {api} that this client speaks")]
    NoCommonVersion {
        /// The broker's address.
        broker: String,
        api: ApiKey,
    },
    /// The broker refuses.
    #[error("{what}: {}{}", code, message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// The broker's error code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// A batch that no broker would take: it was not sent.
    #[error(
        "a batch of {bytes} bytes for {topic}-{partition}, and a request may have {limit_bytes}"
    )]
    TooLarge {
        /// Topic name.
        topic: String,
        /// Partition index.
        partition: i32,
        /// Its size, compressed.
        bytes: usize,
        /// The largest that is sent.
        limit_bytes: usize,
    },
    /// It took longer than allowed.
    #[error("{what}: no answer in time")]
    TimedOut {
        /// What was asked.
        what: String,
    },
    /// A batch that was read is not one: the bytes on the wire or on the broker's disk are damaged.
    #[error("{topic}-{partition} at offset {offset}: {reason}")]
    Corrupt {
        /// Topic name.
        topic: String,
        /// Partition index.
        partition: i32,
        /// Where it was found.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later or elsewhere.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}
