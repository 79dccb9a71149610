//! One partition's log, as its shard sees it.

use std::rc::Rc;

use crate::log::error::{AppendError, ReadError, StorageError};
use crate::log::marks::Marks;
use crate::log::options::LogConfig;
use crate::log::tail::ReadBatches;
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{Event, Runtime};

/// A batch that was accepted: its offsets and its order are fixed. It is safe, and may be
/// acknowledged, once [`PartitionLog::wait_durable`] of its end has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The records' timestamp, where the broker set it.
    pub log_append_time_ms: Option<i64>,
    /// The log start offset now.
    pub log_start: Offset,
    /// The batch was in the log already; these are its original offsets.
    pub duplicate: bool,
}

/// One partition's log. Clones are the same log. Lives on its shard.
pub struct PartitionLog<R: Runtime>(pub(super) Rc<Partition<R>>);

impl<R: Runtime> Clone for PartitionLog<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Partition<R: Runtime> {
    id: PartitionId,
    changed: Event,
    rt: R,
}

fn not_built() -> StorageError {
    StorageError::Io("not built yet".into())
}

impl<R: Runtime> PartitionLog<R> {
    /// Its key.
    pub fn id(&self) -> PartitionId {
        self.0.id
    }

    /// Appends `batch`, exactly one that was checked at the gateway. Waits for room (memory, space
    /// in the segment and the journal), then assigns offsets; first come, first served.
    pub async fn append(&self, _batch: &[u8], _now_ms: i64) -> Result<Appended, AppendError> {
        Err(not_built().into())
    }

    /// Where the log stands.
    pub fn marks(&self) -> Marks {
        Marks::default()
    }

    /// Completes when everything below `end_offset` is as safe as the durability level promises.
    pub async fn wait_durable(&self, _end_offset: Offset) -> Result<(), StorageError> {
        Err(not_built())
    }

    /// Notified when the durable offset or the log start moves, on errors, and on deletion.
    pub fn changed(&self) -> &Event {
        let _ = &self.0.rt;
        &self.0.changed
    }

    /// Why the partition cannot be used, if so.
    pub fn failure(&self) -> Option<StorageError> {
        Some(not_built())
    }

    /// Whole batches from the one that holds `from`, below the exclusive bound `end` (at most the
    /// durable offset) and at most `max_bytes`; with `whole_first` the first one in any case.
    ///
    /// Nothing, and no error, when `from` is `end` or beyond.
    pub async fn read(
        &self,
        _from: Offset,
        _end: Offset,
        _max_bytes: usize,
        _whole_first: bool,
    ) -> Result<ReadBatches, ReadError> {
        Err(not_built().into())
    }

    /// The first record by offset, below `end`, whose timestamp is `at_ms` or later: its
    /// timestamp, offset and leader epoch.
    pub async fn offset_for_timestamp(
        &self,
        _at_ms: i64,
        _end: Offset,
    ) -> Result<Option<(i64, Offset, LeaderEpoch)>, ReadError> {
        Err(not_built().into())
    }

    /// The first record with the largest timestamp: its timestamp, offset and leader epoch.
    pub async fn max_timestamp(&self) -> Result<Option<(i64, Offset, LeaderEpoch)>, ReadError> {
        Err(not_built().into())
    }

    /// OffsetForLeaderEpoch: the largest epoch not above `epoch`, and where it ends.
    pub fn epoch_end_offset(&self, _epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        (LeaderEpoch::NONE, Offset(-1))
    }

    /// The leader epoch under which the record at `offset` was appended, as far as known.
    pub fn epoch_at(&self, _offset: Offset) -> LeaderEpoch {
        LeaderEpoch::NONE
    }

    /// The epoch under which the partition is led now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch::NONE
    }

    /// Leads under a higher epoch from now on; durable when it returns. Lower ones change nothing.
    pub async fn raise_leader_epoch(&self, _epoch: LeaderEpoch) -> Result<(), StorageError> {
        Err(not_built())
    }

    /// Raises the log start to `before` (at most the durable offset); durable when it returns.
    /// Returns the log start then; segments wholly below it are removed behind.
    pub async fn delete_records(&self, _before: Offset) -> Result<Offset, ReadError> {
        Err(not_built().into())
    }

    /// Replaces the topic's values.
    pub fn set_config(&self, _config: Rc<LogConfig>) {}

    /// Removes whole segments that `retention.ms` and `retention.bytes` no longer keep; returns
    /// how many.
    pub async fn enforce_retention(&self, _now_ms: i64) -> Result<usize, StorageError> {
        Err(not_built())
    }

    /// Bytes of batches in the log.
    pub fn size_bytes(&self) -> u64 {
        0
    }
}
