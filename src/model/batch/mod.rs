//! Record batch v2 (KIP-98), as a view on bytes and as bytes to write.
//!
//! - `header`: the fixed 61 bytes as a checked view; `walk`: batch after batch through a segment.
//! - `varint`, `record`, `record_walk`: the records inside, once they are decompressed.
//! - `fields`, `builder`, `rewrite`: making batches, and changing what a broker may change.
//! - `check`, `check_records`: what a producer may send. `sequence`: idempotent producers' counting.
//!
//! Compression happens outside: records go in and out as plain bytes.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod builder;
mod check;
mod check_records;
mod fields;
mod header;
mod record;
mod record_error;
mod record_walk;
mod rewrite;
mod sequence;
#[cfg(test)]
mod tests;
mod varint;
mod walk;

pub use builder::{BatchBuilder, BuildError};
pub use check::{InvalidBatch, InvalidBatchKind, ProduceRules, check_produced};
pub use check_records::{
    InvalidRecords, RecordCheck, RecordFacts, RecordRules, RejectReason, RejectedRecord,
    check_records,
};
pub use fields::{BatchFields, SealError};
pub use header::{BatchError, BatchView, HEADER_BYTES, MAGIC, TimestampType, stamp};
pub use record::{Header, Headers, RecordRef, Records};
pub use record_error::RecordError;
pub use record_walk::{MalformedRecord, RecordFront, RecordWalk};
pub use rewrite::{recompress, set_log_append_time, set_max_timestamp};
pub use sequence::{decrement_sequence, increment_sequence};
pub use walk::{BatchBreak, Batches};
