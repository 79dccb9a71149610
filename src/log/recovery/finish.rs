//! The end of a partition's recovery: what holds stays, files of anything else go.

use std::io;

use crate::log::files::partition_dirs::{remove_tree, sync_mark};
use crate::log::files::partition_files::SegmentFile;
use crate::log::partition::effects::Restored;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::Position;
use crate::model::Offset;
use crate::rt::{File, Runtime};

use super::RecoveredPartition;
use super::part::{FoundDir, Part};
use super::verify::verify;

/// Brings a partition's files to what was recovered. One that goes offline keeps all that could be
/// verified, its files beyond, and the journals, under the name `kept`.
pub async fn finish<R: Runtime>(part: &mut Part<R>, kept: &str) -> io::Result<RecoveredPartition> {
    let mut index = SegmentIndex::new(part.snapshot.active().base_offset);
    if !part.is_offline() {
        let harm = part.broken.take().or(part.suspect.take());
        part.flush(true).await?;
        let before = part.snapshot.clone();
        let verified = verify(part, harm.is_none()).await?;
        match (verified, harm) {
            (Ok(found), None) => index = found,
            (Ok(_), Some(reason)) => {
                part.snapshot.all_written_back();
                go_offline(part, &reason, kept);
            }
            (Err(reason), harm) => {
                part.snapshot = before;
                go_offline(part, &harm.unwrap_or(reason), kept);
            }
        }
    }
    if !part.is_offline() {
        part.snapshot.all_written_back();
        if begin_anew(part).await? {
            index = SegmentIndex::new(part.snapshot.end().offset);
        }
        settle_dir(part).await?;
    }
    part.close();
    Ok(recovered(part, index))
}

fn go_offline<R: Runtime>(part: &mut Part<R>, reason: &str, kept: &str) {
    let end = part.snapshot.end().offset;
    part.take_offline(format!(
        "{reason}; whole up to offset {end}, and the journals are kept as shard-*/{kept}"
    ));
}

/// A log without records goes on in a segment without any: the file of its last one may have been
/// removed before the log start, and what was replayed of it begins behind a hole. Tells whether
/// there is a new segment.
async fn begin_anew<R: Runtime>(part: &mut Part<R>) -> io::Result<bool> {
    let end = part.snapshot.end().offset;
    let is_empty = part.snapshot.end().at == Position::new(end, 0);
    if part.snapshot.log_start() < end || is_empty {
        return Ok(false);
    }
    part.need_dir().await?;
    let file = part.open(end).await?;
    if file.size()? > 0 {
        file.set_len(0).await?;
        file.sync().await?;
    }
    part.rt.sync_dir(&part.dir).await?;
    part.snapshot.begin_segment(part.rt.wall_clock_ms());
    part.snapshot.all_written_back();
    Ok(true)
}

/// The directory of a partition that has nothing goes, if one was begun; that of another gets what it
/// needs to outlive a power cut, once its parent is synced.
async fn settle_dir<R: Runtime>(part: &mut Part<R>) -> io::Result<()> {
    if !part.is_touched() {
        part.snapshot.end_replay();
        part.close();
        if part.found_dir != FoundDir::Missing {
            remove_tree(&part.rt, &part.dir).await?;
            part.found_dir = FoundDir::Missing;
        }
        return Ok(());
    }
    if part.is_fresh {
        sync_mark(&part.rt, &part.dir).await?;
    }
    remove_strangers(part).await
}

/// Removes files of segments that are no longer, or not yet, part of the log.
async fn remove_strangers<R: Runtime>(part: &mut Part<R>) -> io::Result<()> {
    part.snapshot.end_replay();
    let snapshot = &part.snapshot;
    let is_kept = |base: Offset| snapshot.segments().any(|facts| facts.base_offset == base);
    let mut removed = false;
    for entry in part.rt.read_dir(&part.dir).await? {
        if let Some((base, _)) = SegmentFile::parse(&entry.name)
            && !is_kept(base)
        {
            part.rt.remove_file(&part.dir.join(&entry.name)).await?;
            removed = true;
        }
    }
    if removed || !part.replayed.is_empty() {
        part.rt.sync_dir(&part.dir).await?;
    }
    Ok(())
}

fn recovered<R: Runtime>(part: &Part<R>, index: SegmentIndex) -> RecoveredPartition {
    RecoveredPartition {
        log: Restored {
            snapshot: part.snapshot.clone(),
            index,
        },
        lacks: part.lacks.clone(),
        has_dir: part.is_offline() || part.is_touched(),
    }
}
