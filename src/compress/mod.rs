//! The four codecs of record batches, in Kafka's framings, piece by piece and with bounded output.
//!
//! | codec  | framing                                            | levels (default)      |
//! |--------|----------------------------------------------------|-----------------------|
//! | gzip   | gzip members (RFC 1952)                            | 1..=9, −1 is 6 (−1)   |
//! | snappy | xerial's chunks; raw snappy is read too            | none                  |
//! | lz4    | one LZ4 frame, independent 64 KiB blocks           | 1..=17 (9), no effect |
//! | zstd   | frames (RFC 8878), windows of up to 128 MiB        | −131072..=22 (3)      |
//!
//! What is decompressed comes from the network or from a disk that may lie: no length in it is
//! believed before bytes stand behind it, and the output never passes the caller's limit.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod gzip;
mod level;
mod lz4;
mod read;
mod snappy;
#[cfg(test)]
mod tests;
mod write;
mod zstd;

use crate::model::Codec;
pub use level::Level;
pub use read::{Expansion, ReadDemand, Readers, WIDE_LIMIT_BYTES};
pub use write::{Compressing, Writers};

/// What streaming codecs are given to write into.
const PIECE_BYTES: usize = 64 << 10;
/// Compression failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} cannot compress: {reason}")]
pub struct CompressError {
    /// The codec asked for.
    pub codec: Codec,
    /// The codec library's words.
    pub reason: &'static str,
}

/// Decompression failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The input is not what the codec writes, or is cut short.
    #[error("{codec} data is corrupt: {reason}")]
    Corrupt {
        /// The codec asked for.
        codec: Codec,
        /// What is wrong.
        reason: &'static str,
    },
    /// The input expands further than allowed.
    #[error("compressed data expands to more than {limit_bytes} bytes")]
    TooLarge {
        /// The caller's limit.
        limit_bytes: usize,
    },
}

impl DecompressError {
    /// Whether less of it might pass.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    fn corrupt(codec: Codec, reason: &'static str) -> Self {
        Self::Corrupt { codec, reason }
    }
}

/// Contexts for both directions, reused from batch to batch: a fresh one costs more than compressing
/// 16 KiB with it, so each is made at its first use and kept.
#[derive(Default)]
pub struct Codecs {
    /// For decompression.
    pub readers: Readers,
    /// For compression.
    pub writers: Writers,
}

impl Codecs {
    /// No context made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives back what an unusual batch or level has made.
    pub fn trim(&mut self) {
        self.readers.trim();
        self.writers.trim();
    }

    /// Appends `input`, compressed with the level's codec, to `out`, which an error leaves as it was.
    pub fn compress(
        &mut self,
        level: Level,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let start = out.len();
        let done = self
            .writers
            .begin(level, input.len(), out)
            .and_then(|writing| writing.finish(input, out));
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Appends the decompressed `input` to `out`: at most `limit_bytes`, or [`DecompressError::TooLarge`].
    /// An error leaves `out` as it was.
    ///
    /// `out` grows as output appears and never by a length that the input claims: to at most twice what
    /// came out. Where a batch need not be in memory as a whole, [`Readers::open`] gives it in pieces.
    pub fn decompress(
        &mut self,
        codec: Codec,
        input: &[u8],
        out: &mut Vec<u8>,
        limit_bytes: usize,
    ) -> Result<(), DecompressError> {
        let start = out.len();
        let mut reading = self.readers.open(codec, input, limit_bytes);
        loop {
            match reading.next_piece() {
                Ok(Some(piece)) => out.extend_from_slice(piece),
                Ok(None) => return Ok(()),
                Err(error) => {
                    out.truncate(start);
                    return Err(error);
                }
            }
        }
    }
}

/// The first `bytes` of a buffer, made longer where it is shorter. What is in it is of no account.
fn grown(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.reserve_exact(bytes - buffer.len());
        buffer.resize(bytes, 0);
    }
    buffer.get_mut(..bytes).unwrap_or_default()
}
