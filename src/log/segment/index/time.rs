//! The time index: entries of 12 bytes, `timestamp i64, relative offset u32`, big-endian.
//!
//! An entry (T, O) says that the batch whose last offset is O is the first of the segment to reach T:
//! every record with a later timestamp comes behind O. Both numbers strictly rise.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::{Buf, BufMut};

use super::{NO_TIMESTAMP_MS, relative};
use crate::model::Offset;
use crate::model::batch::BatchView;

/// The largest timestamp up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Unix milliseconds; −1 when there is no timestamp.
    pub timestamp_ms: i64,
    /// Last offset of the batch that brought it; without a timestamp, the base offset.
    pub offset: Offset,
}

impl TimeEntry {
    /// The entry tells the truth about the batch that holds its offset. Where it does not, the index
    /// is corrupt and the search starts over without it.
    pub fn matches(&self, batch: &BatchView<'_>) -> bool {
        self.timestamp_ms < 0
            || (self.offset, self.timestamp_ms) == (batch.last_offset(), batch.max_timestamp_ms())
    }
}

/// Timestamps to offsets, of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeIndex {
    base_offset: Offset,
    /// Kept apart so that an entry takes 12 bytes and not 16.
    timestamps_ms: Vec<i64>,
    relative_offsets: Vec<u32>,
}

impl TimeIndex {
    /// Bytes of an entry in the file.
    pub const ENTRY_BYTES: usize = 12;

    pub(super) fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            timestamps_ms: Vec::new(),
            relative_offsets: Vec::new(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    /// There is no entry.
    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    /// The last entry; of a sealed segment, its largest timestamp. Timestamp −1 and the base offset
    /// when there is none.
    pub fn last(&self) -> TimeEntry {
        self.at(self.len())
    }

    /// The last entry at or before `timestamp_ms`; timestamp −1 and the base offset before all.
    pub fn floor(&self, timestamp_ms: i64) -> TimeEntry {
        self.at(self.timestamps_ms.partition_point(|t| *t <= timestamp_ms))
    }

    /// The number of entries that name only batches below `end_offset`: as many may be written when
    /// no more than that is safe.
    pub fn entries_below(&self, end_offset: Offset) -> usize {
        let end = end_offset.0.saturating_sub(self.base_offset.0);
        self.relative_offsets
            .partition_point(|relative| i64::from(*relative) < end)
    }

    /// The bytes of the entries in `range`, which begin at `ENTRY_BYTES × range.start` in the file.
    pub fn encode(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let timestamps = self.timestamps_ms.get(range.clone()).unwrap_or_default();
        let offsets = self.relative_offsets.get(range).unwrap_or_default();
        let mut bytes = Vec::with_capacity(timestamps.len() * Self::ENTRY_BYTES);
        for (timestamp_ms, relative) in timestamps.iter().zip(offsets) {
            bytes.put_i64(*timestamp_ms);
            bytes.put_u32(*relative);
        }
        bytes
    }

    /// Adds an entry if its timestamp is above the last one's.
    pub(super) fn append(&mut self, entry: TimeEntry) {
        let last = self.last();
        if entry.timestamp_ms > last.timestamp_ms
            && let Some(relative) = relative(self.base_offset, entry.offset)
            && (self.is_empty() || entry.offset > last.offset)
        {
            self.timestamps_ms.push(entry.timestamp_ms);
            self.relative_offsets.push(relative);
        }
    }

    pub(super) fn decode(base_offset: Offset, end_offset: Offset, mut file: &[u8]) -> Self {
        let mut index = Self::new(base_offset);
        index
            .timestamps_ms
            .reserve_exact(file.len() / Self::ENTRY_BYTES);
        index
            .relative_offsets
            .reserve_exact(file.len() / Self::ENTRY_BYTES);
        let mut last = (NO_TIMESTAMP_MS, -1);
        while file.len() >= Self::ENTRY_BYTES {
            let (timestamp_ms, relative) = (file.get_i64(), file.get_u32());
            let rises = timestamp_ms > last.0 && i64::from(relative) > last.1;
            if !rises || base_offset.0.saturating_add(i64::from(relative)) >= end_offset.0 {
                break;
            }
            last = (timestamp_ms, i64::from(relative));
            index.timestamps_ms.push(timestamp_ms);
            index.relative_offsets.push(relative);
        }
        index
    }

    /// Adds the entries of a later part of the segment.
    pub(super) fn extend(&mut self, later: &Self) {
        let entries = later.timestamps_ms.iter().zip(&later.relative_offsets);
        for (timestamp_ms, relative) in entries {
            self.append(TimeEntry {
                timestamp_ms: *timestamp_ms,
                offset: later.base_offset.plus(i64::from(*relative)),
            });
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.timestamps_ms.capacity() * size_of::<i64>()
            + self.relative_offsets.capacity() * size_of::<u32>()
    }

    /// The entry before the one numbered `following`.
    fn at(&self, following: usize) -> TimeEntry {
        let at = following.checked_sub(1);
        let timestamp_ms = at.and_then(|at| self.timestamps_ms.get(at));
        let relative = at.and_then(|at| self.relative_offsets.get(at));
        let relative = i64::from(relative.copied().unwrap_or_default());
        TimeEntry {
            timestamp_ms: timestamp_ms.copied().unwrap_or(NO_TIMESTAMP_MS),
            offset: Offset(self.base_offset.0.saturating_add(relative)),
        }
    }
}
