//! Directories of partitions: created durably, renamed before their name is free, removed behind.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::log::core::Core;
use crate::log::error::{StorageError, is_disk_full};
use crate::log::moves::{drop_gone, wait_idle};
use crate::log::options::PartitionSpec;
use crate::log::partition_files::{
    PARTITION_METADATA, PartitionDir, SegmentFile, decode_partition_metadata, deleted_dir,
    encode_partition_metadata, is_shard_dir, partition_dir, segment_path,
};
use crate::log::rules::{Rule, holds};
use crate::log::small_file::{put_small, read_small, sync_names};
use crate::log::state::LogInner;
use crate::model::{Offset, PartitionId, PartitionIndex, TopicId};
use crate::rt::{File, OpenMode, Runtime, TaskClass};

/// Creates a partition's directory with its first, empty segment; durable when it returns.
pub async fn create_dir<R: Runtime>(
    core: &Core<R>,
    spec: &PartitionSpec,
    dir: &Path,
) -> Result<(), StorageError> {
    let data_dir = &core.options.data_dir;
    put_aside_stranger(
        &core.rt,
        data_dir,
        &spec.topic,
        spec.id.index,
        spec.id.topic,
    )
    .await?;
    core.files.forget_partition(spec.id);
    refuse_records(core, dir).await?;
    make_dir(&core.rt, dir, spec.id.topic).await?;
    core.files.create((spec.id, Offset::ZERO), dir).await?;
    sync_names(&core.rt, data_dir).await
}

/// A partition that has records was recovered, and its owner has it: whoever creates it again must
/// not empty its file.
async fn refuse_records<R: Runtime>(core: &Core<R>, dir: &Path) -> Result<(), StorageError> {
    let path = segment_path(dir, Offset::ZERO, SegmentFile::Log);
    match core.rt.open(&path, OpenMode::BUFFERED).await {
        Ok(file) if file.size()? > 0 => {
            let why = format!("{} has records; it is not created again", dir.display());
            Err(StorageError::Conflict(why))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A partition's directory and the file that names its topic's id, without a segment yet; durable
/// once its parent is synced, too.
pub async fn make_dir<R: Runtime>(rt: &R, dir: &Path, topic: TopicId) -> Result<(), StorageError> {
    rt.create_dir(dir).await?;
    let text = encode_partition_metadata(topic).into_bytes();
    put_small(rt, &dir.join(PARTITION_METADATA), text).await?;
    sync_names(rt, dir).await
}

/// Takes a directory that has the partition's name and belongs to another topic id off that name: its
/// topic was deleted. Gives whose the directory is that stays, if there is one.
pub async fn put_aside_stranger<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    topic: &str,
    index: PartitionIndex,
    id: TopicId,
) -> Result<Option<TopicId>, StorageError> {
    match topic_of(rt, &data_dir.join(partition_dir(topic, index))).await? {
        Some(owner) if owner != id && holds(Rule::TopicIdCheck) => {
            take_off_name(rt, data_dir, topic, index, owner).await?;
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

/// Takes a partition, which is no longer listed, off its name; removes its files behind.
pub async fn delete<R: Runtime>(partition: &Rc<LogInner<R>>) -> Result<(), StorageError> {
    let core = partition.core.clone();
    partition.state.borrow_mut().unusable = Some(StorageError::Deleted);
    partition.changed.notify();
    core.tell_progress();
    // An append that is under way ends with an error, a move with the file as it is.
    let _turn = partition.turn.acquire(1).await;
    wait_idle(partition).await;
    core.files.forget_partition(partition.id);
    core.indexes.remove_partition(partition.id);
    core.damage.forget_partition(partition.id);
    let delay_ms = {
        let mut state = partition.state.borrow_mut();
        state.tail.clear();
        state.unmoved.clear();
        state.config.file_delete_delay_ms
    };
    drop_gone(&core);
    if !is_there(&core.rt, &partition.dir).await? {
        // It may be why the partition was offline.
        tracing::warn!(dir = %partition.dir.display(), "a deleted partition has no directory");
        return Ok(());
    }
    let (id, data_dir) = (partition.id, &core.options.data_dir);
    let aside = take_off_name(&core.rt, data_dir, &partition.topic, id.index, id.topic).await?;
    let rt = core.rt.clone();
    core.rt
        .spawn(TaskClass::Background, remove_later(rt, aside, delay_ms));
    Ok(())
}

async fn is_there<R: Runtime>(rt: &R, dir: &Path) -> io::Result<bool> {
    match rt.read_dir(dir).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn remove_later<R: Runtime>(rt: R, dir: PathBuf, delay_ms: i64) {
    rt.sleep(Duration::from_millis(delay_ms.max(0) as u64))
        .await;
    if let Err(error) = remove_tree(&rt, &dir).await {
        tracing::warn!(dir = %dir.display(), %error, "deleted partition not removed");
    }
}

/// Removes a directory of files; none is no error.
pub async fn remove_tree<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let entries = match rt.read_dir(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Last of all goes what says whose it was: without that, segments are a stranger's.
    let (named, others): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .partition(|entry| entry.name == PARTITION_METADATA);
    for entry in others.into_iter().chain(named) {
        rt.remove_file(&dir.join(&entry.name)).await?;
    }
    rt.remove_dir(dir).await
}

/// Removes what earlier runs deleted and did not get to remove.
pub async fn remove_leftovers<R: Runtime>(core: Rc<Core<R>>) {
    let data_dir = &core.options.data_dir;
    let Ok(entries) = core.rt.read_dir(data_dir).await else {
        return;
    };
    for entry in entries {
        let deleted = matches!(
            PartitionDir::parse(&entry.name),
            Some(PartitionDir::Deleted { .. })
        );
        if entry.is_dir && deleted {
            remove_later(core.rt.clone(), data_dir.join(&entry.name), 0).await;
        }
    }
}
