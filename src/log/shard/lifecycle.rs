//! A partition's files at its end: taken off their name, removed behind.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::files::partition_dirs::{remove_tree, take_off_name};
use crate::log::files::partition_files::PartitionDir;
use crate::log::shard::open_log::ShardStorage;
use crate::log::shard::open_log::{DirIs, OpenLog};
use crate::rt::{Runtime, TaskClass};

/// Takes a partition, which is no longer listed, off its name; removes its files behind.
pub async fn delete<R: Runtime>(partition: &Rc<OpenLog<R>>) -> Result<(), StorageError> {
    let storage = partition.storage.clone();
    partition.state.borrow_mut().delete();
    partition.list_waiting();
    partition.tell_failed();
    // An append that is under way ends with an error, a write-back with the file as it is.
    let _turn = partition.turn.lock().await;
    partition.wait_idle().await;
    storage.files.forget_partition(partition.id);
    storage.indexes.remove_partition(partition.id);
    storage.damage.forget_partition(partition.id);
    let (delay_ms, chunks) = {
        let mut state = partition.state.borrow_mut();
        let chunks = state.tail().released_count();
        state.clear();
        (state.config().file_delete_delay_ms, chunks)
    };
    let is_open = |slot| storage.logs.borrow().at(slot).is_some();
    storage.tail.owner_gone(chunks, is_open);
    if partition.dir_is.get() == DirIs::Unmade {
        return Ok(());
    }
    if !is_there(&storage.rt, &partition.dir).await? {
        // It may be why the partition was offline.
        tracing::warn!(dir = %partition.dir.display(), "a deleted partition has no directory");
        return Ok(());
    }
    let (id, data_dir) = (partition.id, &storage.options.data_dir);
    let aside = take_off_name(&storage.rt, data_dir, &partition.topic, id.index, id.topic).await?;
    let rt = storage.rt.clone();
    storage
        .rt
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
pub async fn remove_leftovers<R: Runtime>(storage: Rc<ShardStorage<R>>) {
    let data_dir = &storage.options.data_dir;
    let Ok(entries) = storage.rt.read_dir(data_dir).await else {
        return;
    };
    for entry in entries {
        let deleted = matches!(
            PartitionDir::parse(&entry.name),
            Some(PartitionDir::Deleted { .. })
        );
        if entry.is_dir && deleted {
            remove_later(storage.rt.clone(), data_dir.join(&entry.name), 0).await;
        }
    }
}
