//! Bringing a data directory back to a state in which every acknowledged byte is in a segment.

use std::path::Path;
use std::time::Duration;

use crate::log::error::StorageError;
use crate::log::marks::Boundary;
use crate::log::options::{KnownPartition, RecoveryOptions};
use crate::log::producers::ProducerStates;
use crate::log::run::RunId;
use crate::log::segment::SegmentFacts;
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::Runtime;

/// Why a node cannot start from its data directory.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What recovery found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Bytes of journal that were replayed.
    pub journal_bytes_replayed: u64,
    /// Partitions that are usable.
    pub partitions: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// Partitions that are not, and why.
    pub offline: Vec<(PartitionId, String)>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A data directory that is ready for its shards to open.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The run that was committed.
    pub run: RunId,
    /// The last run was stopped cleanly (or there was none). Otherwise leader epochs must be raised.
    pub clean: bool,
    /// Each shard's partitions.
    pub shards: Vec<Vec<RecoveredPartition>>,
    /// What happened.
    pub report: RecoveryReport,
}

/// One partition, ready to be opened: plain data, so that it may go to its shard's thread.
#[derive(Clone, Debug)]
pub struct RecoveredPartition {
    /// Its key.
    pub id: PartitionId,
    /// Its topic's name.
    pub topic: String,
    /// The highest leader epoch seen.
    pub leader_epoch: LeaderEpoch,
    /// First offset that may be read.
    pub log_start: Offset,
    /// The log end, and where it is.
    pub end: Boundary,
    /// Segments that are complete, oldest first.
    pub sealed: Vec<SegmentFacts>,
    /// The segment that is appended to.
    pub active: SegmentFacts,
    /// Its idempotent producers.
    pub producers: ProducerStates,
    /// Why it cannot be used, if so.
    pub offline: Option<String>,
}

/// Recovers the whole data directory before any shard opens: replays the journals of the committed
/// run, makes the segments durable, writes new checkpoints, and commits a new run. Interrupted at
/// any moment, it starts again to the same result.
pub async fn recover<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    options: RecoveryOptions,
    partitions: &[KnownPartition],
) -> Result<Recovered, RecoveryError> {
    let _ = (rt, data_dir, options, partitions);
    Err(StorageError::Io("not built yet".into()).into())
}
