//! Where a partition stands: offsets for its readers, byte positions for its files.

use crate::model::Offset;

/// The marks of a partition: `log start ≤ durable ≤ log end`, `segment-durable ≤ durable`.
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

impl Marks {
    /// Whether the marks stand in their order.
    pub fn in_order(&self) -> bool {
        self.log_start <= self.durable
            && self.segment_durable <= self.durable
            && self.durable <= self.log_end
    }
}

/// A byte of a partition's log: which segment, where in it.
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

    /// The beginning of this position's block.
    pub fn block_start(self) -> Self {
        Self::new(self.segment, block_floor(self.byte))
    }
}

/// A boundary between two batches: an offset and the byte where it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boundary {
    /// The offset.
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
    fn marks_out_of_order_are_noticed() {
        let good = Marks {
            log_start: Offset(1),
            segment_durable: Offset(0),
            durable: Offset(3),
            log_end: Offset(3),
        };
        assert!(good.in_order());
        let bad = [
            Marks {
                log_start: Offset(4),
                ..good
            },
            Marks {
                segment_durable: Offset(4),
                ..good
            },
            Marks {
                durable: Offset(4),
                ..good
            },
        ];
        assert!(bad.iter().all(|marks| !marks.in_order()));
    }

    #[test]
    fn blocks() {
        assert_eq!((block_floor(4095), block_ceil(4095)), (0, 4096));
        assert_eq!((block_floor(4096), block_ceil(4096)), (4096, 4096));
    }
}
