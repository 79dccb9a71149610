//! Directories of partitions: created durably, renamed before their name is free, removed behind.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::error::{StorageError, is_disk_full};
use crate::log::files::partition_files::{
    PARTITION_METADATA, decode_partition_metadata, deleted_dir, encode_partition_metadata,
    is_shard_dir, partition_dir,
};
use crate::log::files::small_file::{read_small, sync_names, write_small};
use crate::log::rules::{Rule, holds};
use crate::model::{PartitionId, PartitionIndex, TopicId};
use crate::rt::{File, OpenMode, Runtime};

/// A partition's directory and the file that names its topic's id, without a segment yet; nothing of
/// it is durable.
pub async fn make_dir<R: Runtime>(rt: &R, dir: &Path, topic: TopicId) -> io::Result<()> {
    rt.create_dir(dir).await?;
    let text = encode_partition_metadata(topic).into_bytes();
    write_small(rt, &dir.join(PARTITION_METADATA), 0, text).await?;
    Ok(())
}

/// Makes durable what a directory says of whose it is.
pub async fn sync_mark<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let path = dir.join(PARTITION_METADATA);
    rt.open(&path, OpenMode::BUFFERED).await?.sync().await
}

/// Takes a directory that has the partition's name and belongs to another topic id, as `owner` says, off
/// that name: its topic was deleted. Gives whose the directory is that stays, if there is one.
pub async fn put_aside_unknown_dir<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    topic: &str,
    id: PartitionId,
    owner: Option<TopicId>,
) -> Result<Option<TopicId>, StorageError> {
    match owner {
        Some(owner) if owner != id.topic && holds(Rule::TopicIdCheck) => {
            take_off_name(rt, data_dir, topic, id.index, owner).await?;
            Ok(None)
        }
        owner => Ok(owner),
    }
}

/// Takes the directory that a partition has off its name, if there is one.
pub async fn discard<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    topic: &str,
    id: PartitionId,
) -> Result<(), StorageError> {
    let dir = data_dir.join(partition_dir(topic, id.index));
    if topic_of(rt, &dir).await? == Some(id.topic) {
        take_off_name(rt, data_dir, topic, id.index, id.topic).await?;
    }
    Ok(())
}

/// The topic id that a directory belongs to; `None` when it is not there or was never finished.
pub async fn topic_of<R: Runtime>(rt: &R, dir: &Path) -> io::Result<Option<TopicId>> {
    let text = read_small(rt, &dir.join(PARTITION_METADATA)).await?;
    Ok(text.and_then(|text| decode_partition_metadata(&text).ok()))
}

/// Renames a partition's directory, whose topic `owner` is deleted, off its name; what the target was
/// is gone. Gives the new path. The new name is longer: on a full disk there may be no room for it, and
/// the directory is removed at once, which needs none.
pub async fn take_off_name<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    topic: &str,
    index: PartitionIndex,
    owner: TopicId,
) -> Result<PathBuf, StorageError> {
    let name = partition_dir(topic, index);
    if is_shard_dir(&name) {
        let why = format!("{name} is a shard's directory");
        return Err(StorageError::Conflict(why));
    }
    let from = data_dir.join(name);
    let to = data_dir.join(deleted_dir(topic, index, owner));
    remove_tree(rt, &to).await?;
    match rt.rename(&from, &to).await {
        Err(error) if is_disk_full(&error) => remove_tree(rt, &from).await?,
        renamed => renamed?,
    }
    sync_names(rt, data_dir).await?;
    Ok(to)
}

/// Removes a directory of files; none is no error.
pub async fn remove_tree<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let entries = match rt.read_dir(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Last of all goes what says whose it was: without that, segments are nobody's.
    let (named, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .partition(|entry| entry.name == PARTITION_METADATA);
    for entry in others.into_iter().chain(named) {
        rt.remove_file(&dir.join(&entry.name)).await?;
    }
    rt.remove_dir(dir).await
}
