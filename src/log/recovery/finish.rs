//! The end of a partition's recovery: what holds stays, files of anything else go.

use std::io;

use crate::log::files::partition_files::SegmentFile;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::Position;
use crate::model::Offset;
use crate::rt::{File, Runtime};

use super::RecoveredPartition;
use super::part::Part;
use super::verify::verify;

/// Brings a partition's files to what was recovered. One that goes offline keeps all that could be
/// verified, its files beyond, and the journals, under the name `kept`.
pub async fn finish<R: Runtime>(part: &mut Part<R>, kept: &str) -> io::Result<RecoveredPartition> {
    let active = part.content.segments.last();
    let mut index = SegmentIndex::new(active.map_or(Offset::ZERO, |facts| facts.base_offset));
    if !part.is_offline() {
        let harm = part.broken.take().or(part.suspect.take());
        part.flush(true).await?;
        let before = part.content.clone();
        let verified = verify(part, harm.is_none()).await?;
        match (verified, harm) {
            (Ok(found), None) => index = found,
            (Ok(_), Some(reason)) => {
                settle(part);
                go_offline(part, &reason, kept);
            }
            (Err(reason), harm) => {
                part.content = before;
                go_offline(part, &harm.unwrap_or(reason), kept);
            }
        }
    }
    if !part.is_offline() {
        settle(part);
        if begin_anew(part).await? {
            index = SegmentIndex::new(part.content.end.offset);
        }
        remove_strangers(part).await?;
    }
    part.close();
    Ok(recovered(part, index))
}

/// Everything up to the end is in segment files.
fn settle<R: Runtime>(part: &mut Part<R>) {
    part.content.segment_durable = part.content.end;
    part.content.moved = part.content.end.at;
}

fn go_offline<R: Runtime>(part: &mut Part<R>, reason: &str, kept: &str) {
    let end = part.content.end.offset;
    part.take_offline(format!(
        "{reason}; whole up to offset {end}, and the journals are kept as shard-*/{kept}"
    ));
}

/// A log without records goes on in a segment without any: the file of its last one may have been
/// removed before the log start, and what was replayed of it begins behind a hole. Tells whether
/// there is a new segment.
async fn begin_anew<R: Runtime>(part: &mut Part<R>) -> io::Result<bool> {
    let end = part.content.end.offset;
    if part.content.log_start < end || part.content.end.at == Position::new(end, 0) {
        return Ok(false);
    }
    let file = part.open(end).await?;
    if file.size()? > 0 {
        file.set_len(0).await?;
        file.sync().await?;
    }
    part.rt.sync_dir(&part.dir).await?;
    let now_ms = part.rt.wall_clock_ms();
    part.content.end.at = Position::new(end, 0);
    settle(part);
    part.content.segments.push(SegmentFacts::empty(end, now_ms));
    Ok(true)
}

/// Removes files of segments that are no longer, or not yet, part of the log.
async fn remove_strangers<R: Runtime>(part: &mut Part<R>) -> io::Result<()> {
    let content = &mut part.content;
    content.log_start = content.log_start.min(content.end.offset);
    let log_start = content.log_start;
    content.epochs.truncate_from_start(log_start);
    let active = content.segments.last().map(|facts| facts.base_offset);
    content
        .segments
        .retain(|facts| facts.end_offset > log_start || Some(facts.base_offset) == active);
    let is_kept = |base: Offset| {
        content
            .segments
            .iter()
            .any(|facts| facts.base_offset == base)
    };
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
    let content = &part.content;
    let mut sealed = content.segments.clone();
    let active = sealed
        .pop()
        .unwrap_or(SegmentFacts::empty(content.end.offset, 0));
    RecoveredPartition {
        id: content.id,
        topic: content.topic.clone(),
        log_start: content.log_start,
        end: content.end,
        segment_durable: content.segment_durable,
        moved: content.moved,
        sealed,
        active,
        epochs: content.epochs.clone(),
        producers: content.producers.clone(),
        index,
        looks_again: content.offline.is_none() && part.lacks.is_some(),
        offline: content.offline.clone().or(part.lacks.clone()),
    }
}
