//! What a recovery begins from: the checkpoints of the committed run.

use std::collections::BTreeMap;
use std::path::Path;

use super::RecoveryError;
use crate::log::checkpoint::CheckpointSlots;
use crate::log::checkpoint::content::{Content, PartitionContent};
use crate::log::options::KnownPartition;
use crate::log::run::RunId;
use crate::model::PartitionId;
use crate::rt::Runtime;

/// What a checkpoint says of any topic of that name.
pub fn take_namesake(
    contents: &mut BTreeMap<PartitionId, PartitionContent>,
    known: &KnownPartition,
) -> Option<PartitionContent> {
    let is_namesake = |(id, content): &(&PartitionId, &PartitionContent)| {
        (&content.topic, id.index) == (&known.topic, known.id.index)
    };
    let id = contents.iter().find(is_namesake).map(|(id, _)| *id)?;
    let content = contents.remove(&id)?;
    Some(PartitionContent {
        id: known.id,
        ..content
    })
}

/// What the newest whole checkpoint of a run says of one shard.
pub async fn load_checkpoint<R: Runtime>(
    rt: &R,
    dir: &Path,
    run: RunId,
) -> Result<Content, RecoveryError> {
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
    Content::decode(&checkpoint.content).map_err(|error| failed(error.to_string()))
}
