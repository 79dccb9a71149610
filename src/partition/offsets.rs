//! Which offset a time, a mark or an epoch stands for.

use super::{Isolation, Partition};
use crate::log::ReadError;
use crate::model::{LeaderEpoch, Offset};
use crate::rt::Runtime;

/// What ListOffsets asks for, by Kafka's negative timestamps or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAsk {
    /// −1: where the next record that may be read will be.
    Latest,
    /// −2: the first record.
    Earliest,
    /// −3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// −4: the first record on local disk (KIP-405); here every record is.
    EarliestLocal,
    /// −5: the last record in remote storage (KIP-1005); here there is none.
    LatestTiered,
    /// The first record of this time (Unix milliseconds) or later.
    Time(i64),
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// The record's timestamp, −1 where the ask was not for one.
    pub timestamp_ms: i64,
    /// The offset, −1 where there is none.
    pub offset: Offset,
    /// Epoch of that offset, −1 where unknown.
    pub leader_epoch: LeaderEpoch,
}

impl OffsetFound {
    const NOTHING: Self = Self {
        timestamp_ms: -1,
        offset: Offset(-1),
        leader_epoch: LeaderEpoch::NONE,
    };
}

/// Client and broker believe in different leader epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// FENCED_LEADER_EPOCH: the client's is older.
    #[error("the leader epoch of the request is older than the partition's")]
    Fenced,
    /// UNKNOWN_LEADER_EPOCH: the client's is newer.
    #[error("the leader epoch of the request is newer than the partition's")]
    Unknown,
}

impl<R: Runtime> Partition<R> {
    /// Compares the client's idea of the current leader epoch with ours; −1 is no idea.
    pub fn check_epoch(&self, claimed: LeaderEpoch) -> Result<(), EpochError> {
        let current = self.leader_epoch();
        if claimed == LeaderEpoch::NONE || claimed == current {
            Ok(())
        } else if claimed < current {
            Err(EpochError::Fenced)
        } else {
            Err(EpochError::Unknown)
        }
    }

    /// ListOffsets. Nothing is ever found at or beyond what the isolation level lets be seen: not by
    /// time either.
    pub async fn find_offset(
        &self,
        ask: OffsetAsk,
        isolation: Isolation,
    ) -> Result<OffsetFound, ReadError> {
        let log = self.log();
        let of_mark = |offset, leader_epoch| OffsetFound {
            timestamp_ms: -1,
            offset,
            leader_epoch,
        };
        let of_record = |(timestamp_ms, offset, leader_epoch)| OffsetFound {
            timestamp_ms,
            offset,
            leader_epoch,
        };
        let marks = self.watermarks();
        let end = marks.end_for(isolation);
        let found = match ask {
            OffsetAsk::Latest => of_mark(end, self.leader_epoch()),
            OffsetAsk::Earliest | OffsetAsk::EarliestLocal => {
                of_mark(marks.log_start, log.epoch_at(marks.log_start))
            }
            OffsetAsk::LatestTiered => OffsetFound::NOTHING,
            OffsetAsk::MaxTimestamp => log
                .max_timestamp()
                .await?
                .filter(|(_, offset, _)| *offset < end)
                .map_or(OffsetFound::NOTHING, of_record),
            OffsetAsk::Time(at_ms) => log
                .offset_for_timestamp(at_ms, end)
                .await?
                .map_or(OffsetFound::NOTHING, of_record),
        };
        Ok(found)
    }
}
