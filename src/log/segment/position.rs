//! A byte of a log, and the boundary between two batches.

use crate::log::files::partition_files::SegmentId;
use crate::model::Offset;

/// A byte of a partition's log: which segment, where in it.
///
/// The segment is one that is appended to, journaled and written back, or was until it was sealed. What
/// a rewrite has put in its place has no positions of this kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Byte position in its file.
    pub byte: u64,
}

impl Position {
    /// A byte of a segment.
    pub fn new(segment: Offset, byte: u64) -> Self {
        Self { segment, byte }
    }

    /// The segment.
    pub fn id(self) -> SegmentId {
        SegmentId::appended(self.segment)
    }

    /// The beginning of this position's block.
    pub fn block_start(self) -> Self {
        Self::new(self.segment, block_floor(self.byte))
    }
}

/// A boundary between two batches: an offset and the byte where it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boundary {
    pub offset: Offset,
    /// Its first byte.
    pub at: Position,
}

/// The block boundary at or below a byte position.
pub fn block_floor(byte: u64) -> u64 {
    byte - byte % crate::rt::BLOCK_BYTES as u64
}

/// The block boundary at or above a byte position.
pub fn block_ceil(byte: u64) -> u64 {
    byte.next_multiple_of(crate::rt::BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        assert_eq!((block_floor(4095), block_ceil(4095)), (0, 4096));
        assert_eq!((block_floor(4096), block_ceil(4096)), (4096, 4096));
    }
}
