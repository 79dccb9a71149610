//! Walking what a partition has beyond its segment-durable boundary: every batch is verified and
//! counted, every file is cut to what holds.

use std::io;

use crate::log::files::partition_files::SegmentId;
use crate::log::partition::producers::ProducerBatch;
use crate::log::partition::snapshot::AppliedBatch;
use crate::log::segment::index::{IndexStart, IndexedBatch, SegmentIndex, TimeEntry};
use crate::log::segment::index_files::IndexTail;
use crate::log::segment::position::{Boundary, Position};
use crate::log::segment::walk::{SegmentWalk, WalkError};
use crate::model::Offset;
use crate::model::batch::{BatchError, BatchView};
use crate::rt::{File, Runtime};

use super::partition::RecoveringPartition;
use super::plan::{WalkedRange, plan_walk};

const READ_BYTES: usize = 1 << 20;
/// Only the spacing of index entries hangs on it.
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// Walks everything beyond the segment-durable boundary, and cuts files behind it when `cuts`. Gives
/// the active segment's index of what was walked, or the reason why it cannot.
pub async fn verify<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
    cuts: bool,
) -> io::Result<Result<SegmentIndex, String>> {
    let plan = plan_walk(&partition.snapshot, &partition.replayed);
    let known_end = partition.snapshot.end().offset;
    let mut at = plan.first().map_or(Offset::ZERO, |piece| piece.from.offset);
    let mut last = None;
    for (number, piece) in plan.iter().enumerate() {
        let base = piece.base();
        if piece.from.offset != at {
            return Ok(Err(format!(
                "segment {base} does not begin where the one before ends, at {at}"
            )));
        }
        if base > partition.snapshot.active().base_offset {
            partition
                .snapshot
                .begin_segment(partition.rt.wall_clock_ms());
        }
        let is_last = number + 1 == plan.len();
        let mut index = index_of(partition, piece);
        if piece.is_nothing() {
            last = is_last.then_some(index);
            continue;
        }
        let end = match verify_piece(partition, piece, is_last, &mut index).await? {
            Ok(end) => end,
            Err(reason) => return Ok(Err(format!("segment {base}{reason}"))),
        };
        if cuts && (piece.is_touched || !is_last) {
            cut(partition, end.at, !is_last).await?;
        }
        at = end.offset;
        if is_last {
            last = Some(index);
        } else {
            write_index(partition, base, index).await;
        }
    }
    if at < known_end {
        return Ok(Err(format!(
            "the log ends at {at}, its checkpoint has {known_end}"
        )));
    }
    Ok(last.ok_or_else(|| "no segment".to_owned()))
}

/// Walks a segment's batches and counts them; returns where they end.
async fn verify_piece<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
    piece: &WalkedRange,
    is_last: bool,
    index: &mut SegmentIndex,
) -> io::Result<Result<Boundary, String>> {
    let known_end = partition.snapshot.end().offset;
    let (base, from) = (piece.base(), piece.from.at.byte);
    let file = partition.open(base).await?;
    let mut walk = SegmentWalk::new(partition.rt.clone(), file, from, piece.to, READ_BYTES);
    walk.verify();
    let mut at = piece.from.offset;
    let end = loop {
        match walk.next().await {
            Ok(None) => break walk.position(),
            Ok(Some((position, batch))) => {
                let Ok(view) = BatchView::first(&batch) else {
                    continue;
                };
                let offset = view.base_offset();
                if offset != at {
                    let reason = format!(", byte {position}: offset {offset} where {at} is next");
                    return Ok(Err(reason));
                }
                at = view.end_offset();
                observe(partition, &view, position, index);
            }
            // The last batch did not get into the journal as a whole.
            Err(WalkError::Break {
                position,
                error: BatchError::Truncated,
            }) if is_last && at >= known_end => break position,
            Err(WalkError::Io(error)) => return Err(error),
            Err(error) => return Ok(Err(format!(": {error}"))),
        }
    };
    Ok(Ok(Boundary {
        offset: at,
        at: Position::new(base, end),
    }))
}

/// Counts a batch that the checkpoint does not.
fn observe<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
    view: &BatchView<'_>,
    position: u64,
    index: &mut SegmentIndex,
) {
    let indexed = IndexedBatch::of(view, u32::try_from(position).unwrap_or(u32::MAX));
    index.append(&indexed, INDEX_INTERVAL_BYTES);
    if view.base_offset() >= partition.snapshot.end().offset {
        let producer = ProducerBatch::of(view);
        let applied = AppliedBatch::stored(view, producer.as_ref(), partition.producers_ms);
        partition.snapshot.apply_batch(&applied);
    }
}

/// The index of what is walked of a segment. What its files have of the batches before is read when
/// somebody needs it. What it must know is the largest timestamp so far.
fn index_of<R: Runtime>(partition: &RecoveringPartition<R>, piece: &WalkedRange) -> SegmentIndex {
    let base = piece.base();
    let start = IndexStart {
        offset: piece.from.offset,
        position: piece.from.at.byte,
    };
    let mut index = SegmentIndex::from_start(base, start);
    let mut segments = partition.snapshot.segments();
    if let Some(facts) = segments.find(|facts| facts.base_offset == base) {
        index.tell_largest(TimeEntry {
            timestamp_ms: facts.max_timestamp_ms,
            offset: facts.max_timestamp_offset,
        });
    }
    index
}

/// Writes the index files of a segment that was walked as a whole. Those of another one keep what
/// they have, and get the rest when the segment is first read.
async fn write_index<R: Runtime>(
    partition: &RecoveringPartition<R>,
    base: Offset,
    mut index: SegmentIndex,
) {
    if index.starts_behind().is_some() {
        return;
    }
    index.finish();
    let tail = IndexTail::rest_of(&index, (0, 0));
    if let Err(error) = tail
        .write(&partition.rt, &partition.dir, SegmentId::appended(base))
        .await
    {
        tracing::warn!(dir = %partition.dir.display(), %base, %error, "index not written");
    }
}

/// Cuts a file to its exact length. A sealed one may have been cut by a process that was killed
/// before that was durable.
async fn cut<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
    end: Position,
    is_sealed: bool,
) -> io::Result<()> {
    let file = partition.open(end.segment).await?;
    let is_longer = file.size()? != end.byte;
    if is_longer {
        file.set_len(end.byte).await?;
    }
    if is_longer || is_sealed {
        partition.unsynced.insert(end.segment);
    }
    Ok(())
}
