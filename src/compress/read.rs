//! Decompression piece by piece: however far a batch expands, a piece of it is in memory.

use super::gzip::{GzipReader, GzipStream};
use super::lz4::{Lz4Reader, Lz4Stream};
use super::snappy::{SnappyReader, SnappyStream};
use super::zstd::{ZstdReader, ZstdStream};
use super::{DecompressError, PIECE_BYTES};
use crate::model::Codec;

/// How far a batch that needs a window of more than 8 MiB may expand: its window is memory as far as
/// there is output. Only zstd from level 20 on writes such batches, and it splits in halves that pass.
pub const WIDE_LIMIT_BYTES: usize = 32 << 20;
/// A block, which is decoded whole, of so many bytes takes about a millisecond.
const STEP_BLOCK_BYTES: usize = 1 << 20;
/// Buffers up to this size are kept from batch to batch.
const KEPT_BYTES: usize = 256 << 10;

/// The contexts and buffers of decompression, reused from batch to batch.
///
/// At most about 10 MiB stay: zstd's window of 8 MiB, and a piece per codec.
#[derive(Default)]
pub struct Readers {
    gzip: GzipReader,
    snappy: SnappyReader,
    lz4: Lz4Reader,
    zstd: ZstdReader,
}

impl Readers {
    /// Begins to decompress `input`, to at most `limit_bytes` in all.
    pub fn open<'c>(
        &'c mut self,
        codec: Codec,
        input: &'c [u8],
        limit_bytes: usize,
    ) -> Expansion<'c> {
        let stream = match codec {
            Codec::None => Stream::Plain(input),
            Codec::Gzip => Stream::Gzip(GzipStream::new(input)),
            Codec::Snappy => Stream::Snappy(SnappyStream::Whole(input)),
            Codec::Lz4 => Stream::Lz4(Lz4Stream::new(input)),
            Codec::Zstd => Stream::Zstd(ZstdStream::new(input)),
        };
        Expansion {
            readers: self,
            stream,
            limit_bytes,
            produced_bytes: 0,
        }
    }

    /// What reading `input` takes, as far as its headers tell.
    pub fn demand(codec: Codec, input: &[u8]) -> ReadDemand {
        let block_bytes = match codec {
            Codec::Snappy => SnappyReader::largest_block_bytes(input),
            Codec::Lz4 => Lz4Reader::largest_block_bytes(input),
            Codec::None | Codec::Gzip | Codec::Zstd => 0,
        };
        let is_wide = codec == Codec::Zstd && ZstdReader::is_wide(input);
        let (extra_bytes, limit_bytes) = match block_bytes > KEPT_BYTES {
            _ if is_wide => (WIDE_LIMIT_BYTES, WIDE_LIMIT_BYTES),
            true => (block_bytes, usize::MAX),
            false => (0, usize::MAX),
        };
        ReadDemand {
            extra_bytes,
            limit_bytes,
            is_slow: block_bytes > STEP_BLOCK_BYTES,
        }
    }

    /// Gives back what an unusual batch has made.
    pub fn trim(&mut self) {
        self.snappy.trim(KEPT_BYTES);
        self.lz4.trim(KEPT_BYTES);
        self.zstd.trim();
    }
}

/// What reading a batch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadDemand {
    /// Memory in bytes beyond what is kept: 0 for what producers send by default.
    pub extra_bytes: usize,
    /// How far it may expand for that: without end, or [`WIDE_LIMIT_BYTES`].
    pub limit_bytes: usize,
    /// Whether one piece of it may take more than a millisecond of one core.
    pub is_slow: bool,
}

/// A batch's records on their way out of their codec.
pub struct Expansion<'c> {
    readers: &'c mut Readers,
    stream: Stream<'c>,
    limit_bytes: usize,
    produced_bytes: usize,
}

enum Stream<'a> {
    Plain(&'a [u8]),
    Gzip(GzipStream<'a>),
    Snappy(SnappyStream<'a>),
    Lz4(Lz4Stream<'a>),
    Zstd(ZstdStream<'a>),
}

impl Expansion<'_> {
    /// The next piece: up to 64 KiB of gzip, zstd and what is not compressed, a whole block of snappy
    /// and lz4. It may be empty; none comes when all was read and all checksums held.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>, DecompressError> {
        let limit_bytes = self.limit_bytes;
        let room_bytes = limit_bytes - self.produced_bytes;
        let next = match &mut self.stream {
            Stream::Plain([]) => Ok(None),
            Stream::Plain(rest) => {
                let (piece, behind) = rest.split_at(rest.len().min(PIECE_BYTES));
                *rest = behind;
                Ok(Some(piece))
            }
            Stream::Gzip(stream) => self.readers.gzip.next(stream),
            Stream::Snappy(stream) => self.readers.snappy.next(stream, room_bytes),
            Stream::Lz4(stream) => self.readers.lz4.next(stream),
            Stream::Zstd(stream) => self.readers.zstd.next(stream),
        };
        let too_large = DecompressError::TooLarge { limit_bytes };
        match next {
            Ok(Some(piece)) if piece.len() > room_bytes => Err(too_large),
            Ok(Some(piece)) => {
                self.produced_bytes += piece.len();
                Ok(Some(piece))
            }
            Err(DecompressError::TooLarge { .. }) => Err(too_large),
            end => end,
        }
    }
}
