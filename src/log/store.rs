//! All partitions' logs of one shard, and what they share.

use std::rc::Rc;

use crate::log::error::StorageError;
use crate::log::options::{LogConfig, LogOptions, PartitionSpec};
use crate::log::partition::PartitionLog;
use crate::log::recovery::RecoveredPartition;
use crate::log::run::RunId;
use crate::model::PartitionId;
use crate::rt::Runtime;

/// The logs of one shard. Clones are the same. Lives on its shard.
pub struct ShardLog<R: Runtime>(Rc<Shard<R>>);

impl<R: Runtime> Clone for ShardLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shard<R: Runtime> {
    rt: R,
}

fn not_built() -> StorageError {
    StorageError::Io("not built yet".into())
}

impl<R: Runtime> ShardLog<R> {
    /// Opens the shard's log in a run that [`super::recover`] has committed, with the partitions
    /// it returned for this shard. `config_of` gives each one's topic values.
    pub async fn open(
        rt: R,
        _options: LogOptions,
        _run: RunId,
        _recovered: Vec<RecoveredPartition>,
        _config_of: impl Fn(PartitionId) -> Rc<LogConfig>,
    ) -> Result<Self, StorageError> {
        let _ = Self(Rc::new(Shard { rt }));
        Err(not_built())
    }

    /// Creates a partition; its directory is durable when it returns.
    pub async fn create_partition(
        &self,
        _spec: PartitionSpec,
    ) -> Result<PartitionLog<R>, StorageError> {
        let _ = &self.0.rt;
        Err(not_built())
    }

    /// The log of a partition that this shard owns.
    pub fn partition(&self, _id: PartitionId) -> Option<PartitionLog<R>> {
        None
    }

    /// All of the shard's partitions.
    pub fn partitions(&self) -> Vec<PartitionLog<R>> {
        Vec::new()
    }

    /// Deletes a partition: its directory has been renamed, durably, when this returns, and its
    /// name is free; files are removed after `file.delete.delay.ms`.
    pub async fn delete_partition(&self, _id: PartitionId) -> Result<(), StorageError> {
        Err(not_built())
    }

    /// Why the log directory is offline, if it is.
    pub fn is_offline(&self) -> Option<String> {
        None
    }

    /// Takes the log directory offline: another shard's write has failed.
    pub fn take_offline(&self, _reason: &str) {}

    /// A clean stop: moves everything to segments, writes a last checkpoint, and says in the journal
    /// that nothing is missing.
    pub async fn close(&self) -> Result<(), StorageError> {
        Err(not_built())
    }
}
