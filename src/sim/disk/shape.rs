//! Length and allocation of a file, and their history since they were last durable.

use std::ops::Range;

use crate::rt::BLOCK_BYTES;

/// Length and allocated blocks of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) size: u64,
    /// Disjoint, sorted ranges of block numbers that do not touch.
    allocated: Vec<Range<u64>>,
}

impl Shape {
    pub(super) fn allocated_bytes(&self) -> u64 {
        let blocks: u64 = self.allocated.iter().map(|r| r.end - r.start).sum();
        blocks * BLOCK_BYTES as u64
    }

    /// Bytes that allocating this range would take.
    pub(super) fn missing_bytes(&self, offset: u64, len: u64) -> u64 {
        let asked = blocks_of(offset, len);
        let there: u64 = self
            .allocated
            .iter()
            .map(|r| {
                r.end
                    .min(asked.end)
                    .saturating_sub(r.start.max(asked.start))
            })
            .sum();
        (asked.end - asked.start - there) * BLOCK_BYTES as u64
    }

    /// Allocates this range and makes the file reach to its end.
    pub(super) fn extend(&mut self, offset: u64, len: u64) {
        self.size = self.size.max(offset + len);
        let mut joined = blocks_of(offset, len);
        if joined.is_empty() || self.missing_bytes(offset, len) == 0 {
            return;
        }
        self.allocated.retain(|range| {
            let is_apart = range.end < joined.start || joined.end < range.start;
            if !is_apart {
                joined = range.start.min(joined.start)..range.end.max(joined.end);
            }
            is_apart
        });
        let at = self.allocated.partition_point(|r| r.start < joined.start);
        self.allocated.insert(at, joined);
    }

    /// Cuts or extends the file; blocks behind its end are free.
    pub(super) fn set_size(&mut self, size: u64) {
        if size < self.size {
            let end = size.div_ceil(BLOCK_BYTES as u64);
            self.allocated.retain(|range| range.start < end);
            if let Some(last) = self.allocated.last_mut() {
                last.end = last.end.min(end);
            }
        }
        self.size = size;
    }
}

fn blocks_of(offset: u64, len: u64) -> Range<u64> {
    let block = BLOCK_BYTES as u64;
    offset / block..(offset + len).div_ceil(block)
}

/// A shape with those it had since it was last durable.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    medium: Shape,
    /// Later shapes, with when they came to be.
    pending: Vec<(u64, Shape)>,
}

impl Shapes {
    /// The running system's.
    pub(super) fn current(&self) -> &Shape {
        self.pending.last().map_or(&self.medium, |(_, shape)| shape)
    }

    /// Changes it, at `seq`.
    pub(super) fn change(&mut self, seq: u64, change: impl FnOnce(&mut Shape)) {
        let mut shape = self.current().clone();
        change(&mut shape);
        if shape != *self.current() {
            self.pending.push((seq, shape));
        }
    }

    /// What it was at `seq` is durable.
    pub(super) fn settle(&mut self, seq: u64) {
        let count = self.pending.partition_point(|(since, _)| *since <= seq);
        if let Some((_, shape)) = self.pending.drain(..count).next_back() {
            self.medium = shape;
        }
    }

    /// The power goes when this many changes have reached the medium. Tells since when the
    /// surviving shape was.
    pub(super) fn power_cut(&mut self, surviving: usize) -> u64 {
        let last = surviving.checked_sub(1).and_then(|i| self.pending.get(i));
        let since = last.map_or(0, |(since, _)| *since);
        self.settle(since);
        self.pending.clear();
        since
    }

    /// Number of changes that are not durable.
    pub(super) fn pending_count(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_are_cut() {
        let mut shape = Shape::default();
        shape.extend(0, 4096);
        shape.extend(3 * 4096, 4096);
        assert_eq!(shape.missing_bytes(0, 4 * 4096), 2 * 4096);
        shape.extend(4096, 2 * 4096);
        assert_eq!(shape.allocated_bytes(), 4 * 4096);
        shape.set_size(4097);
        assert_eq!((shape.size, shape.allocated_bytes()), (4097, 2 * 4096));
    }
}
