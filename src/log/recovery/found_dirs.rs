//! The directories of partitions that a start finds, and those of them that the metadata does not account
//! for. A topic is in the metadata before it has a directory, and leaves it after its directories were
//! renamed: so there are none of these, unless metadata was lost, or somebody put them there. Starting would
//! remove them, or reuse their names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::error::RecoveryError;
use super::partition::{ListedDir, PARTITIONS_AT_A_TIME};
use crate::log::error::StorageError;
use crate::log::files::partition_dirs::{take_off_name, topic_of};
use crate::log::files::partition_files::{
    PartitionDir, SegmentFile, is_shard_dir, partition_dir, segment_path,
};
use crate::log::options::KnownPartition;
use crate::model::TopicId;
use crate::rt::{File, OpenMode, Runtime};

/// The directories in a data directory that have names of partitions, and whose they are: each is looked
/// into once at a start.
pub struct FoundDirs<R: Runtime> {
    pub(super) rt: R,
    pub(super) data_dir: PathBuf,
    marks: BTreeMap<String, Option<TopicId>>,
}

impl<R: Runtime> FoundDirs<R> {
    /// Lists a data directory, which nobody else uses. Changes nothing.
    pub async fn read(rt: &R, data_dir: &Path) -> Result<Self, RecoveryError> {
        let is_live = |name: &str| {
            let parsed = PartitionDir::parse(name);
            matches!(parsed, Some(PartitionDir::Live { .. })) && !is_shard_dir(name)
        };
        let entries = rt.read_dir(data_dir).await?.into_iter();
        let looks = entries
            .filter(|entry| entry.is_dir && is_live(&entry.name))
            .map(|entry| async move {
                let mark = topic_of(rt, &data_dir.join(&entry.name)).await;
                mark.map(|mark| (entry.name, mark))
            });
        let looks = stream::iter(looks).buffer_unordered(PARTITIONS_AT_A_TIME);
        Ok(Self {
            rt: rt.clone(),
            data_dir: data_dir.to_owned(),
            marks: looks.try_collect().await?,
        })
    }

    /// Refuses a data directory with partitions of topics that are neither known nor `leaving` (deleted,
    /// their directories perhaps not renamed yet). Changes nothing.
    ///
    /// A directory that does not say whose it is belongs to whom it is named after: power was lost before
    /// that was durable. An example: a record is produced to `t`, whose directory `t-0` is made, and `t` is
    /// deleted at once; the power goes when the metadata says so, and `t-0` has a segment and an empty
    /// `partition.metadata`.
    pub async fn refuse_unknown(
        &self,
        known: &[KnownPartition],
        leaving: &[KnownPartition],
    ) -> Result<(), RecoveryError> {
        let owners: BTreeMap<String, TopicId> = known
            .iter()
            .chain(leaving)
            .map(|known| (partition_dir(&known.topic, known.id.index), known.id.topic))
            .collect();
        for (name, mark) in &self.marks {
            let path = self.data_dir.join(name);
            let owner = owners.get(name);
            let is_unknown = match mark {
                Some(topic) => owner != Some(topic),
                None => owner.is_none() && has_segment(&self.rt, &path).await?,
            };
            if is_unknown {
                return Err(RecoveryError::UnknownDir { path });
            }
        }
        Ok(())
    }

    /// Takes directories of partitions that are leaving off their names where they do not say whose they are:
    /// once their topic has left, nobody would know.
    pub async fn put_aside_unmarked(
        &mut self,
        leaving: &[KnownPartition],
    ) -> Result<(), RecoveryError> {
        for KnownPartition { id, topic, .. } in leaving {
            let name = partition_dir(topic, id.index);
            if self.marks.get(&name) == Some(&None) {
                take_off_name(&self.rt, &self.data_dir, topic, id.index, id.topic).await?;
                self.marks.remove(&name);
            }
        }
        Ok(())
    }

    /// Takes directories of topics that are no more off their names.
    pub async fn put_aside_unknown(
        &mut self,
        known: &[KnownPartition],
    ) -> Result<(), StorageError> {
        let names: BTreeSet<String> = known
            .iter()
            .map(|known| partition_dir(&known.topic, known.id.index))
            .collect();
        let marks = self.marks.iter();
        for (name, mark) in marks.filter(|(name, _)| !names.contains(*name)) {
            if let Some(PartitionDir::Live { topic, index }) = PartitionDir::parse(name)
                && let Some(owner) = *mark
            {
                take_off_name(&self.rt, &self.data_dir, topic, index, owner).await?;
            }
        }
        self.marks.retain(|name, _| names.contains(name));
        Ok(())
    }

    /// What is listed for a partition.
    pub fn listed(&self, known: &KnownPartition) -> ListedDir {
        let name = partition_dir(&known.topic, known.id.index);
        match self.marks.get(&name) {
            None => ListedDir::Nothing,
            Some(None) => ListedDir::Unmarked,
            Some(Some(topic)) => ListedDir::Of(*topic),
        }
    }
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
