//! Where a partition stands, in offsets.

use crate::model::Offset;

/// The marks of a partition: `log start ≤ durable ≤ log end`, `segment-durable ≤ durable`, which its
/// `state` checks at every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// First offset that may be read.
    pub log_start: Offset,
    /// Everything below is durably in segment files.
    pub segment_durable: Offset,
    /// Everything below is as safe as the durability level promises. With one replica this is the
    /// high watermark.
    pub durable: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
}
