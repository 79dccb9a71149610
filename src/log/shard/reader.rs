//! Reading what is no longer in memory: whole batches from segment files, checked before they leave.

use std::cmp::Ordering;
use std::io;
use std::rc::Rc;

use crate::log::error::{ReadError, StorageError};
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::partition::effects::SealedSegment;
use crate::log::partition::state::State;
use crate::log::partition::tail::{ReadAsk, ReadBatches};
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::{IndexedBatch, OffsetEntry, SegmentIndex};
use crate::log::segment::index_files::{EntryCounts, IndexTail, cut_index, read_index};
use crate::log::segment::walk::{SegmentWalk, WalkError};
use crate::log::shard::open_log::{OpenLog, ShardStorage};
use crate::model::batch::BatchView;
use crate::model::{Offset, PartitionSlot};
use crate::rt::{Buf, Runtime, is_open_refused};

/// Longest single read.
const MAX_READ_BYTES: usize = 1 << 20;
/// What looking for a batch costs at most beside it: the index is that sparse.
const SEARCH_BYTES: usize = 16 << 10;

/// An index that ends so far before its segment does is completed by a walk. Less costs no more than
/// one read.
const LACK_BYTES: u64 = MAX_READ_BYTES as u64;

/// The part of a segment that can be read from its file.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct FilePart {
    pub facts: SegmentFacts,
    /// Whole batches end here.
    pub limit: u64,
    /// Offset behind the last of them.
    pub end: Offset,
}

/// The segment whose file holds `offset`.
fn file_part_of(state: &State, offset: Offset) -> Option<FilePart> {
    let snapshot = state.snapshot();
    if offset >= snapshot.segment_durable().offset {
        return None;
    }
    let complete = snapshot.complete();
    let before = complete.partition_point(|facts| facts.end_offset <= offset);
    let facts = complete.get(before).unwrap_or(snapshot.active());
    (offset < facts.end_offset).then(|| file_part(state, facts))
}

/// What can be read of a segment from its file.
pub(super) fn file_part(state: &State, facts: &SegmentFacts) -> FilePart {
    let durable = state.snapshot().segment_durable();
    let (limit, end) = match facts.base_offset.cmp(&durable.at.segment) {
        Ordering::Less => (facts.size_bytes, facts.end_offset),
        Ordering::Equal => (durable.at.byte, durable.offset),
        Ordering::Greater => (0, facts.base_offset),
    };
    FilePart {
        facts: *facts,
        limit,
        end,
    }
}

/// The part of a segment of which its index, in memory, has no entries.
fn lacking_part_of(state: &State, base: Offset) -> Option<FilePart> {
    let mut segments = state.snapshot().segments();
    let facts = segments.find(|facts| facts.base_offset == base)?;
    lacking_part(state.open_index(base)?, facts)
}

impl<R: Runtime> OpenLog<R> {
    /// As [`crate::log::PartitionLog::read`], of what is below the tail.
    pub async fn read_cold(self: &Rc<Self>, mut ask: ReadAsk) -> Result<ReadBatches, ReadError> {
        let _permit = self.storage.cold_reads.acquire(1).await;
        let _in_use = self.use_files()?;
        loop {
            let part = {
                let state = self.state.borrow();
                ask.end = ask.end.min(state.marks().durable);
                if let Some(read) = state.tail().read(ask) {
                    return Ok(read);
                }
                file_part_of(&state, ask.from)
            };
            // Retention may have taken it while this waited.
            let Some(part) = part.filter(|part| part.facts.base_offset <= ask.from) else {
                return Err(ReadError::OutOfRange);
            };
            let read = self.read_part(&part, ask).await;
            if let Some(read) = read.map_err(|error| self.read_failed(error, &part))? {
                return Ok(read);
            }
            // Its last batches were dropped: what is next is in the segment behind.
            ask.from = part.facts.end_offset;
            if ask.from >= ask.end {
                return Ok(ReadBatches::nothing(ask.from));
            }
        }
    }

    /// None where no batch is left at the offset or behind it: in a segment that is not dense.
    async fn read_part(
        &self,
        part: &FilePart,
        ask: ReadAsk,
    ) -> Result<Option<ReadBatches>, WalkError> {
        let read_bytes = ask.max_bytes.saturating_add(SEARCH_BYTES);
        let Some(mut walk) = self.walk_to(part, ask.from, read_bytes).await? else {
            return Ok(None);
        };
        walk.verify();
        let mut read = ReadBatches::nothing(ask.from);
        loop {
            let batch = match self.next_checked(&mut walk).await {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(Some(read)),
                // What lies before is whole; the next read begins here, and gets the error.
                Err(_) if read.bytes > 0 => return Ok(Some(read)),
                Err(error) => return Err(error),
            };
            // The walk has checked the base offset.
            let end = walk.next_offset().unwrap_or(part.end);
            if !ask.takes(read.bytes, batch.len(), end) {
                return Ok(Some(read));
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
        let known = {
            let state = self.state.borrow();
            state.snapshot().epochs().epoch_at(view.last_offset())
        };
        match known {
            Some(expected) if expected != found => Err(WalkError::Epoch {
                position,
                found,
                expected,
            }),
            _ => Ok(Some(batch)),
        }
    }

    /// A walk that stands before the batch that holds `offset`, or the first behind a gap there; none
    /// behind the last batch of a segment that is not dense.
    async fn walk_to(
        &self,
        part: &FilePart,
        offset: Offset,
        read_bytes: usize,
    ) -> Result<Option<SegmentWalk<R>>, WalkError> {
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
        self.storage.indexes.remove((self.id, part.facts.id()));
        let start = SegmentIndex::new(part.facts.base_offset).floor_offset(offset);
        self.walk_from(part, start, offset, read_bytes).await
    }

    async fn walk_from(
        &self,
        part: &FilePart,
        entry: OffsetEntry,
        offset: Offset,
        read_bytes: usize,
    ) -> Result<Option<SegmentWalk<R>>, WalkError> {
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
                return Ok(Some(walk));
            }
            walk.count_from(end);
        }
        if !part.facts.dense {
            return Ok(None);
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
        let key = (self.id, part.facts.id());
        let file = self.storage.files.get(key, &self.dir).await?;
        let (rt, read_bytes) = (self.storage.rt.clone(), read_bytes.min(MAX_READ_BYTES));
        let mut walk = SegmentWalk::new(rt, file, at, part.limit, read_bytes);
        if !part.facts.dense || !holds(Rule::GapsOnlyWhereNotDense) {
            walk.allow_gaps(part.facts.end_offset);
        }
        Ok(walk)
    }

    async fn floor_offset(&self, part: &FilePart, offset: Offset) -> io::Result<OffsetEntry> {
        self.with_index(part, |index| index.floor_offset(offset))
            .await
    }

    /// What a failed read of a segment means for whoever asked. Other partitions are not concerned.
    pub fn read_failed(&self, error: WalkError, part: &FilePart) -> ReadError {
        if let WalkError::Io(error) = &error
            && let Some(full) = error.get_ref().and_then(|inner| inner.downcast_ref())
        {
            return ReadError::NoMemory(*full);
        }
        let path = segment_path(&self.dir, part.facts.id(), SegmentFile::Log);
        let path = path.display();
        let error = match error {
            WalkError::Io(error) if is_open_refused(&error) => {
                return ReadError::Storage(error.into());
            }
            WalkError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                // The log start rises before a segment is removed.
                if part.facts.end_offset <= self.state.borrow().marks().log_start {
                    return ReadError::OutOfRange;
                }
                StorageError::Corrupt(format!("{path} is missing"))
            }
            WalkError::Io(error) => StorageError::Io(format!("{path}: {error}")),
            damaged => StorageError::Corrupt(format!("{path}: {damaged}")),
        };
        let key = (self.id, part.facts.id());
        if self.storage.damage.is_news(key, &error.to_string()) {
            tracing::error!(topic = %self.topic, index = %self.id.index, %error,
                "records cannot be read; this is said once");
        }
        ReadError::Storage(error)
    }
}

impl<R: Runtime> OpenLog<R> {
    /// Looks something up in the index of a segment, which is loaded or completed where that is
    /// needed.
    pub(super) async fn with_index<T>(
        &self,
        part: &FilePart,
        look: impl Fn(&SegmentIndex) -> T,
    ) -> io::Result<T> {
        self.complete_open_index(part.facts.base_offset).await?;
        if let Some(found) = self.look_open(part, &look) {
            return Ok(found);
        }
        let key = (self.id, part.facts.id());
        if let Some(index) = self.storage.indexes.get(key) {
            return Ok(look(&index));
        }
        let index = Rc::new(self.load_sealed_index(part).await?);
        self.storage.indexes.put(key, index.clone());
        Ok(look(&index))
    }

    /// Of a segment that is not sealed, the index is in memory.
    fn look_open<T>(&self, part: &FilePart, look: &impl Fn(&SegmentIndex) -> T) -> Option<T> {
        let state = self.state.borrow();
        let index = state.open_index(part.facts.base_offset)?;
        Some(look(index))
    }

    /// Gives the index of a segment that is not sealed what it lacks since the start. Nothing is
    /// written to its files before.
    pub(super) async fn complete_open_index(&self, base_offset: Offset) -> io::Result<()> {
        if lacking_part_of(&self.state.borrow(), base_offset).is_none() {
            return Ok(());
        }
        let _turn = self.storage.completing.lock().await;
        let Some(part) = lacking_part_of(&self.state.borrow(), base_offset) else {
            return Ok(());
        };
        let (before, in_files) = self.load_index(&part, false).await?;
        // What the files have beyond would stay behind what is written to them next.
        cut_index(&self.storage.rt, &self.dir, part.facts.id(), in_files).await?;
        let mut state = self.state.borrow_mut();
        state.complete_index(base_offset, before, in_files);
        Ok(())
    }

    /// The same for one that is being sealed, so that its files get everything.
    pub(super) async fn complete_rolled_index(&self, rolled: &mut SealedSegment) -> io::Result<()> {
        let Some(part) = lacking_part(&rolled.index, &rolled.facts) else {
            return Ok(());
        };
        let _turn = self.storage.completing.lock().await;
        let (before, in_files) = self.load_index(&part, false).await?;
        cut_index(&self.storage.rt, &self.dir, rolled.facts.id(), in_files).await?;
        rolled.index.put_before(before);
        rolled.indexed = in_files;
        Ok(())
    }

    /// The index of a sealed segment. Files that lack something, after a power cut, are completed.
    async fn load_sealed_index(&self, part: &FilePart) -> io::Result<SegmentIndex> {
        let (mut index, in_files) = self.load_index(part, true).await?;
        index.finish();
        if in_files != (index.offsets().len(), index.times().len())
            && let Err(error) = self.write_rest(part, &index, in_files).await
        {
            tracing::warn!(dir = %self.dir.display(), %error, "index not written");
        }
        Ok(index)
    }

    async fn write_rest(
        &self,
        part: &FilePart,
        index: &SegmentIndex,
        in_files: EntryCounts,
    ) -> io::Result<()> {
        let (rt, dir, id) = (&self.storage.rt, &self.dir, part.facts.id());
        cut_index(rt, dir, id, in_files).await?;
        let tail = IndexTail::rest_of(index, in_files);
        tail.write(rt, dir, id).await.map(drop)
    }

    /// The index of a part of a segment: what its files have, the rest from its batches. Tells how
    /// many of its entries the files have.
    async fn load_index(
        &self,
        part: &FilePart,
        is_sealed: bool,
    ) -> io::Result<(SegmentIndex, EntryCounts)> {
        let end = (part.end, part.limit);
        let mut index = read_index(&self.storage.rt, &self.dir, part.facts.id(), end).await?;
        let last = index.offsets().last();
        let lacks = part.limit.saturating_sub(u64::from(last.position)) > LACK_BYTES;
        let mut is_right = !is_sealed || is_whole(&index, &part.facts);
        let mut in_files = (index.offsets().len(), index.times().len());
        if is_right && lacks {
            is_right = self.index_rest(part, last, &mut index).await?;
        }
        if !is_right {
            (index, in_files) = (SegmentIndex::new(part.facts.base_offset), (0, 0));
            let start = index.offsets().last();
            self.index_rest(part, start, &mut index).await?;
        }
        Ok((index, in_files))
    }

    /// Indexes the batches from an entry on; false when it is not what is there, so that any may be
    /// wrong.
    async fn index_rest(
        &self,
        part: &FilePart,
        from: OffsetEntry,
        index: &mut SegmentIndex,
    ) -> io::Result<bool> {
        let interval_bytes = self.state.borrow().config().index_interval_bytes;
        let start = u64::from(from.position);
        let mut walk = self.open_walk(part, start, MAX_READ_BYTES).await?;
        if start == 0 {
            walk.count_from(part.facts.base_offset);
        }
        loop {
            let (position, batch) = match walk.next().await {
                Ok(Some(next)) => next,
                Err(WalkError::Io(error)) => return Err(error),
                // Whoever looks for what lies behind damage comes upon it from the last entry.
                Ok(None) | Err(_) => return Ok(walk.position() > start),
            };
            let Ok(view) = BatchView::first(&batch) else {
                return Ok(position > start);
            };
            let end = match walk.next_offset() {
                Some(end) => end,
                None => match agreed_end(&from, &view) {
                    Ok(end) => end,
                    Err(_) => return Ok(false),
                },
            };
            walk.count_from(end);
            let indexed = IndexedBatch {
                last_offset: end.plus(-1),
                ..IndexedBatch::of(&view, u32::try_from(position).unwrap_or(u32::MAX))
            };
            index.append(&indexed, interval_bytes);
        }
    }
}

fn lacking_part(index: &SegmentIndex, facts: &SegmentFacts) -> Option<FilePart> {
    let start = index.starts_behind()?;
    Some(FilePart {
        facts: *facts,
        limit: start.position,
        end: start.offset,
    })
}

/// The time index of a sealed segment ends with its largest timestamp.
fn is_whole(index: &SegmentIndex, facts: &SegmentFacts) -> bool {
    facts.max_timestamp_ms < 0 || index.largest_timestamp().timestamp_ms == facts.max_timestamp_ms
}

/// Completes the indexes of all active segments behind a start, one after the other and for at most
/// half of the time: files that lack much, after a power cut, make it walk.
pub(super) async fn complete_indexes<R: Runtime>(
    storage: Rc<ShardStorage<R>>,
    started: Vec<PartitionSlot>,
) {
    for partition in started {
        if storage.is_over() {
            return;
        }
        let Some(partition) = storage.log_at(partition) else {
            continue;
        };
        let began = storage.rt.now();
        if let Err(error) = partition.complete_active_index().await {
            tracing::warn!(dir = %partition.dir.display(), %error, "index not completed");
        }
        drop(partition);
        storage.rt.sleep(storage.rt.now() - began).await;
    }
}

impl<R: Runtime> OpenLog<R> {
    async fn complete_active_index(self: &Rc<Self>) -> io::Result<()> {
        let _permit = self.storage.cold_reads.acquire(1).await;
        let Ok(_in_use) = self.use_files() else {
            return Ok(());
        };
        let base = self.state.borrow().snapshot().active().base_offset;
        self.complete_open_index(base).await
    }
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
