//! The directories of partitions, before anything is replayed into them.

use std::io;
use std::path::Path;

use crate::log::error::StorageError;
use crate::log::files::partition_dirs::{make_dir, put_aside_stranger};
use crate::log::files::partition_files::{PARTITION_METADATA, SegmentFile, segment_path};
use crate::model::{Offset, RESERVED_TOPIC_NAME, TopicId};
use crate::rt::{Create, File, OpenMode, Runtime};

use super::RecoveryError;
use super::part::Part;
use super::plan::needed_files;

/// Gives a partition the directory of its name; tells whether one was made. Without the directory of
/// one that has records there is no start: what the journal has of them could not be put anywhere.
pub async fn place<R: Runtime>(data_dir: &Path, part: &mut Part<R>) -> Result<bool, RecoveryError> {
    let (rt, id) = (&part.rt, part.snapshot.id());
    if part.snapshot.topic() == RESERVED_TOPIC_NAME {
        let reason = "a topic of this name would share directories with shards";
        part.snapshot.take_offline(reason.to_owned());
        return Ok(false);
    }
    let topic = part.snapshot.topic();
    let owner = put_aside_stranger(rt, data_dir, topic, id.index, id.topic).await?;
    if part.is_new {
        match make(rt, &part.dir, owner, id.topic).await {
            Err(StorageError::DiskFull) => part.is_unmade = true,
            made => made?,
        }
    } else if !part.is_offline() && owner.is_none() {
        let entries = match rt.read_dir(&part.dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        let path = part.dir.clone();
        match entries {
            None => return Err(RecoveryError::DirMissing(path)),
            Some(entries) if entries.is_empty() => {
                part.take_offline(format!("{} is empty", path.display()));
            }
            Some(_) => {
                let (path, topic) = (path.join(PARTITION_METADATA), id.topic);
                return Err(RecoveryError::DirUnmarked { path, topic });
            }
        }
    }
    Ok(part.is_new)
}

/// Makes what is not there of a partition's directory, which is `owner`'s.
async fn make<R: Runtime>(
    rt: &R,
    dir: &Path,
    owner: Option<TopicId>,
    topic: TopicId,
) -> Result<(), StorageError> {
    if owner != Some(topic) {
        make_dir(rt, dir, topic).await?;
    }
    Ok(create_first_segment(rt, dir).await?)
}

/// Compares the lengths of segment files with what was written to them, as the checkpoint knows.
pub async fn look_at_files<R: Runtime>(part: &mut Part<R>) -> Result<(), RecoveryError> {
    if part.is_new || part.is_offline() {
        return Ok(());
    }
    for (base, needed) in needed_files(&part.snapshot) {
        let path = segment_path(&part.dir, base, SegmentFile::Log);
        let found = match part.rt.open(&path, OpenMode::BUFFERED).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            file => file?.size()?,
        };
        if found < needed {
            part.short.push((base, found));
            part.is_later = true;
        }
    }
    Ok(())
}

/// Judges what was found short, now that it is known where the log starts. Without a sealed segment
/// the partition is offline for this run, and no more is lost; without one that is written on there is
/// no start, because what the journal has would go behind a hole.
pub fn judge_files<R: Runtime>(part: &mut Part<R>) -> Result<(), RecoveryError> {
    if part.is_offline() {
        return Ok(());
    }
    for (base, needed) in needed_files(&part.snapshot) {
        let is_it = |(short, _): &&(Offset, u64)| *short == base;
        let Some((_, found)) = part.short.iter().find(is_it).copied() else {
            continue;
        };
        let path = segment_path(&part.dir, base, SegmentFile::Log);
        if base >= part.snapshot.segment_durable().at.segment {
            return Err(RecoveryError::SegmentShort {
                path,
                dir: part.dir.clone(),
                found,
                needed,
            });
        }
        let text = format!(
            "{} has {found} of {needed} bytes: put it back, and start again",
            path.display()
        );
        part.lacks.get_or_insert(text);
    }
    Ok(())
}

async fn create_first_segment<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let mode = OpenMode {
        direct: true,
        create: Create::IfMissing,
    };
    let file = rt
        .open(&segment_path(dir, Offset::ZERO, SegmentFile::Log), mode)
        .await?;
    file.size()?;
    rt.sync_dir(dir).await
}
