//! Finding records by timestamp.

use std::rc::Rc;

use crate::compress::Readers;
use crate::log::error::{ReadError, StorageError};
use crate::log::partition::tail::{Tail, TailBatch};
use crate::log::segment::index::{OffsetEntry, SegmentIndex, TimeEntry};
use crate::log::segment::position::{Boundary, Position};
use crate::log::segment::walk::WalkError;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::reader::{FilePart, file_part};
use crate::model::batch::{BatchView, MalformedRecord, RecordFront, RecordWalk, TimestampType};
use crate::model::{LeaderEpoch, Offset};
use crate::rt::{Buf, Runtime};

/// A record found: its timestamp, its offset, and the epoch under which it was appended.
pub type Found = (i64, Offset, LeaderEpoch);

const READ_BYTES: usize = 256 << 10;
/// Plain bytes that are looked at before other tasks have their turn.
const STEP_BYTES: usize = 256 << 10;
/// What a piece counts for at least: a batch can consist of empty ones.
const PIECE_BYTES_MIN: usize = 1 << 10;

/// What is looked for: a timestamp of at least `at_ms`, within a range of offsets.
#[derive(Clone, Copy)]
struct Wanted {
    at_ms: i64,
    from: Offset,
    end: Offset,
}

/// The first record by offset, below `end`, whose timestamp is `at_ms` or later: its
/// timestamp, offset and leader epoch.
pub async fn offset_for_timestamp<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    at_ms: i64,
    end: Offset,
) -> Result<Option<Found>, ReadError> {
    let _in_use = log.use_files()?;
    let (wanted, parts) = {
        let state = log.state.borrow();
        let wanted = Wanted {
            at_ms,
            from: state.marks().log_start,
            end: end.min(state.marks().durable),
        };
        let reaches = |facts: &&crate::log::SegmentFacts| {
            facts.max_timestamp_ms >= at_ms && facts.end_offset > wanted.from
        };
        let segments = state.snapshot().segments().filter(reaches);
        let parts = segments.map(|facts| file_part(&state, facts));
        (wanted, parts.collect::<Vec<_>>())
    };
    let search = Search { log, wanted };
    for part in parts {
        if let Some(found) = search.in_segment(part).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The first record with the largest timestamp: its timestamp, offset and leader epoch.
pub async fn max_timestamp<R: Runtime>(log: &Rc<OpenLog<R>>) -> Result<Option<Found>, ReadError> {
    log.check_usable()?;
    let swaps = log.work.users.swap_count();
    let (largest, last_offset) = {
        let state = log.state.borrow();
        let log_start = state.marks().log_start;
        let reachable = state
            .snapshot()
            .segments()
            .filter(|facts| facts.end_offset > log_start);
        let Some(facts) = reachable.rev_max() else {
            return Ok(None);
        };
        (facts.max_timestamp_ms, facts.max_timestamp_offset)
    };
    if largest < 0 {
        return Ok(None);
    }
    log.wait_durable(last_offset.plus(1)).await?;
    let found = offset_for_timestamp(log, largest, last_offset.plus(1));
    let found = found.await?;
    match found.is_none() && log.work.users.swap_count() != swaps {
        // A rewrite has dropped it meanwhile.
        true => Box::pin(max_timestamp(log)).await,
        false => Ok(found),
    }
}

/// The first of the largest.
trait RevMax<'a> {
    fn rev_max(self) -> Option<&'a crate::log::SegmentFacts>;
}

impl<'a, I: Iterator<Item = &'a crate::log::SegmentFacts>> RevMax<'a> for I {
    fn rev_max(self) -> Option<&'a crate::log::SegmentFacts> {
        self.reduce(
            |best, next| match next.max_timestamp_ms > best.max_timestamp_ms {
                true => next,
                false => best,
            },
        )
    }
}

/// A search in the segments of a log.
struct Search<'a, R: Runtime> {
    log: &'a Rc<OpenLog<R>>,
    wanted: Wanted,
}

impl<R: Runtime> Search<'_, R> {
    /// Looks in a segment's file, then in what is still in memory of it.
    async fn in_segment(&self, mut part: FilePart) -> Result<Option<Found>, ReadError> {
        let base = part.facts.base_offset;
        let mut from = Boundary {
            offset: base,
            at: Position::new(base, 0),
        };
        loop {
            if part.limit > from.at.byte
                && let Some(found) = self.in_file(&part, from).await?
            {
                return Ok(Some(found));
            }
            // Behind what was searched: in the file, or of a batch in memory that the file has by now.
            if part.limit > from.at.byte {
                from = Boundary {
                    offset: part.end,
                    at: Position::new(base, part.limit),
                };
            }
            let at = from.at;
            let candidate = {
                let state = self.log.state.borrow();
                match state.tail().batches().iter().find(|batch| batch.end() > at) {
                    Some(next) if next.at == at => candidate_in_tail(state.tail(), at, self.wanted),
                    // What was in memory has left it while something else was looked at.
                    _ if file_part(&state, &part.facts).limit > at.byte => {
                        part = file_part(&state, &part.facts);
                        continue;
                    }
                    _ => None,
                }
            };
            let Some((batch, end)) = candidate else {
                return Ok(None);
            };
            let pause = async || self.log.storage.rt.yield_now().await;
            if let Some(found) = find_in_batch(&batch, self.wanted, pause).await? {
                return Ok(Some(found));
            }
            from = end;
        }
    }

    async fn in_file(&self, part: &FilePart, from: Boundary) -> Result<Option<Found>, ReadError> {
        let _permit = self.log.storage.cold_reads.acquire(1).await;
        let _in_use = self.log.use_files()?;
        let look = |index: &SegmentIndex| {
            // One before: an entry with that very timestamp names the batch that brought it.
            let time = index.times().floor(self.wanted.at_ms.saturating_sub(1));
            (time, index.floor_offset(time.offset))
        };
        let hint = self.log.with_index(part, look).await;
        let hint = hint.map_err(|error| self.log.read_failed(error.into(), part))?;
        // What was searched before is not searched again, and the hint not needed.
        let hint = Some(hint).filter(|(_, entry)| u64::from(entry.position) > from.at.byte);
        let found = match self.in_batches(part, hint, from).await {
            // The index lied, or the batch that it named is damaged: without it.
            Err(error) if hint.is_some_and(|(_, entry)| error.concerns(&entry)) => {
                let key = (self.log.id, part.facts.id());
                self.log.storage.indexes.remove(key);
                self.in_batches(part, None, from).await
            }
            found => found,
        };
        found.map_err(|error| match error {
            SearchError::Walk(error) => self.log.read_failed(error, part),
            SearchError::Read(error) => error,
            SearchError::Index => corrupt("an index that was not used".into()),
        })
    }

    async fn in_batches(
        &self,
        part: &FilePart,
        mut hint: Option<(TimeEntry, OffsetEntry)>,
        from: Boundary,
    ) -> Result<Option<Found>, SearchError> {
        let start = hint.map_or(from.at.byte, |(_, entry)| u64::from(entry.position));
        let walk = self.log.open_walk(part, start, READ_BYTES).await;
        let mut walk = walk.map_err(WalkError::from)?;
        walk.verify();
        if hint.is_none() {
            walk.count_from(from.offset);
        }
        while let Some(batch) = self.log.next_checked(&mut walk).await? {
            let view = BatchView::first(&batch).map_err(|error| corrupt(error.to_string()))?;
            if let Some((time, entry)) = hint {
                if walk.next_offset().is_none() {
                    if !entry.matches(&view) {
                        return Err(SearchError::Index);
                    }
                    walk.count_from(view.end_offset());
                }
                if view.last_offset() >= time.offset {
                    if !time.matches(&view) {
                        return Err(SearchError::Index);
                    }
                    hint = None;
                }
            }
            let pause = async || self.log.storage.rt.yield_now().await;
            if let Some(found) = find_in_batch(&batch, self.wanted, pause).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Why a search in a file ended.
#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index says what the batches do not.
    #[error("index does not match")]
    Index,
}

impl SearchError {
    /// Whether it may be the index's fault, which led to this entry.
    fn concerns(&self, entry: &OffsetEntry) -> bool {
        match self {
            Self::Index => true,
            Self::Walk(error) => error.position() == Some(u64::from(entry.position)),
            Self::Read(_) => false,
        }
    }
}

fn corrupt(what: String) -> ReadError {
    ReadError::Storage(StorageError::Corrupt(what))
}

/// The first batch of a segment that is in memory, from a byte on, and may hold what is wanted; and
/// where it ends.
fn candidate_in_tail(tail: &Tail, from: Position, wanted: Wanted) -> Option<(Buf, Boundary)> {
    let is_there = |batch: &&TailBatch| batch.at >= from && batch.at.segment == from.segment;
    let may_hold = |batch: &&TailBatch| {
        batch.max_timestamp_ms >= wanted.at_ms && batch.base_offset < wanted.end
    };
    let batch = tail.batches().iter().filter(is_there).find(may_hold)?;
    let pieces = tail.slice(batch.at, batch.end().byte).unwrap_or_default();
    let whole = match pieces.as_slice() {
        [one] => one.clone(),
        several => Buf::from_vec(several.concat_bytes()),
    };
    let end = Boundary {
        offset: batch.end_offset,
        at: batch.end(),
    };
    Some((whole, end))
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for [Buf] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|piece| piece.iter().copied())
            .collect()
    }
}

/// How the look at a batch's records ended early.
enum Ended {
    Found(Found),
    Malformed(MalformedRecord),
}

impl From<MalformedRecord> for Ended {
    fn from(error: MalformedRecord) -> Self {
        Self::Malformed(error)
    }
}

/// Looks at a batch's records, piece by piece as they are decompressed; `pause` lets the shard's other
/// tasks run.
async fn find_in_batch(
    batch: &[u8],
    wanted: Wanted,
    pause: impl AsyncFn(),
) -> Result<Option<Found>, ReadError> {
    let view = BatchView::first(batch).map_err(|error| corrupt(error.to_string()))?;
    let outside = view.base_offset() >= wanted.end || view.last_offset() < wanted.from;
    if view.max_timestamp_ms() < wanted.at_ms || outside {
        return Ok(None);
    }
    let look = |_, front: &RecordFront| {
        let offset = view.base_offset().plus(i64::from(front.offset_delta));
        let timestamp_ms = match view.timestamp_type() {
            TimestampType::LogAppendTime => view.max_timestamp_ms(),
            TimestampType::CreateTime => view
                .base_timestamp_ms()
                .wrapping_add(front.timestamp_delta_ms),
        };
        let is_inside = offset >= wanted.from && offset < wanted.end;
        match is_inside && timestamp_ms >= wanted.at_ms {
            true => Err(Ended::Found((timestamp_ms, offset, view.leader_epoch()))),
            false => Ok(()),
        }
    };
    let (mut readers, mut walk) = (Readers::default(), RecordWalk::new(view.record_count()));
    let limit_bytes = Readers::demand(view.compression(), view.records()).limit_bytes;
    let mut expansion = readers.open(view.compression(), view.records(), limit_bytes);
    let mut spent_bytes = 0;
    while let Some(piece) = expansion
        .next_piece()
        .map_err(|error| corrupt(error.to_string()))?
    {
        match walk.push(piece, look) {
            Ok(()) => {}
            Err(Ended::Found(found)) => return Ok(Some(found)),
            Err(Ended::Malformed(error)) => return Err(corrupt(error.to_string())),
        }
        spent_bytes += piece.len().max(PIECE_BYTES_MIN);
        if spent_bytes >= STEP_BYTES {
            spent_bytes = 0;
            pause().await;
        }
    }
    walk.finish().map_err(|error| corrupt(error.to_string()))?;
    Ok(None)
}
