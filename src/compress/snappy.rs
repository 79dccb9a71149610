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
//! not begin with the magic is read as that.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{BoundedOutput, Codec, DecompressError};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Input per chunk, as snappy-java does by default.
const CHUNK_INPUT_BYTES: usize = 32 << 10;

#[derive(Default)]
pub(super) struct Snappy {
    encoder: Option<Encoder>,
    decoder: Decoder,
}

impl Snappy {
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let encoder = self.encoder.get_or_insert_with(Encoder::new);
        out.extend_from_slice(&HEADER);
        for chunk in input.chunks(CHUNK_INPUT_BYTES) {
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
        }
        Ok(())
    }

    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut BoundedOutput<'_>,
    ) -> Result<(), DecompressError> {
        if !input.starts_with(&MAGIC) {
            return self.raw(input, out);
        }
        let mut rest = input
            .get(HEADER.len()..)
            .ok_or(corrupt("the header is cut short"))?;
        while !rest.is_empty() {
            let (length, behind) = rest
                .split_first_chunk::<4>()
                .ok_or(corrupt("a chunk length is cut short"))?;
            let chunk_bytes = usize::try_from(i32::from_be_bytes(*length))
                .map_err(|_| corrupt("a chunk length is negative"))?;
            let (chunk, after) = behind
                .split_at_checked(chunk_bytes)
                .ok_or(corrupt("a chunk is cut short"))?;
            self.raw(chunk, out)?;
            rest = after;
        }
        Ok(())
    }

    fn raw(&mut self, block: &[u8], out: &mut BoundedOutput<'_>) -> Result<(), DecompressError> {
        let claimed_bytes =
            decompress_len(block).map_err(|_| corrupt("a block's length is malformed"))?;
        if block.is_empty() || claimed_bytes > most_output_bytes(block.len()) {
            return Err(corrupt("a block claims more than it can hold"));
        }
        let decoder = &mut self.decoder;
        out.block(claimed_bytes, |_, space| {
            decoder
                .decompress(block, space)
                .map_err(|_| corrupt("a block does not decode"))
        })
    }
}

/// Snappy's densest element is a copy: 3 bytes that stand for 64.
fn most_output_bytes(block_bytes: usize) -> usize {
    block_bytes.saturating_mul(64) / 3
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Snappy, reason)
}
