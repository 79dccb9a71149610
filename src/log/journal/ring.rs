//! Where in the ring of journal files the writes lie, and what is still free.
//!
//! A ring address counts every byte since the run began, over all laps; modulo the ring's size it
//! is a place on disk. A write that does not fit into the rest of its file begins the next one.

use std::collections::VecDeque;

use crate::rt::BLOCK_BYTES;

/// The shape of a journal on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub file_bytes: u64,
    pub file_count: u32,
}

impl Geometry {
    pub fn ring_bytes(self) -> u64 {
        self.file_bytes * u64::from(self.file_count)
    }

    /// File and offset within it.
    pub fn place(self, address: u64) -> (usize, u64) {
        let on_ring = address % self.ring_bytes();
        let file = on_ring / self.file_bytes;
        (file as usize, on_ring % self.file_bytes)
    }

    /// Bytes from `address` to the end of its file.
    pub fn rest_of_file(self, address: u64) -> u64 {
        self.file_bytes - address % self.file_bytes
    }

    /// The longest write as nodes set it up: a quarter of a file, at most 1 MiB.
    pub fn usual_write_bytes(self) -> u64 {
        (self.file_bytes / 4).min(1 << 20)
    }

    pub fn next_file(self, address: u64) -> u64 {
        address + self.rest_of_file(address)
    }
}

/// A write that may not be overwritten.
#[derive(Clone, Copy, Debug)]
struct Live {
    address: u64,
    bytes: u32,
    previous_checksum: u32,
}

/// The writes of a run, of which the oldest are let go.
#[derive(Debug)]
pub(super) struct Ring {
    geometry: Geometry,
    max_write_bytes: u64,
    head: u64,
    live: VecDeque<Live>,
    live_bytes: u64,
    first_live_sequence: u64,
    last_checksum: u32,
    /// Bytes of the first lap that are ready to be written; the whole ring in the end.
    prepared_bytes: u64,
    /// Bytes of all writes since the run began.
    written_bytes: u64,
    /// What was promised and not yet written.
    promised_bytes: u64,
}

impl Ring {
    pub fn new(geometry: Geometry, max_write_bytes: usize, prepared_bytes: u64) -> Self {
        Self {
            geometry,
            max_write_bytes: max_write_bytes as u64,
            head: 0,
            live: VecDeque::new(),
            live_bytes: 0,
            first_live_sequence: 0,
            last_checksum: 0,
            prepared_bytes,
            written_bytes: 0,
            promised_bytes: 0,
        }
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What all writes that are kept may take together: at the end of each file less than one
    /// write may be left unused, and the record of a clean stop always has its block.
    pub fn capacity_bytes(&self) -> u64 {
        self.usable(self.geometry.ring_bytes())
    }

    fn usable(&self, bytes: u64) -> u64 {
        let files = bytes.div_ceil(self.geometry.file_bytes);
        bytes.saturating_sub(files * self.max_write_bytes + BLOCK_BYTES as u64)
    }

    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    pub fn promised_bytes(&self) -> u64 {
        self.promised_bytes
    }

    pub fn prepared_bytes(&self) -> u64 {
        self.prepared_bytes
    }

    pub fn set_prepared(&mut self, bytes: u64) {
        self.prepared_bytes = bytes;
    }

    pub fn is_prepared(&self) -> bool {
        self.prepared_bytes >= self.geometry.ring_bytes()
    }

    /// Whether `bytes` more can be promised.
    pub fn has_room(&self, bytes: u64) -> bool {
        let (taken, usable) = if self.is_prepared() {
            (self.live_bytes, self.capacity_bytes())
        } else {
            (self.written_bytes, self.usable(self.prepared_bytes))
        };
        taken + self.promised_bytes + bytes <= usable
    }

    pub fn promise(&mut self, bytes: u64) {
        self.promised_bytes += bytes;
    }

    pub fn release(&mut self, bytes: u64) {
        self.promised_bytes = self.promised_bytes.saturating_sub(bytes);
    }

    /// Where a write of `bytes` begins, if it overwrites nothing that is kept.
    pub fn fit(&self, bytes: u64) -> Option<u64> {
        let address = self.next_address(bytes);
        let oldest = self.live.front().map_or(self.head, |live| live.address);
        (address + bytes <= oldest + self.geometry.ring_bytes()
            && (self.is_prepared() || address + bytes <= self.prepared_bytes))
            .then_some(address)
    }

    pub fn next_address(&self, bytes: u64) -> u64 {
        if bytes <= self.geometry.rest_of_file(self.head) {
            self.head
        } else {
            self.geometry.next_file(self.head)
        }
    }

    /// The write of the next sequence now lies at `address`.
    pub fn push(&mut self, address: u64, bytes: u64, checksum: u32) {
        self.live.push_back(Live {
            address,
            bytes: bytes as u32,
            previous_checksum: self.last_checksum,
        });
        self.live_bytes += bytes;
        self.written_bytes += bytes;
        self.head = address + bytes;
        self.last_checksum = checksum;
    }

    pub fn next_sequence(&self) -> u64 {
        self.first_live_sequence + self.live.len() as u64
    }

    pub fn last_checksum(&self) -> u32 {
        self.last_checksum
    }

    /// Lets go of the writes below `sequence`.
    pub fn trim(&mut self, sequence: u64) {
        while self.first_live_sequence < sequence
            && let Some(gone) = self.live.pop_front()
        {
            self.live_bytes -= u64::from(gone.bytes);
            self.first_live_sequence += 1;
        }
    }

    /// Sequence and position of the oldest write that is kept.
    pub fn oldest(&self) -> (u64, (u64, u32)) {
        let position = match self.live.front() {
            Some(live) => (live.address, live.previous_checksum),
            None => (self.head, self.last_checksum),
        };
        (self.first_live_sequence, position)
    }

    /// Address of the write `sequence` (kept, or the next one) and the checksum before it.
    pub fn position_of(&self, sequence: u64) -> Option<(u64, u32)> {
        let index = sequence.checked_sub(self.first_live_sequence)?;
        match self.live.get(index as usize) {
            Some(live) => Some((live.address, live.previous_checksum)),
            None if sequence == self.next_sequence() => Some((self.head, self.last_checksum)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;
    const MAX_WRITE: u64 = 8 * BLOCK;
    const SHAPE: Geometry = Geometry {
        file_bytes: 32 * BLOCK,
        file_count: 3,
    };

    #[test]
    fn a_write_never_straddles_two_files() {
        let mut ring = Ring::new(SHAPE, MAX_WRITE as usize, SHAPE.ring_bytes());
        for _ in 0..6 {
            let address = ring.fit(5 * BLOCK).unwrap();
            ring.push(address, 5 * BLOCK, 0);
        }
        assert_eq!(ring.fit(2 * BLOCK), Some(30 * BLOCK));
        assert_eq!(ring.fit(3 * BLOCK), Some(32 * BLOCK));
    }

    proptest! {
        /// Whatever was promised fits, however the file ends fall and however late the trim.
        #[test]
        fn a_promise_is_kept(sizes in prop::collection::vec((1..=8u64, 0..4u64), 1..300)) {
            let mut ring = Ring::new(SHAPE, MAX_WRITE as usize, SHAPE.ring_bytes());
            for (blocks, kept) in sizes {
                let bytes = blocks * BLOCK;
                if !ring.has_room(bytes) {
                    ring.trim(ring.next_sequence().saturating_sub(kept));
                }
                if !ring.has_room(bytes) {
                    continue;
                }
                let address = ring.fit(bytes).expect("promised");
                prop_assert!(address % SHAPE.file_bytes + bytes <= SHAPE.file_bytes);
                ring.push(address, bytes, 0);
            }
        }
    }
}
