//! Which blocks of a region are free: a buddy allocator over block numbers, without memory.
//!
//! A range takes exactly the blocks it asks for: what the power of two around it has too many is
//! given back at once. Low numbers go first, so that used blocks stay together.

use std::collections::BTreeSet;

/// Orders of free ranges: 2⁰ to 2^(ORDERS-1) blocks.
const ORDERS: usize = 14;
/// Blocks of a region.
pub(super) const REGION_BLOCKS: u32 = 1 << (ORDERS - 1);

/// Free blocks of one region.
#[derive(Debug)]
pub(super) struct Buddy {
    /// First blocks of free ranges, by order; a range starts at a multiple of its length.
    free: [BTreeSet<u32>; ORDERS],
}

impl Buddy {
    /// A region with everything free.
    pub(super) fn new() -> Self {
        let mut free: [BTreeSet<u32>; ORDERS] = Default::default();
        free[ORDERS - 1].insert(0);
        Self { free }
    }

    /// The first of `blocks` neighbouring blocks, which start at a multiple of the power of two
    /// that holds them; none when no such range is free.
    pub(super) fn take(&mut self, blocks: u32) -> Option<u32> {
        let order = blocks.checked_next_power_of_two()?.trailing_zeros() as usize;
        let found = (order..ORDERS).find(|order| !self.free[*order].is_empty())?;
        let first = self.free[found].pop_first()?;
        for smaller in order..found {
            self.free[smaller].insert(first + (1 << smaller));
        }
        self.put(first + blocks, (1 << order) - blocks);
        Some(first)
    }

    /// Gives back blocks; they may be a part of what was taken together.
    pub(super) fn put(&mut self, mut first: u32, mut blocks: u32) {
        while blocks > 0 {
            let fits = blocks.ilog2();
            let order = first.trailing_zeros().min(fits).min(ORDERS as u32 - 1);
            self.put_range(first, order as usize);
            first += 1 << order;
            blocks -= 1 << order;
        }
    }

    fn put_range(&mut self, mut first: u32, mut order: usize) {
        while order + 1 < ORDERS && self.free[order].remove(&(first ^ (1 << order))) {
            first &= !(1 << order);
            order += 1;
        }
        self.free[order].insert(first);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn free_blocks(buddy: &Buddy) -> u32 {
        let count = |(order, ranges): (usize, &BTreeSet<u32>)| (ranges.len() << order) as u32;
        buddy.free.iter().enumerate().map(count).sum()
    }

    #[test]
    fn a_range_costs_what_it_asks_for() {
        let mut buddy = Buddy::new();
        assert_eq!(buddy.take(3), Some(0));
        assert_eq!(free_blocks(&buddy), REGION_BLOCKS - 3);
        assert_eq!(buddy.take(1), Some(3));
        assert_eq!(buddy.take(REGION_BLOCKS / 2), Some(REGION_BLOCKS / 2));
        assert_eq!(buddy.take(REGION_BLOCKS / 2), None);
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_merge_back(
            steps in prop::collection::vec((1..700u32, any::<bool>(), any::<prop::sample::Index>()), 1..200)
        ) {
            let mut buddy = Buddy::new();
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (blocks, give_back, which) in steps {
                if give_back && !taken.is_empty() {
                    let (first, blocks) = taken.swap_remove(which.index(taken.len()));
                    buddy.put(first, blocks);
                } else if let Some(first) = buddy.take(blocks) {
                    prop_assert!(first + blocks <= REGION_BLOCKS);
                    prop_assert_eq!(first % blocks.next_power_of_two(), 0);
                    for (other, length) in &taken {
                        prop_assert!(first + blocks <= *other || other + length <= first);
                    }
                    taken.push((first, blocks));
                }
                let used: u32 = taken.iter().map(|(_, blocks)| blocks).sum();
                prop_assert_eq!(free_blocks(&buddy), REGION_BLOCKS - used);
            }
            for (first, blocks) in taken {
                buddy.put(first, blocks);
            }
            prop_assert_eq!(buddy.take(REGION_BLOCKS), Some(0));
        }
    }
}
