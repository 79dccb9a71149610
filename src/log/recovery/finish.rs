//! The end of a partition's recovery: what holds stays, files of anything else go.

use std::io;

use crate::log::files::partition_dirs::remove_tree;
use crate::log::files::partition_files::{SegmentFile, SegmentId, parse_prepared, segment_path};
use crate::log::partition::effects::Restored;
use crate::log::partition::snapshot::Snapshot;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::Position;
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

/// Removes files of segments that are not part of the log: not yet, no longer, or of a rewrite that was
/// not finished. Those that others have replaced stay until that is committed. The segment that is
/// appended to has one, which may not have had its name.
async fn remove_other_segments<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
) -> io::Result<()> {
    partition.snapshot.end_replay();
    partition
        .open(partition.snapshot.active().base_offset)
        .await?;
    let snapshot = &partition.snapshot;
    let is_replaced = |id| partition.replaced.iter().any(|by| by.inputs.contains(&id));
    let is_kept = |id, file| is_of_log(snapshot, id, file) || is_replaced(id);
    partition.has_unsynced_names |= !partition.replayed.is_empty();
    for entry in partition.rt.read_dir(&partition.dir).await? {
        let found = SegmentFile::parse(&entry.name);
        let goes = match found {
            Some((id, file)) => !is_kept(id, file),
            None => parse_prepared(&entry.name).is_some(),
        };
        if goes {
            partition
                .rt
                .remove_file(&partition.dir.join(&entry.name))
                .await?;
            // What a rewrite was about to make of a segment has its base offset, too.
            if let Some((id, SegmentFile::Log)) = found
                && id == SegmentId::appended(id.base_offset)
            {
                partition.unsynced.remove(&id.base_offset);
            }
            partition.has_unsynced_names = true;
        }
    }
    Ok(())
}

/// Whether a file belongs to a segment of the log: a producer snapshot does where one begins at its offset.
fn is_of_log(snapshot: &Snapshot, id: SegmentId, file: SegmentFile) -> bool {
    snapshot.segments().any(|facts| match file {
        SegmentFile::Snapshot => facts.base_offset == id.base_offset,
        _ => facts.id() == id,
    })
}

/// Removes the files of segments that others have replaced, once that is committed.
pub async fn remove_replaced<R: Runtime>(partition: &mut RecoveringPartition<R>) -> io::Result<()> {
    if partition.is_offline() || partition.lacks.is_some() {
        return Ok(());
    }
    for id in std::mem::take(&mut partition.replaced)
        .into_iter()
        .flat_map(|by| by.inputs)
    {
        for file in SegmentFile::ALL {
            if is_of_log(&partition.snapshot, id, file) {
                continue;
            }
            let path = segment_path(&partition.dir, id, file);
            match partition.rt.remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
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
        is_elsewhere: partition.is_elsewhere,
    }
}
