//! From a group to the bytes of its write: every inline byte is copied once, every byte is
//! checksummed once.

use super::format::{BlockSplit, EntryHead, HEADER_BYTES, Header};
use super::group::Piece;
use crate::rt::{BLOCK_BYTES, Buf, BufMut};

/// Lays out a write in `buffer`, which is empty and holds the header's front, and behind it the
/// pieces' whole blocks. Sets the header's payload checksum; returns the bytes in order, and the
/// header's checksum.
pub(super) fn lay_out(
    mut header: Header,
    pieces: &[Piece],
    mut buffer: BufMut,
    table: &mut Vec<u8>,
) -> (Vec<Buf>, u32) {
    let front = header.front_bytes();
    let padded = front.next_multiple_of(BLOCK_BYTES);
    let mut bufs = Vec::with_capacity(1 + 2 * usize::from(header.block_bytes > 0));
    let out = &mut buffer.spare_mut()[..padded];
    let (header_out, rest) = out.split_at_mut(HEADER_BYTES);
    let (inline_out, rest) = rest.split_at_mut(header.inline_bytes as usize);
    let (table_out, padding) = rest.split_at_mut(header.table_bytes());

    table.clear();
    let mut inline = Inline(inline_out);
    for piece in pieces {
        piece.head.encode(table);
        match piece.head {
            EntryHead::Data {
                position,
                len,
                blocks: true,
                ..
            } => divide(
                piece,
                BlockSplit::of(position, len as usize),
                |part, buf| match part {
                    Part::Inline => inline.copy(&buf),
                    Part::Blocks => bufs.push(buf),
                },
            ),
            _ => piece.payload.iter().for_each(|buf| inline.copy(buf)),
        }
    }
    table_out.copy_from_slice(table);
    padding.fill(0);
    header.payload_checksum = bufs
        .iter()
        .fold(crc32c::crc32c(inline_out), |checksum, buf| {
            crc32c::crc32c_append(checksum, buf)
        });
    let mut encoded = [0; HEADER_BYTES];
    let checksum = header.encode(table, &mut encoded);
    header_out.copy_from_slice(&encoded);
    buffer.advance(padded);
    bufs.insert(0, buffer.freeze());
    (bufs, checksum)
}

/// Fills the inline part from its front.
struct Inline<'a>(&'a mut [u8]);

impl Inline<'_> {
    fn copy(&mut self, bytes: &[u8]) {
        let (out, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        out.copy_from_slice(bytes);
        self.0 = rest;
    }
}

enum Part {
    Inline,
    Blocks,
}

/// Cuts the payload of an entry at the edges of its whole blocks.
fn divide(piece: &Piece, split: BlockSplit, mut each: impl FnMut(Part, Buf)) {
    let edges = [split.head, split.head + split.blocks, usize::MAX];
    let mut at = 0;
    for buf in &piece.payload {
        let mut from = 0;
        while from < buf.len() {
            let region = edges.iter().filter(|&&edge| edge <= at).count();
            let to = buf.len().min(from + (edges[region] - at));
            let part = if region == 1 {
                Part::Blocks
            } else {
                Part::Inline
            };
            each(part, buf.slice(from..to));
            at += to - from;
            from = to;
        }
    }
}
