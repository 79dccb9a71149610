//! The four codecs of record batches, in Kafka's framings and with bounded output.
//!
//! | codec  | framing                                            | levels (default)      |
//! |--------|----------------------------------------------------|-----------------------|
//! | gzip   | gzip members (RFC 1952)                            | 1..=9, −1 is 6 (−1)   |
//! | snappy | xerial's chunks; raw snappy is read too            | none                  |
//! | lz4    | one LZ4 frame, independent 64 KiB blocks           | 1..=17 (9), no effect |
//! | zstd   | frames (RFC 8878), windows of 8 MiB and less       | −131072..=22 (3)      |
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

mod codec;
mod gzip;
mod lz4;
mod output;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

pub use codec::{Codec, Level};
use output::BoundedOutput;

/// Largest output that [`output_limit_bytes`] grants to however small an input.
const MIN_LIMIT_BYTES: usize = 16 << 20;
/// Largest output that [`output_limit_bytes`] grants at all.
const MAX_LIMIT_BYTES: usize = 256 << 20;
/// Expansion that [`output_limit_bytes`] grants between the two.
const LIMIT_RATIO: usize = 100;

/// How far a batch of `compressed_bytes` may expand where nothing says better:
/// 100 times its size, at least 16 MiB, at most 256 MiB.
///
/// The ratio is twice what zstd makes of very repetitive logs. Below 168 KB the floor holds, so that
/// a batch of one byte repeated (a few hundred bytes for 8 MiB with zstd) passes as it does in Kafka,
/// which has no limit. The ceiling still lets a compressed batch of 8 MiB grow 32 times; it is what one
/// hostile batch can take, and a shard opens one batch at a time.
pub fn output_limit_bytes(compressed_bytes: usize) -> usize {
    compressed_bytes
        .saturating_mul(LIMIT_RATIO)
        .clamp(MIN_LIMIT_BYTES, MAX_LIMIT_BYTES)
}

/// Compression failed; the output is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} cannot compress: {reason}")]
pub struct CompressError {
    /// The codec asked for.
    pub codec: Codec,
    /// The codec library's words.
    pub reason: &'static str,
}

/// Decompression failed; the output is as it was.
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

/// The codecs' contexts and tables, reused from batch to batch: one per shard or client.
///
/// A fresh context costs more than compressing 16 KiB with it, so each is made at its first use and
/// kept (about 1 MiB with all four at their defaults; reading zstd windows of 8 MiB adds as much).
#[derive(Default)]
pub struct Codecs {
    gzip: gzip::Gzip,
    snappy: snappy::Snappy,
    lz4: lz4::Lz4,
    zstd: zstd::Zstd,
}

impl Codecs {
    /// No context made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `input`, compressed with the level's codec, to `out`.
    pub fn compress(
        &mut self,
        level: Level,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let start = out.len();
        let codec = level.codec();
        let result = match codec {
            Codec::Gzip => self.gzip.compress(level, input, out),
            Codec::Snappy => self.snappy.compress(input, out),
            Codec::Lz4 => self.lz4.compress(input, out),
            Codec::Zstd => self.zstd.compress(level, input, out),
        };
        result.map_err(|reason| {
            out.truncate(start);
            CompressError { codec, reason }
        })
    }

    /// Appends the decompressed `input` to `out`: at most `limit_bytes`, or [`DecompressError::TooLarge`].
    ///
    /// `out` grows as output appears and never by a length that the input claims: to at most twice what
    /// came out, in steps of at least 64 KiB. [`output_limit_bytes`] gives a limit.
    pub fn decompress(
        &mut self,
        codec: Codec,
        input: &[u8],
        out: &mut Vec<u8>,
        limit_bytes: usize,
    ) -> Result<(), DecompressError> {
        let start = out.len();
        let mut bounded = BoundedOutput::new(out, limit_bytes);
        let result = match codec {
            Codec::Gzip => self.gzip.decompress(input, &mut bounded),
            Codec::Snappy => self.snappy.decompress(input, &mut bounded),
            Codec::Lz4 => lz4::decompress(input, &mut bounded),
            Codec::Zstd => self.zstd.decompress(input, &mut bounded),
        };
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}
