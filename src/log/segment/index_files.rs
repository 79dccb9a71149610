//! The index files of a segment: entries are added at their end.

use std::io;
use std::path::Path;

use crate::log::files::partition_files::{SegmentFile, SegmentId, segment_path};
use crate::log::files::small_file::{cut_small, read_small, write_small};
use crate::log::segment::index::{OffsetIndex, SegmentIndex, TimeIndex};
use crate::model::Offset;
use crate::rt::Runtime;

/// Entries of a segment's offset and time index.
pub type EntryCounts = (usize, usize);

/// What the index files of a segment have of the part of it that ends before an offset, at a byte.
pub async fn read_index<R: Runtime>(
    rt: &R,
    dir: &Path,
    id: SegmentId,
    (end_offset, end_position): (Offset, u64),
) -> io::Result<SegmentIndex> {
    let path = |file| segment_path(dir, id, file);
    let offsets = read_small(rt, &path(SegmentFile::Index)).await?;
    let times = read_small(rt, &path(SegmentFile::TimeIndex)).await?;
    Ok(SegmentIndex::load(
        id.base_offset,
        end_offset,
        end_position,
        &offsets.unwrap_or_default(),
        &times.unwrap_or_default(),
    ))
}

/// Cuts the index files of a segment to so many entries, where they are longer.
pub async fn cut_index<R: Runtime>(
    rt: &R,
    dir: &Path,
    id: SegmentId,
    (offsets, times): EntryCounts,
) -> io::Result<()> {
    let lengths = [
        (SegmentFile::Index, offsets * OffsetIndex::ENTRY_BYTES),
        (SegmentFile::TimeIndex, times * TimeIndex::ENTRY_BYTES),
    ];
    for (file, bytes) in lengths {
        cut_small(rt, &segment_path(dir, id, file), bytes as u64).await?;
    }
    Ok(())
}

/// Entries that the index files of a segment do not have yet.
pub struct IndexTail {
    /// The entries before it.
    had: EntryCounts,
    offsets: Vec<u8>,
    times: Vec<u8>,
}

impl IndexTail {
    /// The entries of `index` from `had` up to `now`.
    pub fn of(index: &SegmentIndex, had: EntryCounts, now: EntryCounts) -> Self {
        Self {
            had,
            offsets: index.offsets().encode(had.0..now.0),
            times: index.times().encode(had.1..now.1),
        }
    }

    /// All entries of `index` from `had` on.
    pub fn rest_of(index: &SegmentIndex, had: EntryCounts) -> Self {
        Self::of(index, had, (index.offsets().len(), index.times().len()))
    }

    /// Writes them behind those that the files of the segment have; a file that had
    /// none ends with them. Gives the files, of offsets and of times, which are not synced.
    pub async fn write<R: Runtime>(
        self,
        rt: &R,
        dir: &Path,
        id: SegmentId,
    ) -> io::Result<(R::File, R::File)> {
        let path = segment_path(dir, id, SegmentFile::Index);
        let at = (self.had.0 * OffsetIndex::ENTRY_BYTES) as u64;
        let offsets = write_small(rt, &path, at, self.offsets).await?;
        let path = segment_path(dir, id, SegmentFile::TimeIndex);
        let at = (self.had.1 * TimeIndex::ENTRY_BYTES) as u64;
        let times = write_small(rt, &path, at, self.times).await?;
        Ok((offsets, times))
    }
}
