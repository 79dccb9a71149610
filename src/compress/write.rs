//! Compressing piece by piece.

use super::gzip::GzipWriter;
use super::lz4::{self, Lz4Writer};
use super::snappy::{self, SnappyWriter};
use super::zstd::ZstdWriter;
use super::{CompressError, Level};
use crate::model::Codec;

/// The contexts and tables of compression, reused from batch to batch.
///
/// About 1 MiB stays with all codecs at their defaults, and at most 6 MiB of zstd's; a larger context
/// goes with its batch.
#[derive(Default)]
pub struct Writers {
    gzip: GzipWriter,
    snappy: SnappyWriter,
    lz4: Lz4Writer,
    zstd: ZstdWriter,
    /// The beginning of a block of snappy or lz4.
    block: Vec<u8>,
}

impl Writers {
    /// Begins to compress `plain_bytes` bytes.
    pub fn begin(
        &mut self,
        level: Level,
        plain_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<Compressing<'_>, CompressError> {
        self.block.clear();
        match level.codec() {
            Codec::None => {}
            Codec::Gzip => self.gzip.begin(level),
            Codec::Snappy => self.snappy.begin(out),
            Codec::Lz4 => self.lz4.begin(out),
            Codec::Zstd => self
                .zstd
                .begin(level, plain_bytes as u64)
                .map_err(|reason| failed(level, reason))?,
        }
        Ok(Compressing {
            writers: self,
            level,
        })
    }

    /// Gives back what an unusual level has made.
    pub fn trim(&mut self) {
        self.zstd.trim();
    }

    #[cfg(test)]
    pub(super) fn context_bytes(&self) -> usize {
        self.zstd.context_bytes()
    }
}

/// A batch's records on their way into a codec.
pub struct Compressing<'c> {
    writers: &'c mut Writers,
    level: Level,
}

impl Compressing<'_> {
    /// Takes a piece; what is ready of the output is appended to `out`.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
        self.take(piece, false, out)
    }

    /// Takes the last piece, and ends the output.
    pub fn finish(mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
        self.take(piece, true, out)
    }

    fn take(
        &mut self,
        piece: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let writers = &mut *self.writers;
        let taken = match self.level.codec() {
            Codec::None => {
                out.extend_from_slice(piece);
                Ok(())
            }
            Codec::Gzip => writers.gzip.write(piece, is_last, out),
            Codec::Zstd => writers.zstd.write(piece, is_last, out),
            Codec::Snappy => {
                let size = snappy::CHUNK_INPUT_BYTES;
                let chunk = |block: &[u8]| writers.snappy.chunk(block, out);
                in_blocks(&mut writers.block, piece, size, is_last, chunk)
            }
            Codec::Lz4 => {
                let size = lz4::BLOCK_INPUT_BYTES;
                let block = |block: &[u8]| writers.lz4.block(block, out);
                let taken = in_blocks(&mut writers.block, piece, size, is_last, block);
                if is_last {
                    writers.lz4.end(out);
                }
                taken
            }
        };
        taken.map_err(|reason| failed(self.level, reason))
    }
}

/// Cuts what comes in pieces into blocks of `size`; what is left waits in `begun` for the next piece.
fn in_blocks(
    begun: &mut Vec<u8>,
    mut piece: &[u8],
    size: usize,
    is_last: bool,
    mut write: impl FnMut(&[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    if !begun.is_empty() {
        let missing = piece.len().min(size - begun.len());
        let (head, behind) = piece.split_at(missing);
        begun.extend_from_slice(head);
        piece = behind;
        if begun.len() == size {
            write(begun)?;
            begun.clear();
        }
    }
    // Something stays in `piece` only if `begun` was used up.
    let blocks = piece.chunks_exact(size);
    let rest = blocks.remainder();
    for block in blocks {
        write(block)?;
    }
    if !is_last {
        begun.extend_from_slice(rest);
        return Ok(());
    }
    match (begun.is_empty(), rest.is_empty()) {
        (false, _) => write(begun),
        (true, false) => write(rest),
        (true, true) => Ok(()),
    }
}

fn failed(level: Level, reason: &'static str) -> CompressError {
    CompressError {
        codec: level.codec(),
        reason,
    }
}
