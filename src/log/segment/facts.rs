//! What is known of a segment without reading it, and how much of its space is reserved ahead.

use bytes::{Buf, BufMut, TryGetError};

use crate::log::files::partition_files::SegmentId;
use crate::log::partition::{retention, roll_plan};
use crate::model::Offset;

/// One segment of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Where it begins; its files are named by it. There is a record at it unless the segment is not
    /// dense.
    pub base_offset: Offset,
    /// Counts the rewrites of what is in it; its files are named by it.
    pub generation: u32,
    /// Its batches leave no offset out: each begins where the one before ends, the first at
    /// `base_offset`, and the last one ends at `end_offset`. A rewrite that drops batches leaves gaps,
    /// also at both ends.
    pub dense: bool,
    /// Where the next segment begins.
    pub end_offset: Offset,
    /// Bytes of batches in it.
    pub size_bytes: u64,
    /// Largest timestamp of its first batch, in Unix milliseconds; roll by time counts from it.
    pub first_timestamp_ms: i64,
    /// Largest timestamp, in Unix milliseconds; −1 when none of its batches has one.
    pub max_timestamp_ms: i64,
    /// Last offset of the first batch that has the largest timestamp.
    pub max_timestamp_offset: Offset,
    /// Wall clock when it began, in Unix milliseconds: its age where it has no timestamps.
    pub created_ms: i64,
}

impl SegmentFacts {
    /// An empty segment that is appended to.
    pub fn empty(base_offset: Offset, created_ms: i64) -> Self {
        Self {
            base_offset,
            generation: 0,
            dense: true,
            end_offset: base_offset,
            size_bytes: 0,
            first_timestamp_ms: -1,
            max_timestamp_ms: -1,
            max_timestamp_offset: base_offset,
            created_ms,
        }
    }

    /// What [`SegmentFacts::encode`] appends.
    pub const BYTES: usize = 61;

    /// Appends its bytes to `out`, big-endian: base, end, size, first timestamp, max timestamp, its
    /// offset, created, 8 bytes each, generation (4), flags (1; bit 0: dense).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.base_offset.0);
        out.put_i64(self.end_offset.0);
        out.put_u64(self.size_bytes);
        out.put_i64(self.first_timestamp_ms);
        out.put_i64(self.max_timestamp_ms);
        out.put_i64(self.max_timestamp_offset.0);
        out.put_i64(self.created_ms);
        out.put_u32(self.generation);
        out.put_u8(u8::from(self.dense));
    }

    /// Takes what [`SegmentFacts::encode`] wrote off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, TryGetError> {
        Ok(Self {
            base_offset: Offset(bytes.try_get_i64()?),
            end_offset: Offset(bytes.try_get_i64()?),
            size_bytes: bytes.try_get_u64()?,
            first_timestamp_ms: bytes.try_get_i64()?,
            max_timestamp_ms: bytes.try_get_i64()?,
            max_timestamp_offset: Offset(bytes.try_get_i64()?),
            created_ms: bytes.try_get_i64()?,
            generation: bytes.try_get_u32()?,
            dense: bytes.try_get_u8()? & 1 != 0,
        })
    }

    /// Its name.
    pub fn id(&self) -> SegmentId {
        SegmentId {
            base_offset: self.base_offset,
            generation: self.generation,
        }
    }

    /// Counts a batch that was appended, under the offsets it has now.
    pub fn count(&mut self, last_offset: Offset, bytes: u64, max_timestamp_ms: i64) {
        if self.size_bytes == 0 {
            self.first_timestamp_ms = max_timestamp_ms;
        }
        if max_timestamp_ms > self.max_timestamp_ms {
            self.max_timestamp_ms = max_timestamp_ms;
            self.max_timestamp_offset = last_offset;
        }
        self.size_bytes += bytes;
        self.end_offset = last_offset.plus(1);
    }

    /// What retention looks at.
    pub fn for_retention(&self) -> retention::KeptSegment {
        retention::KeptSegment {
            base_offset: self.base_offset,
            end_offset: self.end_offset,
            size_bytes: self.size_bytes,
            largest_timestamp_ms: self.max_timestamp_ms,
            last_modified_ms: self.created_ms,
        }
    }

    /// What rolling looks at.
    pub fn for_rolling(&self, index_full: bool) -> roll_plan::RollState {
        roll_plan::RollState {
            base_offset: self.base_offset,
            size_bytes: self.size_bytes,
            first_timestamp_ms: self.first_timestamp_ms,
            created_ms: self.created_ms,
            index_full,
        }
    }
}

/// Up to where a segment's space is reserved next so that `needed_bytes` fit: steps that double
/// from `first_bytes` to `last_bytes`, not beyond a full segment.
pub fn next_reservation(
    reserved_bytes: u64,
    needed_bytes: u64,
    segment_bytes: u64,
    (first_bytes, last_bytes): (u64, u64),
) -> u64 {
    let step = reserved_bytes.clamp(first_bytes, last_bytes.max(first_bytes));
    let block = crate::rt::BLOCK_BYTES as u64;
    reserved_bytes
        .saturating_add(step)
        .min(segment_bytes)
        .max(needed_bytes)
        .next_multiple_of(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_double_up_to_the_segment() {
        let next =
            |reserved, needed| next_reservation(reserved, needed, 100 << 20, (256 << 10, 64 << 20));
        assert_eq!(next(0, 1), 256 << 10);
        assert_eq!(next(256 << 10, 1), 512 << 10);
        assert_eq!(next(512 << 10, 3 << 20), 3 << 20);
        assert_eq!(next(80 << 20, 1), 100 << 20);
        assert_eq!(next(100 << 20, (100 << 20) + 1), (100 << 20) + 4096);
    }

    #[test]
    fn facts_keep_the_first_largest_timestamp() {
        let mut facts = SegmentFacts::empty(Offset(5), 77);
        for (last, timestamp) in [(5, 10), (7, 30), (9, 30), (11, 20)] {
            facts.count(Offset(last), 100, timestamp);
        }
        assert_eq!(
            (facts.max_timestamp_ms, facts.max_timestamp_offset),
            (30, Offset(7))
        );
        assert_eq!((facts.size_bytes, facts.end_offset), (400, Offset(12)));
        assert_eq!(facts.first_timestamp_ms, 10);
    }
}
