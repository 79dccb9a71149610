//! How a journal is set up, and where its replay begins.

use std::time::Duration;

use super::Sequence;
use super::ring::Geometry;
use crate::log::files::codec::Fields;
use crate::log::files::run::RunId;
use crate::rt::{BLOCK_BYTES, WriteMode};

/// No write is longer, whatever the options say: replay reads writes whole.
pub(super) const LONGEST_WRITE_BYTES: usize = 16 << 20;

/// A journal's shape and pace.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Length of each file; rounded to hold at least four writes.
    pub file_bytes: u64,
    /// How many files form the ring.
    pub file_count: u32,
    /// Longest write, 1 MiB by default. Up to `max_in_flight` such buffers come from the arena,
    /// which must have room for them beside everything else.
    pub max_write_bytes: usize,
    /// Writes in flight.
    pub max_in_flight: usize,
    /// Whether what has completed survives power loss.
    pub write_mode: WriteMode,
    /// Gather for that long before writing, when nobody waits for the writes.
    pub gather_for: Option<Duration>,
    /// Idle for that long, the journal tells itself that everything is flushed, so that later rot
    /// can be told from a torn tail.
    pub close_after: Duration,
    /// Bytes of the ring that are written with zeros before the journal opens.
    pub ready_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            file_count: 8,
            max_write_bytes: 1 << 20,
            max_in_flight: 6,
            write_mode: WriteMode::Durable,
            gather_for: None,
            close_after: Duration::from_millis(100),
            ready_bytes: 32 << 20,
        }
    }
}

impl JournalOptions {
    /// Where replay begins in a run that has not written yet. Recovery's checkpoints name it.
    pub fn first_start(&self, run: RunId) -> JournalStart {
        JournalStart {
            run,
            sequence: Sequence(0),
            address: 0,
            previous_checksum: 0,
            flushed_end: Sequence(0),
            geometry: self.clone().checked().geometry(),
        }
    }

    /// The same in whole blocks, and large enough to work with.
    pub(super) fn checked(mut self) -> Self {
        let block = BLOCK_BYTES as u64;
        let write = self
            .max_write_bytes
            .clamp(8 * BLOCK_BYTES, LONGEST_WRITE_BYTES);
        self.max_write_bytes = write.next_multiple_of(BLOCK_BYTES);
        let shortest = 4 * self.max_write_bytes as u64;
        self.file_bytes = self.file_bytes.max(shortest).next_multiple_of(block);
        self.file_count = self.file_count.max(2);
        self.max_in_flight = self.max_in_flight.max(1);
        let ready = self.ready_bytes.max(shortest).next_multiple_of(block);
        self.ready_bytes = ready.min(self.geometry().ring_bytes());
        self
    }

    /// So much gathered is worth a write beside others.
    pub(super) fn eager_bytes(&self) -> usize {
        self.max_write_bytes / 4
    }

    /// So many writes that no flush has made durable are enough: further ones wait for it.
    pub(super) fn max_unflushed(&self) -> u64 {
        self.max_in_flight as u64 * 4
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            file_bytes: self.file_bytes,
            file_count: self.file_count,
        }
    }
}

/// Where replay begins: a place, and what must be found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalStart {
    /// The run whose writes count.
    pub run: RunId,
    /// The first write to replay; it need not exist.
    pub sequence: Sequence,
    /// When this was made, every write below had been flushed.
    pub flushed_end: Sequence,
    pub(super) address: u64,
    pub(super) previous_checksum: u32,
    pub(super) geometry: Geometry,
}

impl JournalStart {
    /// Length of its encoding, in bytes.
    pub const BYTES: usize = 64;

    /// Its bytes within a checkpoint, which protects them by its own checksum.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0..8].copy_from_slice(&self.run.number.to_le_bytes());
        out[8..24].copy_from_slice(&self.run.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.flushed_end.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.address.to_le_bytes());
        out[48..56].copy_from_slice(&self.geometry.file_bytes.to_le_bytes());
        out[56..60].copy_from_slice(&self.geometry.file_count.to_le_bytes());
        out[60..64].copy_from_slice(&self.previous_checksum.to_le_bytes());
        out
    }

    /// Reads what [`JournalStart::encode`] wrote; none when it is too short or makes no sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let start = Self {
            run: RunId {
                number: fields.u64()?,
                id: fields.u128()?,
            },
            sequence: Sequence(fields.u64()?),
            flushed_end: Sequence(fields.u64()?),
            address: fields.u64()?,
            geometry: Geometry {
                file_bytes: fields.u64()?,
                file_count: fields.u32()?,
            },
            previous_checksum: fields.u32()?,
        };
        let Geometry {
            file_bytes,
            file_count,
        } = start.geometry;
        let block = BLOCK_BYTES as u64;
        let ring_bytes = file_bytes.checked_mul(u64::from(file_count));
        let sensible = file_bytes.is_multiple_of(block)
            && start.address.is_multiple_of(block)
            && ring_bytes.is_some_and(|bytes| bytes > 0 && start.address < u64::MAX - bytes);
        sensible.then_some(start)
    }
}
