//! Directories that the metadata does not account for. A topic is in the metadata before it has a
//! directory, and leaves it after its directories were renamed: so there are none, unless metadata
//! was lost, or somebody put them there. Starting would remove them, or reuse their names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::error::RecoveryError;
use super::partition::PARTITIONS_AT_A_TIME;
use crate::log::files::partition_dirs::{take_off_name, topic_of};
use crate::log::files::partition_files::{
    PartitionDir, SegmentFile, is_shard_dir, partition_dir, segment_path,
};
use crate::log::options::KnownPartition;
use crate::model::TopicId;
use crate::rt::{File, OpenMode, Runtime};

/// Refuses a data directory with partitions of topics that are neither known nor `leaving` (deleted,
/// their directories perhaps not renamed yet). Changes nothing.
///
/// A directory that does not say whose it is belongs to whom it is named after: power was lost before
/// that was durable. An example: a record is produced to `t`, whose directory `t-0` is made, and `t` is
/// deleted at once; the power goes when the metadata says so, and `t-0` has a segment and an empty
/// `partition.metadata`.
pub async fn refuse_unknown_dirs<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    known: &[KnownPartition],
    leaving: &[KnownPartition],
) -> Result<(), RecoveryError> {
    let owners: &BTreeMap<String, TopicId> = &known
        .iter()
        .chain(leaving)
        .map(|known| (partition_dir(&known.topic, known.id.index), known.id.topic))
        .collect();
    let is_live = |name: &str| {
        let parsed = PartitionDir::parse(name);
        matches!(parsed, Some(PartitionDir::Live { .. })) && !is_shard_dir(name)
    };
    let entries = rt.read_dir(data_dir).await?.into_iter();
    let looks = entries
        .filter(|entry| entry.is_dir && is_live(&entry.name))
        .map(|entry| async move {
            let path = data_dir.join(&entry.name);
            let owner = owners.get(&entry.name);
            let is_unknown = match topic_of(rt, &path).await? {
                Some(topic) => owner != Some(&topic),
                None => owner.is_none() && has_segment(rt, &path).await?,
            };
            match is_unknown {
                true => Err(RecoveryError::UnknownDir { path }),
                false => Ok(()),
            }
        });
    let looks = stream::iter(looks).buffer_unordered(PARTITIONS_AT_A_TIME);
    looks.try_collect().await
}

/// Takes directories of partitions that are leaving off their names where they do not say whose they are:
/// once their topic has left, nobody would know.
pub async fn put_aside_unmarked<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    leaving: &[KnownPartition],
) -> Result<(), RecoveryError> {
    let entries = rt.read_dir(data_dir).await?.into_iter();
    let dirs = entries.filter(|entry| entry.is_dir);
    let names: BTreeSet<String> = dirs.map(|entry| entry.name).collect();
    for KnownPartition { id, topic, .. } in leaving {
        let name = partition_dir(topic, id.index);
        if names.contains(&name) && topic_of(rt, &data_dir.join(name)).await?.is_none() {
            take_off_name(rt, data_dir, topic, id.index, id.topic).await?;
        }
    }
    Ok(())
}

/// Whether there is a segment with anything in it. What the broker had begun to create has none.
async fn has_segment<R: Runtime>(rt: &R, dir: &Path) -> io::Result<bool> {
    for entry in rt.read_dir(dir).await? {
        let Some((id, SegmentFile::Log)) = SegmentFile::parse(&entry.name) else {
            continue;
        };
        let path: PathBuf = segment_path(dir, id, SegmentFile::Log);
        if rt.open(&path, OpenMode::BUFFERED).await?.size()? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
