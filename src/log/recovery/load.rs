//! What a recovery begins from: the checkpoints of the committed run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RecoveryError;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::run::RunId;
use crate::log::journal::JournalStart;
use crate::log::options::{KnownPartition, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::snapshot::Snapshot;
use crate::model::{PartitionId, ShardIndex};
use crate::rt::Runtime;

/// What a checkpoint says of any topic of that name.
pub fn take_namesake(
    contents: &mut BTreeMap<PartitionId, Snapshot>,
    known: &KnownPartition,
) -> Option<Snapshot> {
    let is_namesake = |(id, snapshot): &(&PartitionId, &Snapshot)| {
        (snapshot.topic(), id.index) == (known.topic.as_str(), known.id.index)
    };
    let id = contents.iter().find(is_namesake).map(|(id, _)| *id)?;
    Some(contents.remove(&id)?.renamed(known.id))
}

/// Where a shard's journal is read from.
#[derive(Clone)]
pub struct CommittedJournal {
    /// Whose journal.
    pub shard: ShardIndex,
    /// Where its replay begins.
    pub start: JournalStart,
    /// A checkpoint that is not whole: it may have been the newest one.
    pub damaged: Option<PathBuf>,
}

/// What the newest whole checkpoint of a run says of one shard.
pub async fn load_checkpoint<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    shard: ShardIndex,
    run: RunId,
) -> Result<(CommittedJournal, Vec<Snapshot>), RecoveryError> {
    let dir = &shard_dir(data_dir, shard);
    let failed = |reason: String| RecoveryError::Checkpoint {
        dir: dir.to_owned(),
        run,
        reason,
    };
    let slots = CheckpointSlots::open(rt, dir)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let found = slots
        .load(run)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let checkpoint = found.ok_or_else(|| failed("both slots are damaged or missing".into()))?;
    let content =
        Content::decode(&checkpoint.content).map_err(|error| failed(error.to_string()))?;
    let journaled = CommittedJournal {
        shard,
        start: content.journal_start,
        damaged: slots.damaged().map(Path::to_owned),
    };
    Ok((journaled, content.partitions))
}
