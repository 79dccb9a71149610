//! Fetch from one partition.

use super::{EpochError, Isolation, Partition};
use crate::log::{ReadAsk, ReadError};
use crate::model::{LeaderEpoch, Offset};
use crate::rt::{Buf, Runtime};

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
    pub records: Vec<Buf>,
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
}
