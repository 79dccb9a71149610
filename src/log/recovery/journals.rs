//! The journals of the run that begins.

use std::path::Path;

use crate::log::journal::{Journal, JournalOptions};
use crate::log::options::{JOURNAL_DIR, shard_dir};
use crate::model::ShardIndex;
use crate::rt::Runtime;

use super::RecoveryError;

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
