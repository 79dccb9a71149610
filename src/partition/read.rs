//! What those who read ask of one partition: records, and which offset a time, a mark or an epoch stands
//! for.

use super::{Isolation, Partition};
use crate::log::journal::Pieces;
use crate::log::{ReadAsk, ReadError};
use crate::model::{LeaderEpoch, Offset};
use crate::rt::Runtime;

/// What a consumer asks of one partition.
#[derive(Clone, Copy, Debug)]
pub struct FetchAsk {
    /// First offset wanted.
    pub offset: Offset,
    /// At most this many bytes.
    pub max_bytes: usize,
    /// Whether the first batch comes whole even beyond `max_bytes` (KIP-74).
    pub whole_first: bool,
    /// How far the consumer may see.
    pub isolation: Isolation,
    /// The leader epoch that the client believes in.
    pub current_leader_epoch: LeaderEpoch,
    /// Epoch of the last record that the client has.
    pub last_fetched_epoch: LeaderEpoch,
}

/// What a consumer gets of one partition.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Whole batches; the first may begin before the offset asked for.
    pub records: Pieces,
    /// Their length.
    pub bytes: usize,
    /// The high watermark when they were read.
    pub high_watermark: Offset,
    /// The last stable offset then.
    pub last_stable: Offset,
    /// The log start offset then.
    pub log_start: Offset,
    /// Where the client's log parts from this one, if it does; then there are no records.
    pub diverging: Option<Diverging>,
}

/// The last epoch that client and broker share (KIP-320, KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverging {
    /// The largest epoch here that is not above the client's.
    pub epoch: LeaderEpoch,
    /// Where it ends.
    pub end_offset: Offset,
}

/// Why nothing can be fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Client and broker believe in different leaders.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The log cannot give it.
    #[error(transparent)]
    Read(#[from] ReadError),
}

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
    /// Whether there may be something to read from an offset on.
    pub fn has_more(&self, offset: Offset, isolation: Isolation) -> bool {
        offset < self.watermarks().end_for(isolation)
    }

    /// Reads whole batches below the mark that the isolation level sets. Beyond it, but not beyond
    /// the log end, there is nothing to read yet and no error.
    pub async fn fetch(&self, ask: FetchAsk) -> Result<Fetched, FetchError> {
        self.check_leads().map_err(ReadError::Storage)?;
        self.check_epoch(ask.current_leader_epoch)?;
        let marks = self.watermarks();
        let end = marks.end_for(ask.isolation);
        let mut fetched = Fetched {
            high_watermark: marks.high_watermark,
            last_stable: marks.last_stable,
            log_start: marks.log_start,
            diverging: self.diverging(ask),
            ..Fetched::default()
        };
        if fetched.diverging.is_some() {
            return Ok(fetched);
        }
        if ask.offset < marks.log_start || ask.offset > marks.log_end {
            return Err(ReadError::OutOfRange.into());
        }
        // Most of the partitions that a consumer asks for have nothing new, and a full response has
        // room for nothing.
        if ask.offset >= end || (ask.max_bytes == 0 && !ask.whole_first) {
            return Ok(fetched);
        }
        let read = self.log().read(ReadAsk {
            from: ask.offset,
            end,
            max_bytes: ask.max_bytes,
            whole_first: ask.whole_first,
        });
        let read = read.await?;
        (fetched.records, fetched.bytes) = (read.pieces, read.bytes);
        Ok(fetched)
    }

    fn diverging(&self, ask: FetchAsk) -> Option<Diverging> {
        if ask.last_fetched_epoch == LeaderEpoch::NONE {
            return None;
        }
        let (epoch, end_offset) = self.log().epoch_end_offset(ask.last_fetched_epoch);
        let agrees = epoch == ask.last_fetched_epoch && end_offset >= ask.offset;
        (!agrees).then_some(Diverging { epoch, end_offset })
    }

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
