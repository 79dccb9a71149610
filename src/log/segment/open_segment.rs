//! A segment that is not sealed: where its batches are, and under which name its file is.
//!
//! A name tells of what lies before it, so a file gets that of its segment's base offset only once the
//! journal has everything below. Nobody who appends waits for that: the file is made before, under a
//! neutral name, with its space. An example: segment 0 ends at offset 12, of which the journal has 9
//! so far. The batch at 12 begins segment 12, whose file is `00000000000000000000.prepared`, the first
//! that this run has made. When the journal has 12, write-back of segment 12 can begin: the file is
//! renamed to `00000000000000000012.log`, the directory synced, and then it is written.
//!
//! A prepared file is never written to. So after a crash one is as good as another: recovery takes them
//! for the segments of which the journal has something, and removes the rest.

use crate::log::segment::facts::next_reservation;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::{Position, block_floor};
use crate::model::Offset;
use crate::rt::BLOCK_BYTES;

/// A segment that is not sealed.
pub struct OpenSegment {
    /// Where its batches are.
    pub index: SegmentIndex,
    /// Entries of the offset and the time index that their files have.
    pub indexed: (usize, usize),
    /// The number of its file, until that has the name of the base offset.
    prepared: Option<u64>,
}

/// One that is complete, and not sealed.
pub struct RolledSegment {
    pub open: OpenSegment,
    /// Kafka's producer snapshot as of its end.
    pub producers: Vec<u8>,
}

impl OpenSegment {
    /// One whose file has its name.
    pub fn named(index: SegmentIndex) -> Self {
        Self {
            index,
            indexed: (0, 0),
            prepared: None,
        }
    }

    /// One that begins in a file that was prepared.
    pub fn begin(base_offset: Offset, number: u64) -> Self {
        Self {
            prepared: Some(number),
            ..Self::named(SegmentIndex::new(base_offset))
        }
    }

    /// The number of its file, while that has a neutral name.
    pub fn prepared(&self) -> Option<u64> {
        self.prepared
    }

    /// Its file has its name now.
    pub fn name(&mut self) {
        self.prepared = None;
    }

    /// Gives the index what it lacks since the start, unless it has it by now; `in_files` of its entries
    /// are in its files.
    pub fn complete_index(&mut self, before: SegmentIndex, in_files: (usize, usize)) {
        if self.index.starts_behind().is_some() {
            self.index.put_before(before);
            self.indexed = in_files;
        }
    }

    /// Counts the entries of what lies below `safe` as written, if those that the files lack are for so
    /// many bytes; gives how many there were, and are now.
    pub fn grow_index(
        &mut self,
        safe: Offset,
        at_least_bytes: u64,
    ) -> Option<((usize, usize), (usize, usize))> {
        let now = (
            self.index.offsets().entries_below(safe),
            self.index.times().entries_below(safe),
        );
        // Until what the start has left out is known, nothing can be written behind it.
        if now.0 <= self.indexed.0 || self.index.starts_behind().is_some() {
            return None;
        }
        let lacking_bytes = self.index.offsets().bytes_between(self.indexed.0, now.0);
        (lacking_bytes >= at_least_bytes).then(|| (std::mem::replace(&mut self.indexed, now), now))
    }
}

/// A file in which space is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedFile {
    /// That of the active segment, which has this base offset.
    Active(Offset),
    /// The one that is prepared under this number for the segment that comes next.
    Next(u64),
}

/// Space that a file needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Which.
    pub file: ReservedFile,
    /// From this block on.
    pub from: u64,
    /// As far as it should.
    pub generous: u64,
    /// As far as it must.
    pub exact: u64,
}

/// The part of what is left on the disk that one partition reserves ahead of its need, at most.
const SHARE_OF_FREE: u64 = 16;

impl Reservation {
    /// Not more ahead of the need than a share of what is left on the disk: partitions that come later
    /// want some, too.
    ///
    /// With 64 MiB left, a step of 64 MiB from 64 to 128 MiB ends at 68; one that must reach 80 MiB for
    /// its batch reaches that and no more.
    pub fn within_share(self, available_bytes: u64) -> Self {
        let share = block_floor(available_bytes / SHARE_OF_FREE);
        let generous = self.generous.min(self.from + share).max(self.exact);
        Self { generous, ..self }
    }
}

/// Space that is reserved for what a partition accepts.
#[derive(Debug, Default)]
pub struct ReservedSpace {
    /// In the active segment's file.
    active_bytes: u64,
    /// In the file that is prepared for the next segment, if one is.
    next_bytes: Option<u64>,
    /// Segments that were begun in this run: the number of the file that is prepared next.
    begun_count: u64,
}

impl ReservedSpace {
    /// Space that so many bytes more lack behind the log's end or, where it `rolls` before them, in the
    /// next segment; steps double from the first to the last one, not beyond `segment_bytes`.
    pub fn missing(
        &self,
        (end, batch_bytes): (Position, u64),
        rolls: bool,
        segment_bytes: u64,
        steps: (u64, u64),
    ) -> Option<Reservation> {
        let (file, reserved, used) = match rolls {
            false => (
                ReservedFile::Active(end.segment),
                self.active_bytes,
                end.byte,
            ),
            true => {
                let file = ReservedFile::Next(self.begun_count);
                (file, self.next_bytes.unwrap_or(0), 0)
            }
        };
        let needed = used + batch_bytes;
        let is_there = !rolls || self.next_bytes.is_some();
        let generous = match batch_bytes {
            0 => needed,
            _ => next_reservation(reserved, needed, segment_bytes, steps),
        };
        (needed > reserved || !is_there).then(|| Reservation {
            file,
            from: block_floor(reserved),
            generous,
            exact: needed.next_multiple_of(BLOCK_BYTES as u64),
        })
    }

    /// A file has its space up to here, durably.
    pub fn reached(&mut self, file: ReservedFile, bytes: u64) {
        match file {
            ReservedFile::Active(_) => self.active_bytes = bytes,
            ReservedFile::Next(_) => self.next_bytes = Some(bytes),
        }
    }

    /// A segment begins at `base_offset`, in the file that is prepared.
    pub fn begin_segment(&mut self, base_offset: Offset) -> OpenSegment {
        let Some(bytes) = self.next_bytes.take() else {
            panic!("a file is prepared before a segment ends");
        };
        self.active_bytes = bytes;
        self.begun_count += 1;
        OpenSegment::begin(base_offset, self.begun_count - 1)
    }

    /// The number of the file that is prepared, if there is one; it is nobody's any more.
    pub fn take_next(&mut self) -> Option<u64> {
        self.next_bytes.take().map(|_| self.begun_count)
    }

    /// The active segment's file ends at `end`; tells whether it had more.
    pub fn cut_active(&mut self, end: u64) -> bool {
        std::mem::take(&mut self.active_bytes) > end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reservation_takes_what_is_left() {
        let mib = |count: u64| count << 20;
        let step = |exact| Reservation {
            file: ReservedFile::Active(Offset::ZERO),
            from: mib(64),
            generous: mib(128),
            exact,
        };
        let reaches = |exact, available| step(exact).within_share(available).generous;
        assert_eq!(reaches(mib(65), mib(100 << 10)), mib(128));
        assert_eq!(reaches(mib(65), mib(64)), mib(68));
        assert_eq!(reaches(mib(80), mib(64)), mib(80));
        assert_eq!(reaches(mib(65), 0), mib(65));
    }
}
