//! The journals of the run that was, where they are and how long, and those of the run that begins.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::files::run::{Run, RunId};
use crate::log::journal::{Journal, JournalOptions};
use crate::log::options::{JOURNAL_DIR, shard_dir};
use crate::model::ShardIndex;
use crate::rt::Runtime;

use super::error::RecoveryError;

/// Where journals are kept that hold what nothing else does: next to the one of the present run.
pub fn kept_name(run: RunId) -> String {
    format!("{JOURNAL_DIR}.run-{}", run.number)
}

/// Where a shard's journal of `run` is: a start that was interrupted may have put it aside.
pub async fn journal_dir<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    shard: ShardIndex,
    run: RunId,
) -> io::Result<PathBuf> {
    let dir = shard_dir(data_dir, shard);
    let kept = kept_name(run);
    let is_kept = rt
        .read_dir(&dir)
        .await?
        .iter()
        .any(|entry| entry.name == kept);
    Ok(match is_kept {
        true => dir.join(kept),
        false => dir.join(JOURNAL_DIR),
    })
}

/// Puts all journals of `run` aside, so that the next one does not write over them. Comes before
/// the next run is committed: until then they are what recovery reads.
pub async fn keep_journals<R: Runtime>(rt: &R, data_dir: &Path, run: Run) -> io::Result<()> {
    for shard in (0..run.shards).map(ShardIndex) {
        let kept = shard_dir(data_dir, shard).join(kept_name(run.id));
        let dir = journal_dir(rt, data_dir, shard, run.id).await?;
        if dir != kept {
            rt.rename(&dir, &kept).await?;
            rt.sync_dir(&shard_dir(data_dir, shard)).await?;
        }
    }
    Ok(())
}

/// Makes a shard's journal files, where they are not there from before.
pub async fn make_journal<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    shard: ShardIndex,
    options: &JournalOptions,
) -> Result<(), RecoveryError> {
    let dir = shard_dir(data_dir, shard).join(JOURNAL_DIR);
    let made = Journal::<R, ()>::make_files(rt, &dir, options).await;
    made.map_err(|error| RecoveryError::JournalFiles(error.to_string()))
}
