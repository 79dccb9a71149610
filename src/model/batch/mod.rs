//! Record batch v2 (KIP-98): `header` is the fixed 61 bytes as a checked view.

mod header;

pub use header::{BatchError, BatchView, Compression, HEADER_BYTES, MAGIC, TimestampType, stamp};
