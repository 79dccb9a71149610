//! Reading what is no longer in memory: whole batches from segment files, checked before they leave.

use std::cmp::Ordering;
use std::io;
use std::rc::Rc;

use crate::log::error::{ReadError, StorageError};
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::small_file::read_small;
use crate::log::partition::state::{LogInner, State};
use crate::log::partition::tail::{ReadAsk, ReadBatches};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::{IndexedBatch, OffsetEntry, SegmentIndex};
use crate::log::segment::walk::{SegmentWalk, WalkError};
use crate::model::Offset;
use crate::model::batch::BatchView;
use crate::rt::{Buf, Runtime};

/// Longest single read.
const MAX_READ_BYTES: usize = 1 << 20;
/// What looking for a batch costs at most beside it: the index is that sparse.
const SEARCH_BYTES: usize = 16 << 10;

/// The part of a segment that can be read from its file.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct FilePart {
    pub facts: SegmentFacts,
    /// Whole batches end here.
    pub limit: u64,
    /// Offset behind the last of them.
    pub end: Offset,
}

impl State {
    /// The segment whose file holds `offset`.
    pub fn file_part_of(&self, offset: Offset) -> Option<FilePart> {
        if offset >= self.segment_durable.offset {
            return None;
        }
        let sealed = self
            .sealed
            .partition_point(|facts| facts.end_offset <= offset);
        if let Some(facts) = self.sealed.get(sealed) {
            return Some(self.file_part(facts));
        }
        let mut open = self.segments().skip(self.sealed.len());
        let facts = open.find(|facts| offset < facts.end_offset)?;
        Some(self.file_part(facts))
    }

    pub fn file_part(&self, facts: &SegmentFacts) -> FilePart {
        let durable = self.segment_durable.at;
        let (limit, end) = match facts.base_offset.cmp(&durable.segment) {
            Ordering::Less => (facts.size_bytes, facts.end_offset),
            Ordering::Equal => (durable.byte, self.segment_durable.offset),
            Ordering::Greater => (0, facts.base_offset),
        };
        FilePart {
            facts: *facts,
            limit,
            end,
        }
    }
}

impl<R: Runtime> LogInner<R> {
    /// As [`crate::log::PartitionLog::read`], of what is below the tail.
    pub async fn read_cold(self: &Rc<Self>, mut ask: ReadAsk) -> Result<ReadBatches, ReadError> {
        let _permit = self.core.cold_reads.acquire(1).await;
        let _in_use = self.use_files()?;
        let part = {
            let state = self.state.borrow();
            ask.end = ask.end.min(state.marks.durable);
            if let Some(read) = state.tail.read(ask) {
                return Ok(read);
            }
            state.file_part_of(ask.from)
        };
        // Retention may have taken it while this waited.
        let Some(part) = part.filter(|part| part.facts.base_offset <= ask.from) else {
            return Err(ReadError::OutOfRange);
        };
        let result = self.read_part(&part, ask).await;
        result.map_err(|error| self.read_failed(error, &part))
    }

    async fn read_part(&self, part: &FilePart, ask: ReadAsk) -> Result<ReadBatches, WalkError> {
        let read_bytes = ask.max_bytes.saturating_add(SEARCH_BYTES);
        let mut walk = self.walk_to(part, ask.from, read_bytes).await?;
        walk.verify();
        let mut read = ReadBatches::nothing(ask.from);
        loop {
            let batch = match self.next_checked(&mut walk).await {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(read),
                // What lies before is whole; the next read begins here, and gets the error.
                Err(_) if read.bytes > 0 => return Ok(read),
                Err(error) => return Err(error),
            };
            // The walk has checked the base offset.
            let end = walk.next_offset().unwrap_or(part.end);
            if !ask.takes(read.bytes, batch.len(), end) {
                return Ok(read);
            }
            read.bytes += batch.len();
            read.next_offset = end;
            read.pieces.push(batch);
        }
    }

    /// The next batch of a walk that verifies, with what its CRC leaves out: base offset (by the
    /// walk) and leader epoch.
    pub async fn next_checked(&self, walk: &mut SegmentWalk<R>) -> Result<Option<Buf>, WalkError> {
        let Some((position, batch)) = walk.next().await? else {
            return Ok(None);
        };
        let view = BatchView::first(&batch);
        let view = view.map_err(|error| WalkError::Break { position, error })?;
        let found = view.leader_epoch();
        // The log start, which may have risen meanwhile, leaves no epochs that end before it.
        let known = self.state.borrow().epochs.epoch_at(view.last_offset());
        match known {
            Some(expected) if expected != found => Err(WalkError::Epoch {
                position,
                found,
                expected,
            }),
            _ => Ok(Some(batch)),
        }
    }

    /// A walk that stands before the batch that holds `offset`.
    async fn walk_to(
        &self,
        part: &FilePart,
        offset: Offset,
        read_bytes: usize,
    ) -> Result<SegmentWalk<R>, WalkError> {
        let mut below = offset;
        // Where a batch is not what its entry of the index says, either may be damaged. The entry
        // before leads there as well.
        for _ in 0..2 {
            let entry = self.floor_offset(part, below).await?;
            let walk = self.walk_from(part, entry, offset, read_bytes).await;
            let start = u64::from(entry.position);
            match walk {
                Err(error) if start > 0 && error.position() == Some(start) => {
                    below = entry.offset.plus(-1);
                }
                walk => return walk,
            }
        }
        // The index lied: without it.
        self.core.indexes.remove((self.id, part.facts.base_offset));
        let start = SegmentIndex::new(part.facts.base_offset).floor_offset(offset);
        self.walk_from(part, start, offset, read_bytes).await
    }

    async fn walk_from(
        &self,
        part: &FilePart,
        entry: OffsetEntry,
        offset: Offset,
        read_bytes: usize,
    ) -> Result<SegmentWalk<R>, WalkError> {
        let start = u64::from(entry.position);
        let mut walk = self.open_walk(part, start, read_bytes).await?;
        if start == 0 {
            walk.count_from(part.facts.base_offset);
        }
        while let Some((position, batch)) = walk.next().await? {
            let view = BatchView::first(&batch);
            let view = view.map_err(|error| WalkError::Break { position, error })?;
            let end = match walk.next_offset() {
                Some(end) => end,
                None => agreed_end(&entry, &view)?,
            };
            if end > offset {
                walk.step_back(position, begin_of(&view, end));
                return Ok(walk);
            }
            walk.count_from(end);
        }
        Err(WalkError::Short {
            position: walk.position(),
            expected: part.end,
        })
    }

    /// A walk through the file of a segment from a byte where a batch begins.
    pub async fn open_walk(
        &self,
        part: &FilePart,
        at: u64,
        read_bytes: usize,
    ) -> io::Result<SegmentWalk<R>> {
        let key = (self.id, part.facts.base_offset);
        let file = self.core.files.get(key, &self.dir).await?;
        let read_bytes = read_bytes.min(MAX_READ_BYTES);
        Ok(SegmentWalk::new(
            self.core.rt.clone(),
            file,
            at,
            part.limit,
            read_bytes,
        ))
    }

    async fn floor_offset(&self, part: &FilePart, offset: Offset) -> io::Result<OffsetEntry> {
        self.with_index(part, |index| index.floor_offset(offset))
            .await
    }

    /// Looks something up in the index of a segment, which is loaded, or rebuilt, when it is a sealed
    /// one's.
    pub async fn with_index<T>(
        &self,
        part: &FilePart,
        look: impl Fn(&SegmentIndex) -> T,
    ) -> io::Result<T> {
        if let Some(index) = self.open_index(part, &look) {
            return Ok(index);
        }
        let key = (self.id, part.facts.base_offset);
        if let Some(index) = self.core.indexes.get(key) {
            return Ok(look(&index));
        }
        let index = Rc::new(self.load_index(part).await?);
        self.core.indexes.put(key, index.clone());
        Ok(look(&index))
    }

    /// Of a segment that is not sealed, the index is in memory.
    fn open_index<T>(&self, part: &FilePart, look: &impl Fn(&SegmentIndex) -> T) -> Option<T> {
        let base = part.facts.base_offset;
        let state = self.state.borrow();
        if state.active.facts.base_offset == base {
            return Some(look(&state.active.index));
        }
        let rolled = state.rolled.iter().find(|f| f.facts.base_offset == base)?;
        Some(look(&rolled.index))
    }

    async fn load_index(&self, part: &FilePart) -> io::Result<SegmentIndex> {
        let facts = &part.facts;
        let rt = &self.core.rt;
        let path = |file| segment_path(&self.dir, facts.base_offset, file);
        let offsets = read_small(rt, &path(SegmentFile::Index)).await?;
        let times = read_small(rt, &path(SegmentFile::TimeIndex)).await?;
        if let (Some(offsets), Some(times)) = (offsets, times)
            && let Ok(index) = SegmentIndex::load(
                facts.base_offset,
                facts.end_offset,
                facts.size_bytes,
                &offsets,
                &times,
            )
            && is_whole(&index, facts)
        {
            return Ok(index);
        }
        self.rebuild_index(part).await
    }

    async fn rebuild_index(&self, part: &FilePart) -> io::Result<SegmentIndex> {
        let interval = self.state.borrow().config.index_interval_bytes;
        let mut index = SegmentIndex::new(part.facts.base_offset);
        let mut walk = self.open_walk(part, 0, MAX_READ_BYTES).await?;
        walk.count_from(part.facts.base_offset);
        loop {
            let (position, batch) = match walk.next().await {
                Ok(Some(next)) => next,
                Err(WalkError::Io(error)) => return Err(error),
                // Whoever looks for what lies behind damage comes upon it from the last entry.
                Ok(None) | Err(_) => break,
            };
            if let (Ok(view), Some(end)) = (BatchView::first(&batch), walk.next_offset()) {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                let indexed = IndexedBatch {
                    last_offset: end.plus(-1),
                    ..IndexedBatch::of(&view, position)
                };
                index.append(&indexed, interval);
            }
        }
        index.finish();
        Ok(index)
    }

    /// What a failed read of a segment means for whoever asked. Other partitions are not concerned.
    pub fn read_failed(&self, error: WalkError, part: &FilePart) -> ReadError {
        let path = segment_path(&self.dir, part.facts.base_offset, SegmentFile::Log);
        let path = path.display();
        let error = match error {
            WalkError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                // The log start rises before a segment is removed.
                if part.facts.end_offset <= self.state.borrow().marks.log_start {
                    return ReadError::OutOfRange;
                }
                StorageError::Corrupt(format!("{path} is missing"))
            }
            WalkError::Io(error) => StorageError::Io(format!("{path}: {error}")),
            damaged => StorageError::Corrupt(format!("{path}: {damaged}")),
        };
        let key = (self.id, part.facts.base_offset);
        if self.core.damage.is_news(key, &error.to_string()) {
            tracing::error!(topic = %self.topic, index = %self.id.index, %error,
                "records cannot be read; this is said once");
        }
        ReadError::Storage(error)
    }
}

/// A finished time index ends with the segment's largest timestamp.
fn is_whole(index: &SegmentIndex, facts: &SegmentFacts) -> bool {
    facts.max_timestamp_ms < 0 || index.largest_timestamp().timestamp_ms == facts.max_timestamp_ms
}

/// Where a batch ends that was found by its entry of the index, if the two agree.
fn agreed_end(entry: &OffsetEntry, batch: &BatchView<'_>) -> Result<Offset, WalkError> {
    let end = entry.offset.plus(1);
    match entry.matches(batch) {
        true => Ok(end),
        false => Err(WalkError::Offset {
            position: u64::from(entry.position),
            found: batch.base_offset(),
            expected: begin_of(batch, end),
        }),
    }
}

/// The base offset of a batch that ends at `end`.
fn begin_of(batch: &BatchView<'_>, end: Offset) -> Offset {
    end.plus(-1 - i64::from(batch.last_offset_delta()))
}
