//! The end of a partition's recovery: what holds stays, files of anything else go.

use std::io;

use crate::log::files::partition_dirs::remove_tree;
use crate::log::files::partition_files::{SegmentFile, parse_prepared};
use crate::log::partition::effects::Restored;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::Position;
use crate::model::Offset;
use crate::rt::{File, Runtime};

use super::RecoveredPartition;
use super::partition::{FoundDir, RecoveringPartition};
use super::verify::verify;

/// Brings a partition's files to what was recovered. One that goes offline keeps all that could be
/// verified, its files beyond, and the journals, under the name `kept`.
pub async fn finish<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
    kept: &str,
) -> io::Result<RecoveredPartition> {
    let mut index = SegmentIndex::new(partition.snapshot.active().base_offset);
    if !partition.is_offline() {
        let harm = partition.broken.take().or(partition.suspect.take());
        partition.flush(true).await?;
        let before = partition.snapshot.clone();
        let verified = verify(partition, harm.is_none()).await?;
        match (verified, harm) {
            (Ok(found), None) => index = found,
            (Ok(_), Some(reason)) => {
                partition.snapshot.all_written_back();
                go_offline(partition, &reason, kept);
            }
            (Err(reason), harm) => {
                partition.snapshot = before;
                go_offline(partition, &harm.unwrap_or(reason), kept);
            }
        }
    }
    if !partition.is_offline() {
        partition.snapshot.all_written_back();
        if begin_anew(partition).await? {
            index = SegmentIndex::new(partition.snapshot.end().offset);
        }
        settle_dir(partition).await?;
    }
    partition.close();
    Ok(recovered(partition, index))
}

fn go_offline<R: Runtime>(partition: &mut RecoveringPartition<R>, reason: &str, kept: &str) {
    let end = partition.snapshot.end().offset;
    partition.take_offline(format!(
        "{reason}; whole up to offset {end}, and the journals are kept as shard-*/{kept}"
    ));
}

/// A log without records goes on in a segment without any: the file of its last one may have been
/// removed before the log start, and what was replayed of it begins behind a hole. Tells whether
/// there is a new segment.
async fn begin_anew<R: Runtime>(partition: &mut RecoveringPartition<R>) -> io::Result<bool> {
    let end = partition.snapshot.end().offset;
    let is_empty = partition.snapshot.end().at == Position::new(end, 0);
    if partition.snapshot.log_start() < end || is_empty {
        return Ok(false);
    }
    partition.need_dir().await?;
    let file = partition.open(end).await?;
    if file.size()? > 0 {
        file.set_len(0).await?;
        partition.unsynced.insert(end);
    }
    partition.has_unsynced_names = true;
    partition
        .snapshot
        .begin_segment(partition.rt.wall_clock_ms());
    partition.snapshot.all_written_back();
    Ok(true)
}

/// The directory of a partition that has nothing goes, if one was begun; that of another keeps what
/// is part of the log.
async fn settle_dir<R: Runtime>(partition: &mut RecoveringPartition<R>) -> io::Result<()> {
    if !partition.is_touched() {
        partition.snapshot.end_replay();
        partition.close();
        if partition.found_dir != FoundDir::Missing {
            remove_tree(&partition.rt, &partition.dir).await?;
            partition.found_dir = FoundDir::Missing;
        }
        return Ok(());
    }
    remove_other_segments(partition).await
}

/// Removes files of segments that are no longer, or not yet, part of the log. The segment that is
/// appended to has one, which may not have had its name.
async fn remove_other_segments<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
) -> io::Result<()> {
    partition.snapshot.end_replay();
    partition
        .open(partition.snapshot.active().base_offset)
        .await?;
    let snapshot = &partition.snapshot;
    let is_kept = |base: Offset| snapshot.segments().any(|facts| facts.base_offset == base);
    partition.has_unsynced_names |= !partition.replayed.is_empty();
    for entry in partition.rt.read_dir(&partition.dir).await? {
        let base = SegmentFile::parse(&entry.name).map(|(base, _)| base);
        let goes = match base {
            Some(base) => !is_kept(base),
            None => parse_prepared(&entry.name).is_some(),
        };
        if goes {
            partition
                .rt
                .remove_file(&partition.dir.join(&entry.name))
                .await?;
            base.inspect(|base| {
                partition.unsynced.remove(base);
            });
            partition.has_unsynced_names = true;
        }
    }
    Ok(())
}

fn recovered<R: Runtime>(
    partition: &RecoveringPartition<R>,
    index: SegmentIndex,
) -> RecoveredPartition {
    RecoveredPartition {
        log: Restored {
            snapshot: partition.snapshot.clone(),
            index,
        },
        lacks: partition.lacks.clone(),
        has_dir: partition.is_offline() || partition.is_touched(),
    }
}
