//! The offset index: entries of 8 bytes, `relative offset u32, position u32`, big-endian.
//!
//! An entry names the *last* offset of a batch and the position where that batch begins. Kafka never
//! writes one for a segment's first batch, so both numbers are above zero and strictly rise.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::{Buf, BufMut};

use super::relative;
use crate::model::Offset;
use crate::model::batch::BatchView;

/// A batch of the segment: its last offset and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch; of the segment's beginning, the base offset.
    pub offset: Offset,
    /// Where the batch begins in the segment.
    pub position: u32,
}

impl OffsetEntry {
    /// The entry tells the truth about the batch found at its position. Where it does not, the index
    /// is corrupt and the read starts over without it.
    pub fn matches(&self, batch: &BatchView<'_>) -> bool {
        self.position == 0 || self.offset == batch.last_offset()
    }
}

/// Offsets to positions, of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetIndex {
    base_offset: Offset,
    /// Relative last offset and position, both strictly rising.
    entries: Vec<(u32, u32)>,
}

impl OffsetIndex {
    /// Bytes of an entry in the file.
    pub const ENTRY_BYTES: usize = 8;

    pub(super) fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            entries: Vec::new(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last entry, or the segment's beginning.
    pub fn last(&self) -> OffsetEntry {
        self.at(self.len())
    }

    /// The last entry at or below `offset`, or the segment's beginning.
    pub fn floor(&self, offset: Offset) -> OffsetEntry {
        let target = offset.0.saturating_sub(self.base_offset.0);
        self.at(self.entries.partition_point(|e| i64::from(e.0) <= target))
    }

    /// The number of entries that name only batches below `end_offset`: as many may be written when
    /// no more than that is safe.
    pub fn entries_below(&self, end_offset: Offset) -> usize {
        let end = end_offset.0.saturating_sub(self.base_offset.0);
        self.entries.partition_point(|e| i64::from(e.0) < end)
    }

    /// Bytes of the segment between what the first `from` entries end with and what the first `to` do.
    pub fn bytes_between(&self, from: usize, to: usize) -> u64 {
        u64::from(self.at(to).position.saturating_sub(self.at(from).position))
    }

    /// The bytes of the entries in `range`, which begin at `ENTRY_BYTES × range.start` in the file.
    pub fn encode(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let entries = self.entries.get(range).unwrap_or_default();
        let mut bytes = Vec::with_capacity(entries.len() * Self::ENTRY_BYTES);
        for (relative, position) in entries {
            bytes.put_u32(*relative);
            bytes.put_u32(*position);
        }
        bytes
    }

    /// Adds an entry unless it would not rise, or lies too far from the base to be said in the
    /// format: a sparse index may leave out any entry.
    pub(super) fn append(&mut self, last_offset: Offset, position: u32) {
        let last = self.entries.last().copied().unwrap_or_default();
        if let Some(relative) = relative(self.base_offset, last_offset)
            && relative > last.0
            && position > last.1
        {
            self.entries.push((relative, position));
        }
    }

    pub(super) fn decode(
        base_offset: Offset,
        end_offset: Offset,
        segment_bytes: u64,
        mut file: &[u8],
    ) -> Self {
        let mut entries = Vec::with_capacity(file.len() / Self::ENTRY_BYTES);
        let mut last = (0, 0);
        while file.len() >= Self::ENTRY_BYTES {
            let entry = (file.get_u32(), file.get_u32());
            let offset = base_offset.0.saturating_add(i64::from(entry.0));
            let rises = entry.0 > last.0 && entry.1 > last.1;
            if !rises || offset >= end_offset.0 || u64::from(entry.1) >= segment_bytes {
                break;
            }
            entries.push(entry);
            last = entry;
        }
        Self {
            base_offset,
            entries,
        }
    }

    /// Adds the entries of a later part of the segment.
    pub(super) fn extend(&mut self, later: &Self) {
        for (relative, position) in &later.entries {
            self.append(later.base_offset.plus(i64::from(*relative)), *position);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(u32, u32)>()
    }

    /// The entry before the one numbered `following`.
    fn at(&self, following: usize) -> OffsetEntry {
        let entry = following.checked_sub(1).and_then(|at| self.entries.get(at));
        let (relative, position) = entry.copied().unwrap_or_default();
        OffsetEntry {
            offset: Offset(self.base_offset.0.saturating_add(i64::from(relative))),
            position,
        }
    }
}
