//! The LZ4 frame format around `lz4_flex`'s blocks.
//!
//! ```text
//!  0  magic                 04 22 4d 18
//!  4  flags                 6–7 version (1), 5 independent blocks, 4 block checksums,
//!                           3 content size, 2 content checksum, 0 dictionary id
//!  5  block size            4–6: 4 is 64 KiB, 5 256 KiB, 6 1 MiB, 7 4 MiB
//!     content size          u64 little-endian, if flagged
//!     header checksum       u8
//!     blocks                length u32 little-endian (bit 31: stored as is), bytes, checksum if flagged
//!     end mark              u32 0, content checksum if flagged
//! ```
//!
//! The frame is our own, because the library's decoder takes buffers for the size of block that a
//! header claims. xxHash checksums are skipped: the batch's CRC covers the same bytes.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};

use super::{DecompressError, grown};
use crate::model::Codec;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Independent blocks of 64 KiB and no checksums, the only kind that Kafka's Java reader takes;
/// the last byte is the header's own checksum.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
pub(super) const BLOCK_INPUT_BYTES: usize = 64 << 10;
const STORED_BIT: u32 = 1 << 31;
/// How far back a block may refer where blocks depend on each other.
const WINDOW_BYTES: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Lz4Writer {
    table: Option<CompressTable>,
}

impl Lz4Writer {
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&HEADER);
    }

    /// Writes a block of at most [`BLOCK_INPUT_BYTES`].
    pub(super) fn block(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let table = self.table.get_or_insert_with(CompressTable::large);
        let length_at = out.len();
        let body_at = length_at + 4;
        out.resize(body_at + get_maximum_output_size(block.len()), 0);
        let (length, body) = out
            .get_mut(length_at..)
            .and_then(<[u8]>::split_first_chunk_mut::<4>)
            .ok_or("no room for a block")?;
        let body_bytes =
            compress_into_with_table(block, body, table).map_err(|_| "the block does not fit")?;
        // A block is at most 64 KiB, so its length fits and bit 31 is free.
        if body_bytes < block.len() {
            *length = (body_bytes as u32).to_le_bytes();
            out.truncate(body_at + body_bytes);
        } else {
            *length = (block.len() as u32 | STORED_BIT).to_le_bytes();
            out.truncate(body_at);
            out.extend_from_slice(block);
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
    }
}

/// What the frame header says about the blocks.
struct Frame {
    blocks_are_independent: bool,
    block_checksum_bytes: usize,
    content_checksum_bytes: usize,
    max_block_bytes: usize,
}

/// Where reading stands in the one frame.
pub(super) struct Lz4Stream<'a> {
    rest: &'a [u8],
    frame: Option<Frame>,
    is_ended: bool,
}

impl<'a> Lz4Stream<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            frame: None,
            is_ended: false,
        }
    }
}

#[derive(Default)]
pub(super) struct Lz4Reader {
    piece: Vec<u8>,
    /// The last of what came before, where blocks depend on each other.
    window: Vec<u8>,
}

impl Lz4Reader {
    /// The largest block that the frame's header allows; what cannot be read counts as nothing.
    pub(super) fn largest_block_bytes(input: &[u8]) -> usize {
        let mut rest = input;
        read_header(&mut rest).map_or(0, |frame| frame.max_block_bytes)
    }

    /// The next block, decoded; none behind the last.
    pub(super) fn next<'p, 'a: 'p>(
        &'p mut self,
        stream: &mut Lz4Stream<'a>,
    ) -> Result<Option<&'p [u8]>, DecompressError> {
        if stream.is_ended {
            return Ok(None);
        }
        let frame = match &stream.frame {
            Some(frame) => frame,
            None => {
                self.window.clear();
                stream.frame.insert(read_header(&mut stream.rest)?)
            }
        };
        let length = u32::from_le_bytes(*take_array::<4>(&mut stream.rest)?);
        if length == 0 {
            take(&mut stream.rest, frame.content_checksum_bytes)?;
            if !stream.rest.is_empty() {
                return Err(corrupt("bytes follow the frame"));
            }
            stream.is_ended = true;
            return Ok(None);
        }
        let block_bytes = (length & !STORED_BIT) as usize;
        if block_bytes > frame.max_block_bytes {
            return Err(corrupt("a block is longer than the frame allows"));
        }
        let block = take(&mut stream.rest, block_bytes)?;
        take(&mut stream.rest, frame.block_checksum_bytes)?;
        let piece = if length & STORED_BIT != 0 {
            block
        } else {
            let max_bytes = frame.max_block_bytes.min(most_output_bytes(block.len()));
            let space = grown(&mut self.piece, max_bytes);
            let decoded = if self.window.is_empty() {
                decompress_into(block, space)
            } else {
                decompress_into_with_dict(block, space, &self.window)
            };
            let written_bytes = decoded.map_err(|_| corrupt("a block does not decode"))?;
            self.piece.get(..written_bytes).unwrap_or_default()
        };
        if !frame.blocks_are_independent {
            remember(&mut self.window, piece);
        }
        Ok(Some(piece))
    }

    pub(super) fn trim(&mut self, max_bytes: usize) {
        if self.piece.len() > max_bytes {
            self.piece = Vec::new();
        }
    }
}

/// Moves the window on behind `piece`.
fn remember(window: &mut Vec<u8>, piece: &[u8]) {
    let from = piece.len().saturating_sub(WINDOW_BYTES);
    let last = piece.get(from..).unwrap_or_default();
    let excess = (window.len() + last.len()).saturating_sub(WINDOW_BYTES);
    window.drain(..excess);
    window.extend_from_slice(last);
}

fn read_header(rest: &mut &[u8]) -> Result<Frame, DecompressError> {
    if *take_array::<4>(rest)? != MAGIC {
        return Err(corrupt("the magic is not that of a frame"));
    }
    let [flags, block_size] = *take_array::<2>(rest)?;
    if flags >> 6 != 1 || flags & 0b10 != 0 || block_size & 0x8f != 0 {
        return Err(corrupt("the frame is of another version"));
    }
    if flags & 1 != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    let max_block_bytes = match block_size >> 4 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(corrupt("the block size is not defined")),
    };
    let content_size_bytes = if flags & 0x08 != 0 { 8 } else { 0 };
    take(rest, content_size_bytes + 1)?;
    Ok(Frame {
        blocks_are_independent: flags & 0x20 != 0,
        block_checksum_bytes: if flags & 0x10 != 0 { 4 } else { 0 },
        content_checksum_bytes: if flags & 0x04 != 0 { 4 } else { 0 },
        max_block_bytes,
    })
}

/// LZ4's densest byte continues a match length: 1 byte that stands for 255, after a sequence's own
/// few bytes.
fn most_output_bytes(block_bytes: usize) -> usize {
    block_bytes.saturating_mul(255) + 64
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], DecompressError> {
    let (taken, behind) = rest
        .split_at_checked(bytes)
        .ok_or(corrupt("the frame is cut short"))?;
    *rest = behind;
    Ok(taken)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DecompressError> {
    let (taken, behind) = rest
        .split_first_chunk()
        .ok_or(corrupt("the frame is cut short"))?;
    *rest = behind;
    Ok(taken)
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::corrupt(Codec::Lz4, reason)
}
