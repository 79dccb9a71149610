//! The directories of partitions, before anything is replayed into them.

use std::io;
use std::path::Path;

use crate::log::files::partition_dirs::{put_aside_unknown_dir, topic_of};
use crate::log::files::partition_files::{
    PARTITION_METADATA, SegmentFile, SegmentId, segment_path,
};
use crate::log::segment::replacement::Replacement;
use crate::model::RESERVED_TOPIC_NAME;
use crate::rt::{File, OpenMode, Runtime};

use super::error::RecoveryError;
use super::partition::{FoundDir, ListedDir, RecoveringPartition};
use super::plan::needed_files;

/// Looks at the directory of a partition, if the data directory lists one of its name. One that has
/// nothing in segment files needs none: what the journal has of it makes it. Without the directory of
/// another there is no start: what the journal has of it could not be put anywhere.
pub async fn place<R: Runtime>(
    data_dir: &Path,
    partition: &mut RecoveringPartition<R>,
) -> Result<(), RecoveryError> {
    let (rt, id) = (&partition.rt, partition.snapshot.id());
    if partition.snapshot.topic() == RESERVED_TOPIC_NAME {
        let reason = "a topic of this name would share directories with shards";
        partition.snapshot.take_offline(reason.to_owned());
        return Ok(());
    }
    let mark = match partition.listed {
        ListedDir::Of(topic) => Some(topic),
        ListedDir::Unmarked => None,
        ListedDir::Nothing if partition.is_fresh || partition.is_offline() => return Ok(()),
        ListedDir::Nothing => topic_of(rt, &partition.dir).await?,
    };
    partition.is_elsewhere = partition.listed == ListedDir::Nothing;
    let topic = partition.snapshot.topic();
    let owner = put_aside_unknown_dir(rt, data_dir, topic, id, mark).await?;
    if owner.is_some() {
        partition.found_dir = FoundDir::Marked;
    } else if partition.is_fresh {
        partition.found_dir = FoundDir::Unfinished;
    } else if !partition.is_offline() {
        let entries = match rt.read_dir(&partition.dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        let path = partition.dir.clone();
        match entries {
            None => return Err(RecoveryError::DirMissing(path)),
            Some(entries) if entries.is_empty() => {
                partition.take_offline(format!("{} is empty", path.display()));
            }
            Some(_) => {
                let (path, topic) = (path.join(PARTITION_METADATA), id.topic);
                return Err(RecoveryError::DirUnmarked { path, topic });
            }
        }
    }
    Ok(())
}

/// Compares the lengths of segment files with what was written to them, as the checkpoint knows.
pub async fn look_at_files<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
) -> Result<(), RecoveryError> {
    if partition.is_fresh || partition.is_offline() {
        return Ok(());
    }
    for (id, needed) in needed_files(&partition.snapshot) {
        let found = file_bytes(partition, id).await?;
        if found < needed {
            partition.short.push((id, found));
            partition.is_later = true;
        }
    }
    Ok(())
}

/// The length of a segment's file, 0 where there is none.
async fn file_bytes<R: Runtime>(
    partition: &RecoveringPartition<R>,
    id: SegmentId,
) -> io::Result<u64> {
    let path = segment_path(&partition.dir, id, SegmentFile::Log);
    match partition.rt.open(&path, OpenMode::BUFFERED).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        file => file?.size(),
    }
}

/// Judges what was found short, now that it is known where the log starts. Without a sealed segment
/// the partition is offline for this run, and no more is lost; without one that is written on there is
/// no start, because what the journal has would go behind a hole. Segments that have taken the place of
/// others since the checkpoint are looked at only now.
pub async fn judge_files<R: Runtime>(
    partition: &mut RecoveringPartition<R>,
) -> Result<(), RecoveryError> {
    if partition.is_offline() {
        return Ok(());
    }
    for (id, needed) in needed_files(&partition.snapshot) {
        let is_new = |replacement: &Replacement| {
            let mut outputs = replacement.outputs.iter();
            outputs.any(|facts| facts.id() == id)
        };
        let found = match partition.short.iter().find(|(short, _)| *short == id) {
            Some((_, found)) => *found,
            None if partition.replaced.iter().any(is_new) => file_bytes(partition, id).await?,
            None => continue,
        };
        if found >= needed {
            continue;
        }
        let path = segment_path(&partition.dir, id, SegmentFile::Log);
        if id.base_offset >= partition.snapshot.segment_durable().at.segment {
            return Err(RecoveryError::SegmentShort {
                path,
                dir: partition.dir.clone(),
                found,
                needed,
            });
        }
        let text = format!(
            "{} has {found} of {needed} bytes: put it back, and start again",
            path.display()
        );
        partition.lacks.get_or_insert(text);
    }
    Ok(())
}
