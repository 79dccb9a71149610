//! Directories that the metadata does not account for. A topic is in the metadata before it has a
//! directory, and leaves it after its directories were renamed: so there are none, unless metadata
//! was lost, or somebody put them there. Starting would remove them, or reuse their names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::RecoveryError;
use crate::log::options::KnownPartition;
use crate::log::partition_dirs::topic_of;
use crate::log::partition_files::{
    PartitionDir, SegmentFile, is_shard_dir, partition_dir, segment_path,
};
use crate::model::TopicId;
use crate::rt::{File, OpenMode, Runtime};

/// Refuses a data directory with partitions of topics that are neither known nor `leaving` (deleted,
/// their directories perhaps not renamed yet). Changes nothing.
pub async fn refuse_strangers<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    known: &[KnownPartition],
    leaving: &BTreeSet<TopicId>,
) -> Result<(), RecoveryError> {
    let owners: BTreeMap<String, TopicId> = known
        .iter()
        .map(|known| (partition_dir(&known.topic, known.id.index), known.id.topic))
        .collect();
    for entry in rt.read_dir(data_dir).await? {
        let is_live = matches!(
            PartitionDir::parse(&entry.name),
            Some(PartitionDir::Live { .. })
        );
        if !entry.is_dir || !is_live || is_shard_dir(&entry.name) {
            continue;
        }
        let path = data_dir.join(&entry.name);
        let owner = owners.get(&entry.name);
        let is_stranger = match topic_of(rt, &path).await? {
            Some(topic) => owner != Some(&topic) && !leaving.contains(&topic),
            None => owner.is_none() && has_segment(rt, &path).await?,
        };
        if is_stranger {
            return Err(RecoveryError::Stranger { path });
        }
    }
    Ok(())
}

/// Whether there is a segment with anything in it. What the broker had begun to create has none.
async fn has_segment<R: Runtime>(rt: &R, dir: &Path) -> io::Result<bool> {
    for entry in rt.read_dir(dir).await? {
        let Some((base, SegmentFile::Log)) = SegmentFile::parse(&entry.name) else {
            continue;
        };
        let path: PathBuf = segment_path(dir, base, SegmentFile::Log);
        if rt.open(&path, OpenMode::BUFFERED).await?.size()? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
