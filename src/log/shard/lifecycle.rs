//! A partition's files at its beginning and at its end: created durably, taken off their name, removed
//! behind.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::files::partition_dirs::{make_dir, put_aside_stranger, remove_tree, take_off_name};
use crate::log::files::partition_files::{PartitionDir, SegmentFile, segment_path};
use crate::log::files::small_file::sync_names;
use crate::log::options::PartitionSpec;
use crate::log::shard::core::Core;
use crate::log::shard::log_inner::LogInner;
use crate::log::shard::moves::{drop_gone, wait_idle};
use crate::model::Offset;
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

/// Takes a partition, which is no longer listed, off its name; removes its files behind.
pub async fn delete<R: Runtime>(partition: &Rc<LogInner<R>>) -> Result<(), StorageError> {
    let core = partition.core.clone();
    partition.state.borrow_mut().delete();
    partition.list_waiting();
    partition.tell_failed();
    core.tell_progress();
    // An append that is under way ends with an error, a move with the file as it is.
    let _turn = partition.turn.acquire(1).await;
    wait_idle(partition).await;
    core.files.forget_partition(partition.id);
    core.indexes.remove_partition(partition.id);
    core.damage.forget_partition(partition.id);
    let delay_ms = {
        let mut state = partition.state.borrow_mut();
        state.clear();
        state.config().file_delete_delay_ms
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
