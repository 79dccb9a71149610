//! The sparse index of one segment: offset to byte position, timestamp to offset, in Kafka's formats.
//!
//! Pure. Every batch of the segment goes through [`SegmentIndex::append`], in order, whether it is
//! being appended or walked during recovery; both lead to the same entries.
//!
//! The files carry no checksum, and what they end with may be gone after a power cut, or tell of
//! more than is asked for. Loading takes their entries as far as they are what they can be (whole,
//! strictly rising, inside the segment); what remains is checked by the reader on the batch it lands
//! on: [`OffsetEntry::matches`], [`TimeEntry::matches`]. A wrong entry that is *not* landed on does no
//! harm, because every earlier entry is a right answer too, only further away.
//!
//! # What a start does not read
//!
//! A start walks only what lies beyond the checkpoint, say from byte 900,000 of a segment on, and
//! indexes that, which [`SegmentIndex::starts_behind`] says. The entries before come later, from
//! the files, which have them up to byte 850,000, and from a walk over the 50,000 bytes that the
//! files lack ([`SegmentIndex::put_before`]): when somebody reads there, when the segment is
//! sealed, or in the background, whatever is first.

mod offset;
#[cfg(test)]
mod tests;
mod time;

pub use offset::{OffsetEntry, OffsetIndex};
pub use time::{TimeEntry, TimeIndex};

use crate::model::Offset;
use crate::model::batch::BatchView;

/// The timestamp of a batch that has none.
const NO_TIMESTAMP_MS: i64 = -1;

/// Where the batches begin that an index tells of: the base offset of the first, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexStart {
    /// Base offset of the first batch.
    pub offset: Offset,
    /// Where it begins in the segment.
    pub position: u64,
}

/// What the index needs to know of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBatch {
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its max timestamp, in Unix milliseconds; −1 without one.
    pub max_timestamp_ms: i64,
    /// Where it begins in the segment.
    pub position: u32,
    /// Its length, header included.
    pub size_bytes: u32,
}

impl IndexedBatch {
    /// The facts of a batch that begins at `position`.
    pub fn of(batch: &BatchView<'_>, position: u32) -> Self {
        Self {
            last_offset: batch.last_offset(),
            max_timestamp_ms: batch.max_timestamp_ms(),
            position,
            // A batch is at most 2 GiB, by its length field.
            size_bytes: batch.bytes().len() as u32,
        }
    }
}

/// Both indexes of a segment, and what decides about the next entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    offsets: OffsetIndex,
    times: TimeIndex,
    largest: TimeEntry,
    bytes_since_entry: u64,
    /// Of what lies below, nothing is here.
    behind: Option<IndexStart>,
}

impl SegmentIndex {
    /// The index of a segment without batches.
    pub fn new(base_offset: Offset) -> Self {
        Self::with(OffsetIndex::new(base_offset), TimeIndex::new(base_offset))
    }

    /// The index of a segment's batches from `start` on, which are all that will go through
    /// [`SegmentIndex::append`].
    pub fn from_start(base_offset: Offset, start: IndexStart) -> Self {
        Self {
            behind: (start.position > 0).then_some(start),
            ..Self::new(base_offset)
        }
    }

    /// Where the batches begin that it tells of, if it lacks those before.
    pub fn starts_behind(&self) -> Option<IndexStart> {
        self.behind
    }

    /// Puts the entries of the batches that it lacks before its own. Those of its own that would not
    /// rise are left out: an index may leave out any.
    pub fn put_before(&mut self, mut before: Self) {
        before.offsets.extend(&self.offsets);
        before.times.extend(&self.times);
        before.tell_largest(self.largest);
        before.bytes_since_entry = self.bytes_since_entry;
        *self = before;
    }

    /// The entries of its files, of the part of a segment that is `segment_bytes` long and ends
    /// before `end_offset`, up to the first that is none of it.
    ///
    /// The files say nothing of what came behind: for that, walk the batches from the position of
    /// [`OffsetIndex::last`], that batch included, through [`SegmentIndex::append`].
    pub fn load(
        base_offset: Offset,
        end_offset: Offset,
        segment_bytes: u64,
        offset_file: &[u8],
        time_file: &[u8],
    ) -> Self {
        Self::with(
            OffsetIndex::decode(base_offset, end_offset, segment_bytes, offset_file),
            TimeIndex::decode(base_offset, end_offset, time_file),
        )
    }

    fn with(offsets: OffsetIndex, times: TimeIndex) -> Self {
        Self {
            largest: times.last(),
            offsets,
            times,
            bytes_since_entry: 0,
            behind: None,
        }
    }

    /// Takes the next batch, and adds an entry to both indexes when more than `interval_bytes`
    /// (`index.interval.bytes`) lie between it and the last entry, as Kafka's `LogSegment.append`.
    pub fn append(&mut self, batch: &IndexedBatch, interval_bytes: u64) {
        if batch.max_timestamp_ms > self.largest.timestamp_ms {
            self.largest = TimeEntry {
                timestamp_ms: batch.max_timestamp_ms,
                offset: batch.last_offset,
            };
        }
        if self.bytes_since_entry > interval_bytes {
            self.offsets.append(batch.last_offset, batch.position);
            self.times.append(self.largest);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += u64::from(batch.size_bytes);
    }

    /// Tells of the largest timestamp among batches that did not go through
    /// [`SegmentIndex::append`]: later entries must not claim to be the first to reach it.
    pub fn tell_largest(&mut self, largest: TimeEntry) {
        if largest.timestamp_ms > self.largest.timestamp_ms {
            self.largest = largest;
        }
    }

    /// Ends the index of a segment that is rolled: the largest timestamp gets its entry, from which
    /// retention is decided later.
    pub fn finish(&mut self) {
        self.times.append(self.largest);
    }

    /// The offset index.
    pub fn offsets(&self) -> &OffsetIndex {
        &self.offsets
    }

    /// The time index.
    pub fn times(&self) -> &TimeIndex {
        &self.times
    }

    /// The largest timestamp so far and the last offset of the batch that brought it; of an index
    /// just loaded, the last entry's. Timestamp −1 and the base offset when there is none.
    pub fn largest_timestamp(&self) -> TimeEntry {
        self.largest
    }

    /// Where to begin reading for `offset`: at or before the batch that holds it.
    pub fn floor_offset(&self, offset: Offset) -> OffsetEntry {
        self.offsets.floor(offset)
    }

    /// Where to begin looking for the first record at `timestamp_ms` or later whose offset is not
    /// below `from_offset`.
    pub fn floor_timestamp(&self, timestamp_ms: i64, from_offset: Offset) -> OffsetEntry {
        let before = self.times.floor(timestamp_ms).offset;
        self.offsets.floor(before.max(from_offset))
    }

    /// One of the indexes has no room for another entry within `max_bytes`
    /// (`segment.index.bytes`), the time index keeping one for [`SegmentIndex::finish`].
    pub fn is_full(&self, max_bytes: u64) -> bool {
        let entries = |bytes: usize| max_bytes / bytes as u64;
        self.offsets.len() as u64 >= entries(OffsetIndex::ENTRY_BYTES)
            || self.times.len() as u64 + 1 >= entries(TimeIndex::ENTRY_BYTES)
    }

    /// Memory of the entries.
    pub fn memory_bytes(&self) -> usize {
        self.offsets.memory_bytes() + self.times.memory_bytes()
    }
}

/// An offset as the files hold it: relative to the segment's base, at most 2³¹ − 1.
fn relative(base_offset: Offset, offset: Offset) -> Option<u32> {
    let relative = offset.0.checked_sub(base_offset.0)?;
    i32::try_from(relative)
        .ok()
        .and_then(|r| u32::try_from(r).ok())
}
