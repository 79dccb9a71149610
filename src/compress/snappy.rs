//! Snappy as Kafka's Java clients frame it.
//!
//! ```text
//!  0  magic                 82 "SNAPPY" 00
//!  8  version               i32   1
//! 12  oldest reader         i32   1
//! 16  chunks: length i32, then that many bytes of raw snappy
//! ```
//!
//! Other clients (librdkafka among them) write one raw snappy block without any framing; what does
//! not begin with the magic is read as that. A block is decoded whole: it may refer to all of itself.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{DecompressError, grown};
use crate::model::Codec;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Input per chunk, as snappy-java does by default.
pub(super) const CHUNK_INPUT_BYTES: usize = 32 << 10;

#[derive(Default)]
pub(super) struct SnappyWriter {
    encoder: Option<Encoder>,
}

impl SnappyWriter {
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&HEADER);
    }

    /// Writes a chunk of at most [`CHUNK_INPUT_BYTES`].
    pub(super) fn chunk(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let encoder = self.encoder.get_or_insert_with(Encoder::new);
        let length_at = out.len();
        let body_at = length_at + 4;
        out.resize(body_at + max_compress_len(chunk.len()), 0);
        let (length, body) = out
            .get_mut(length_at..)
            .and_then(<[u8]>::split_first_chunk_mut::<4>)
            .ok_or("no room for a chunk")?;
        let body_bytes = encoder
            .compress(chunk, body)
            .map_err(|_| "the chunk does not fit")?;
        *length = u32::try_from(body_bytes)
            .map_err(|_| "the chunk is too long")?
            .to_be_bytes();
        out.truncate(body_at + body_bytes);
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct SnappyReader {
    decoder: Decoder,
    piece: Vec<u8>,
}

/// Where reading stands.
pub(super) enum SnappyStream<'a> {
    /// Nothing was read yet.
    Whole(&'a [u8]),
    /// Chunks that are left.
    Chunks(&'a [u8]),
}

impl<'a> SnappyStream<'a> {
    /// The next block and what it expands to.
    fn block(&mut self) -> Result<Option<(&'a [u8], usize)>, DecompressError> {
        let block = match self {
            Self::Whole(input) if input.starts_with(&MAGIC) => {
                let chunks = input.get(HEADER.len()..);
                *self = Self::Chunks(chunks.ok_or(corrupt("the header is cut short"))?);
                return self.block();
            }
            Self::Whole(input) => {
                let block = *input;
                *self = Self::Chunks(&[]);
                block
            }
            Self::Chunks([]) => return Ok(None),
            Self::Chunks(rest) => take_chunk(rest)?,
        };
        let claimed_bytes =
            decompress_len(block).map_err(|_| corrupt("a block's length is malformed"))?;
        if block.is_empty() || claimed_bytes > most_output_bytes(block.len()) {
            return Err(corrupt("a block claims more than it can hold"));
        }
        Ok(Some((block, claimed_bytes)))
    }
}

impl SnappyReader {
    /// What the largest block of `input` expands to; what cannot be read counts as nothing.
    pub(super) fn largest_block_bytes(input: &[u8]) -> usize {
        let mut stream = SnappyStream::Whole(input);
        let blocks = std::iter::from_fn(|| stream.block().ok().flatten());
        blocks.map(|(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// The next block, decoded; none behind the last.
    pub(super) fn next(
        &mut self,
        stream: &mut SnappyStream<'_>,
        room_bytes: usize,
    ) -> Result<Option<&[u8]>, DecompressError> {
        let Some((block, claimed_bytes)) = stream.block()? else {
            return Ok(None);
        };
        if claimed_bytes > room_bytes {
            return Err(DecompressError::TooLarge {
                limit_bytes: room_bytes,
            });
        }
        let space = grown(&mut self.piece, claimed_bytes);
        let written_bytes = self
            .decoder
            .decompress(block, space)
            .map_err(|_| corrupt("a block does not decode"))?;
        Ok(self.piece.get(..written_bytes))
    }

    pub(super) fn trim(&mut self, max_bytes: usize) {
        if self.piece.len() > max_bytes {
            self.piece = Vec::new();
        }
    }
}

fn take_chunk<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecompressError> {
    let (length, behind) = rest
        .split_first_chunk::<4>()
        .ok_or(corrupt("a chunk length is cut short"))?;
    let chunk_bytes = usize::try_from(i32::from_be_bytes(*length))
        .map_err(|_| corrupt("a chunk length is negative"))?;
    let (chunk, after) = behind
        .split_at_checked(chunk_bytes)
        .ok_or(corrupt("a chunk is cut short"))?;
    *rest = after;
    Ok(chunk)
}

/// Snappy's densest element is a copy: 3 bytes that stand for 64.
fn most_output_bytes(block_bytes: usize) -> usize {
    block_bytes.saturating_mul(64) / 3
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Snappy, reason)
}
