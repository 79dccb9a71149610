//! Searching the rest of the ring behind a break.

use std::io;

use super::reader::RingReader;
use crate::rt::{BLOCK_BYTES, Runtime};

/// A write that lies behind a break.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    pub sequence: u64,
    pub address: u64,
    pub flushed_end: u64,
}

/// Every write from `address` to `end` that comes after `sequence` and whose header and table are
/// whole, in the order of sequences.
pub(super) async fn sweep<R: Runtime>(
    reader: &mut RingReader<R>,
    mut address: u64,
    end: u64,
    sequence: u64,
) -> io::Result<Vec<Later>> {
    let mut later = Vec::new();
    while address < end {
        let found = reader.header_at(address).await?;
        let mut step = BLOCK_BYTES as u64;
        if let Some((header, _)) = found
            && header.sequence > sequence
        {
            step = header.write_bytes() as u64;
            later.push(Later {
                sequence: header.sequence,
                address,
                flushed_end: header.flushed_end,
            });
        }
        address += step;
    }
    later.sort_unstable_by_key(|write| write.sequence);
    Ok(later)
}
