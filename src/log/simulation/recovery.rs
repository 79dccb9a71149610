//! A whole recovery on one runtime, as a node does it with a thread for each shard.

use std::path::Path;

use futures_util::future::try_join_all;

use crate::log::files::run::RunId;
use crate::log::options::{KnownPartition, RecoveryOptions};
use crate::log::recovery::{
    FoundDirs, LastTimes, RecoveredPartition, Recovery, RecoveryError, RecoveryReport,
    ShardRecovery,
};
use crate::rt::Runtime;

/// What was recovered.
#[derive(Debug)]
pub struct RecoveredShards {
    pub run: RunId,
    pub clean: bool,
    pub last_times: LastTimes,
    pub report: RecoveryReport,
    /// Each shard's partitions.
    pub shards: Vec<Vec<RecoveredPartition>>,
}

/// Recovers a data directory: each step of all shards at the same time.
///
/// # Errors
/// Those of the first shard that fails.
pub async fn recover<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    options: RecoveryOptions,
    partitions: &[KnownPartition],
) -> Result<RecoveredShards, RecoveryError> {
    let dirs = FoundDirs::read(rt, data_dir).await?;
    let (mut recovery, parts) = Recovery::prepare(dirs, options, partitions).await?;
    let replays = parts.into_iter();
    let replays = replays.map(|part| ShardRecovery::replay(rt.clone(), part));
    let (mut shards, reports): (Vec<_>, Vec<_>) = try_join_all(replays).await?.into_iter().unzip();
    let run = recovery.gather(reports).await?;
    let writes = shards.iter_mut().map(|shard| shard.write_checkpoint(run));
    try_join_all(writes).await?;
    let node = recovery.commit().await?;
    let ends = shards.into_iter().map(ShardRecovery::end);
    Ok(RecoveredShards {
        run: node.run,
        clean: node.clean,
        last_times: node.last_times,
        report: node.report,
        shards: try_join_all(ends).await?,
    })
}
