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
//! header claims, and because blocks can be decoded into the output without a copy. xxHash checksums
//! are skipped: the batch's CRC covers the same bytes.

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};

use super::{BoundedOutput, Codec, DecompressError};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Independent blocks of 64 KiB and no checksums, the only kind that Kafka's Java reader takes;
/// the last byte is the header's own checksum.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK_INPUT_BYTES: usize = 64 << 10;
const STORED_BIT: u32 = 1 << 31;
/// How far back a block may refer where blocks depend on each other.
const WINDOW_BYTES: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Lz4 {
    table: Option<CompressTable>,
}

impl Lz4 {
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let table = self.table.get_or_insert_with(CompressTable::large);
        out.extend_from_slice(&HEADER);
        for block in input.chunks(BLOCK_INPUT_BYTES) {
            append_block(table, block, out)?;
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

fn append_block(
    table: &mut CompressTable,
    block: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
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

/// What the frame header says about the blocks.
struct Frame {
    blocks_are_independent: bool,
    block_checksum_bytes: usize,
    content_checksum_bytes: usize,
    max_block_bytes: usize,
}

pub(super) fn decompress(input: &[u8], out: &mut BoundedOutput<'_>) -> Result<(), DecompressError> {
    let mut rest = input;
    let frame = read_header(&mut rest)?;
    loop {
        let length = u32::from_le_bytes(*take_array::<4>(&mut rest)?);
        if length == 0 {
            take(&mut rest, frame.content_checksum_bytes)?;
            break;
        }
        let block_bytes = (length & !STORED_BIT) as usize;
        if block_bytes > frame.max_block_bytes {
            return Err(corrupt("a block is longer than the frame allows"));
        }
        let block = take(&mut rest, block_bytes)?;
        take(&mut rest, frame.block_checksum_bytes)?;
        if length & STORED_BIT != 0 {
            append_stored(block, out)?;
        } else {
            decode_block(&frame, block, out)?;
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(corrupt("bytes follow the frame"))
    }
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

fn append_stored(block: &[u8], out: &mut BoundedOutput<'_>) -> Result<(), DecompressError> {
    out.block(block.len(), |_, space| {
        let space = space
            .get_mut(..block.len())
            .ok_or(corrupt("a stored block does not fit"))?;
        space.copy_from_slice(block);
        Ok(block.len())
    })
}

fn decode_block(
    frame: &Frame,
    block: &[u8],
    out: &mut BoundedOutput<'_>,
) -> Result<(), DecompressError> {
    let max_bytes = frame.max_block_bytes.min(most_output_bytes(block.len()));
    out.block(max_bytes, |done, space| {
        let decoded = if frame.blocks_are_independent || done.is_empty() {
            decompress_into(block, space)
        } else {
            let window_at = done.len().saturating_sub(WINDOW_BYTES);
            let window = done.get(window_at..).unwrap_or_default();
            decompress_into_with_dict(block, space, window)
        };
        decoded.map_err(|_| corrupt("a block does not decode"))
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
