//! What a checkpoint says: for each partition of a shard where it stood at one moment.
//!
//! ```text
//! version u16, journal start (64 bytes, its own encoding), count u32, then per partition, big-endian:
//!     length u32, then its snapshot
//! ```
//!
//! The moments need not be one: each partition's snapshot is as of its own end, and recovery replays
//! from exactly there. The journal start comes before everything that any of them lacks.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::{Buf, BufMut, TryGetError};

use crate::log::journal::JournalStart;
use crate::log::partition::snapshot::{Snapshot, SnapshotError};

const VERSION: u16 = 3;

/// Why bytes are not a checkpoint's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The bytes end too early.
    #[error("checkpoint is cut short")]
    Truncated,
    /// Written by another build.
    #[error("checkpoint has version {0}, only {VERSION} is known")]
    Version(u16),
    /// The checksum holds and the content makes no sense.
    #[error("checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// A partition's part makes no sense.
    #[error("checkpoint: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl From<TryGetError> for ContentError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// One shard's checkpoint.
#[derive(Clone, Debug)]
pub struct Content {
    /// The first journal write that is needed beyond it.
    pub journal_start: JournalStart,
    /// Its partitions.
    pub partitions: Vec<Snapshot>,
}

impl Content {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + 256 * self.partitions.len());
        out.put_u16(VERSION);
        out.put_slice(&self.journal_start.encode());
        out.put_u32(self.partitions.len() as u32);
        let mut snapshot = Vec::new();
        for partition in &self.partitions {
            snapshot.clear();
            partition.encode(&mut snapshot);
            out.put_u32(snapshot.len() as u32);
            out.put_slice(&snapshot);
        }
        out
    }

    /// Reads what [`Content::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ContentError> {
        let version = bytes.try_get_u16()?;
        if version != VERSION {
            return Err(ContentError::Version(version));
        }
        let (start, mut rest) = bytes
            .split_at_checked(JournalStart::BYTES)
            .ok_or(ContentError::Truncated)?;
        let journal_start =
            JournalStart::decode(start).ok_or(ContentError::Malformed("journal start"))?;
        let count = rest.try_get_u32()?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let length = rest.try_get_u32()? as usize;
            let (snapshot, after) = rest
                .split_at_checked(length)
                .ok_or(ContentError::Truncated)?;
            partitions.push(Snapshot::decode(snapshot)?);
            rest = after;
        }
        match rest.is_empty() {
            true => Ok(Self {
                journal_start,
                partitions,
            }),
            false => Err(ContentError::Malformed("bytes behind the end")),
        }
    }
}
