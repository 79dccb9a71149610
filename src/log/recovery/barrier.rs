//! The flush between what recovery writes into partitions' files and what tells of it.
//!
//! Until the next run is committed a start goes by the checkpoints and journals of the one before, which
//! have everything that recovery writes, cuts and names: cut short, it is begun again, whatever of its
//! files has reached the disk. So none of its writes is flushed by itself. All of them have completed
//! when this begins; only when this has ended checkpoints are written that call them durable (rules 6,
//! 10 and 12 of [durability](crate::manual::durability)).
//!
//! With 10,000 partitions of one record each, every one has a segment that was written and cut, a file
//! that says whose the directory is, and the directory, none of which anything has made durable: 30,000
//! syncs. One by one they are as many flushes of the device, and a commit of the file system's journal
//! for every few: on ext4 9 s, where the sync of the whole file system takes 0.8 s.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::partition::{FoundDir, PARTITIONS_AT_A_TIME, RecoveringPartition};
use crate::log::files::partition_files::{
    PARTITION_METADATA, SegmentFile, SegmentId, segment_path,
};
use crate::log::files::run::RUN_FILE;
use crate::log::rules::{Rule, holds};
use crate::rt::{File, OpenMode, Runtime};

/// Something that is not durable.
enum Unsynced {
    File(PathBuf),
    /// The names in a directory.
    Dir(PathBuf),
}

/// Makes the files of all partitions durable, as they are: more than `syncs_by_file` of them with the
/// whole file system, where that is possible.
pub async fn make_durable<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    partitions: impl Iterator<Item = &RecoveringPartition<R>> + Clone,
    syncs_by_file: usize,
) -> io::Result<()> {
    if !holds(Rule::RecoveryFlushesFiles) {
        return Ok(());
    }
    let mut unsynced: Vec<_> = partitions.clone().flat_map(unsynced_of).collect();
    if partitions.clone().any(has_fresh_dir) {
        unsynced.push(Unsynced::Dir(data_dir.to_owned()));
    }
    if unsynced.len() > syncs_by_file && rt.sync_file_system(&data_dir.join(RUN_FILE)).await? {
        let elsewhere = partitions.filter(|partition| partition.is_elsewhere);
        unsynced = elsewhere.flat_map(unsynced_of).collect();
    }
    let syncs = unsynced.into_iter().map(|unsynced| sync(rt, unsynced));
    let syncs = stream::iter(syncs).buffer_unordered(PARTITIONS_AT_A_TIME);
    syncs.try_collect().await
}

/// What of a partition was changed, and of a fresh one all that it has.
fn unsynced_of<R: Runtime>(partition: &RecoveringPartition<R>) -> Vec<Unsynced> {
    let (dir, is_fresh) = (&partition.dir, has_fresh_dir(partition));
    let path = |base: &_| segment_path(dir, SegmentId::appended(*base), SegmentFile::Log);
    let segments = partition.unsynced.iter().map(path);
    let mark = is_fresh.then(|| dir.join(PARTITION_METADATA));
    let names = partition.has_unsynced_names || is_fresh;
    let names = names.then(|| Unsynced::Dir(dir.clone()));
    let files = segments.chain(mark).map(Unsynced::File);
    files.chain(names).collect()
}

/// Nothing has made the directory durable, nor what says whose it is.
fn has_fresh_dir<R: Runtime>(partition: &RecoveringPartition<R>) -> bool {
    partition.is_fresh && partition.is_touched() && partition.found_dir == FoundDir::Marked
}

async fn sync<R: Runtime>(rt: &R, unsynced: Unsynced) -> io::Result<()> {
    match unsynced {
        Unsynced::File(path) => rt.open(&path, OpenMode::BUFFERED).await?.sync().await,
        Unsynced::Dir(path) => rt.sync_dir(&path).await,
    }
}
