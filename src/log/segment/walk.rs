//! Batch after batch through a segment file, in direct reads of bounded size.

use std::io;
use std::time::Duration;

use crate::log::segment::position::{block_ceil, block_floor};
use crate::model::batch::{BatchError, BatchView, HEADER_BYTES};
use crate::model::{LeaderEpoch, Offset};
use crate::rt::{BLOCK_BYTES, Buf, BufMut, File, Runtime};

/// Why a walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No batch where one should be.
    #[error("at byte {position}: {error}")]
    Break {
        /// Where.
        position: u64,
        /// Why it is none.
        error: BatchError,
    },
    /// A batch that does not go on where the one before ends.
    #[error("at byte {position}: record batch has base offset {found}, {expected} is next")]
    Offset {
        /// Where.
        position: u64,
        /// Its base offset.
        found: Offset,
        /// What the log's count of offsets is there.
        expected: Offset,
    },
    /// A batch of another leader epoch than the log knows there.
    #[error("at byte {position}: record batch has leader epoch {found}, not {expected}")]
    Epoch {
        /// Where.
        position: u64,
        /// Its leader epoch.
        found: LeaderEpoch,
        /// The log's.
        expected: LeaderEpoch,
    },
    /// All batches were walked, and some are missing.
    #[error("at byte {position}: batches end before offset {expected}")]
    Short {
        /// Where the last one ends.
        position: u64,
        /// Where they should end.
        expected: Offset,
    },
}

impl WalkError {
    /// Where what is wrong begins; unknown when reading failed.
    pub fn position(&self) -> Option<u64> {
        match self {
            Self::Io(_) => None,
            Self::Break { position, .. }
            | Self::Offset { position, .. }
            | Self::Epoch { position, .. }
            | Self::Short { position, .. } => Some(*position),
        }
    }
}

/// A walk through a segment file up to a byte.
pub struct SegmentWalk<R: Runtime> {
    rt: R,
    file: R::File,
    /// Where the next batch begins.
    at: u64,
    limit: u64,
    read_bytes: usize,
    verifies: bool,
    /// Base offset of the next batch, where it is known; with gaps, it is not below.
    next_offset: Option<Offset>,
    /// There may be gaps between batches, and no batch reaches beyond this.
    gaps_to: Option<Offset>,
    held: Option<(u64, Buf)>,
}

impl<R: Runtime> SegmentWalk<R> {
    /// From `at`, where a batch begins, to `limit`, reading about `read_bytes` at a time.
    pub fn new(rt: R, file: R::File, at: u64, limit: u64, read_bytes: usize) -> Self {
        Self {
            rt,
            file,
            at,
            limit,
            read_bytes: read_bytes.max(BLOCK_BYTES).next_multiple_of(BLOCK_BYTES),
            verifies: false,
            next_offset: None,
            gaps_to: None,
            held: None,
        }
    }

    /// Checks the CRC of every batch from here on, and its base offset where that is known.
    pub fn verify(&mut self) {
        self.verifies = true;
    }

    /// The segment, which ends at `end`, is not dense.
    pub fn allow_gaps(&mut self, end: Offset) {
        self.gaps_to = Some(end);
    }

    /// Tells the base offset of the next batch, or one below where there may be gaps; from here on the
    /// walk counts.
    pub fn count_from(&mut self, next_offset: Offset) {
        self.next_offset = Some(next_offset);
    }

    /// Base offset of the next batch by count, where the walk counts; with gaps, it is not below.
    pub fn next_offset(&self) -> Option<Offset> {
        self.next_offset
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Stays before the batch that was given out last, which began at `position` with `base` by
    /// count.
    pub fn step_back(&mut self, position: u64, base: Offset) {
        self.at = position;
        self.next_offset = Some(base);
    }

    /// The next whole batch and where it begins; none at the limit.
    pub async fn next(&mut self) -> Result<Option<(u64, Buf)>, WalkError> {
        if self.at >= self.limit {
            return Ok(None);
        }
        let header = self.hold(HEADER_BYTES as u64).await?;
        let Some(length) = claimed_bytes(&header) else {
            return Err(self.broken(BatchError::Truncated));
        };
        let length = length.map_err(|error| self.broken(error))?;
        if length > self.limit - self.at {
            return Err(self.broken(BatchError::Truncated));
        }
        let batch = self.hold(length).await?;
        let checked = match self.verifies {
            true => BatchView::first_verified(&batch),
            false => BatchView::first(&batch),
        };
        let view = checked.map_err(|error| self.broken(error))?;
        self.count(&view)?;
        let position = self.at;
        self.at += length;
        Ok(Some((position, batch)))
    }

    /// A batch's base offset lies outside its CRC. What holds it is that the log has no gaps: each
    /// batch begins where the one before ends. Batches that are only passed go by that count, too,
    /// so that a damaged one does not hide those behind it.
    ///
    /// Where there may be gaps, a batch says itself where it begins: not before the one before ends, and
    /// not so late that it would reach beyond the segment. Behind a batch that ends before 40, in a
    /// segment that ends at 100, one of five records may begin at 40 to 95.
    fn count(&mut self, batch: &BatchView<'_>) -> Result<(), WalkError> {
        let Some(expected) = self.next_offset else {
            return Ok(());
        };
        let found = batch.base_offset();
        let is_right = match self.gaps_to {
            Some(end) => found >= expected && batch.end_offset() <= end,
            None => found == expected,
        };
        if self.verifies && !is_right {
            return Err(WalkError::Offset {
                position: self.at,
                found,
                expected,
            });
        }
        let begins = if is_right { found } else { expected };
        self.next_offset = Some(begins.plus(i64::from(batch.last_offset_delta()) + 1));
        Ok(())
    }

    fn broken(&self, error: BatchError) -> WalkError {
        WalkError::Break {
            position: self.at,
            error,
        }
    }

    /// Bytes from `self.at` on, fewer at the end of the file.
    async fn hold(&mut self, bytes: u64) -> io::Result<Buf> {
        if let Some(held) = self.held_share(bytes) {
            return Ok(held);
        }
        let start = block_floor(self.at);
        let wanted = (start + self.read_bytes as u64).max(self.at + bytes);
        let end = block_ceil(wanted.min(self.limit).max(self.at + 1));
        let len = (end - start) as usize;
        let buf = alloc(&self.rt, len).await?;
        let (read, buf) = self.file.read_at(buf, start, len).await;
        read?;
        self.held = Some((start, buf.freeze()));
        let (start, held) = match &self.held {
            Some((start, held)) => (*start, held),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let from = ((self.at - start) as usize).min(held.len());
        let to = (from + bytes as usize).min(held.len());
        Ok(held.slice(from..to))
    }

    fn held_share(&self, bytes: u64) -> Option<Buf> {
        let (start, held) = self.held.as_ref()?;
        let from = usize::try_from(self.at.checked_sub(*start)?).ok()?;
        let to = from.checked_add(usize::try_from(bytes).ok()?)?;
        (to <= held.len()).then(|| held.slice(from..to))
    }
}

/// The length that a header claims; none when not even that is there.
fn claimed_bytes(header: &[u8]) -> Option<Result<u64, BatchError>> {
    const LENGTH_ENDS: u64 = 12;
    let length = i32::from_be_bytes(header.get(8..12)?.try_into().ok()?);
    Some(match u64::try_from(length) {
        Ok(after) if after + LENGTH_ENDS >= HEADER_BYTES as u64 => Ok(after + LENGTH_ENDS),
        _ => Err(BatchError::Length(length)),
    })
}

/// A buffer from the arena, waiting a while for others to give theirs back.
pub async fn alloc<R: Runtime>(rt: &R, bytes: usize) -> io::Result<BufMut> {
    const RETRY: Duration = Duration::from_millis(1);
    const RETRIES: usize = 5_000;
    for _ in 0..RETRIES {
        match rt.arena().alloc(bytes) {
            Ok(buf) => return Ok(buf),
            Err(_) => rt.sleep(RETRY).await,
        }
    }
    rt.arena().alloc(bytes).map_err(io::Error::other)
}
