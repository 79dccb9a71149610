//! Memory of all tails of a shard: taken for batches to come, given up chunk by chunk.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::model::PartitionSlot;
use crate::rt::{Budget, Mutex, Permit};

/// The part of the whole that is to be available.
const LOW_PART: usize = 4;
/// The part of what is available that one partition may take ahead.
const GROWTH_PART: usize = 2048;

/// The memory, and which of it may be given up.
pub struct TailMemory {
    budget: Budget,
    /// Chunks that may be given up: the owner and the size of each, in the order in which their last bytes
    /// were written back.
    evictable: RefCell<VecDeque<(PartitionSlot, usize)>>,
    /// Their sizes together. Some may have grown since, and cannot be given up.
    evictable_bytes: Cell<usize>,
    /// How many of them are of partitions that are gone, at most.
    gone: Cell<usize>,
    /// Whose turn it is to wait for memory piece by piece: two could take each other's last piece.
    pub turn: Mutex,
}

impl TailMemory {
    /// So many bytes, none of them taken.
    pub fn new(total_bytes: usize) -> Self {
        Self {
            budget: Budget::new(total_bytes),
            evictable: RefCell::default(),
            evictable_bytes: Cell::new(0),
            gone: Cell::new(0),
            turn: Mutex::new(),
        }
    }

    /// Memory of `bytes`, if it is there or can be made by giving up what is in segments. `evict` has a
    /// partition give up its oldest chunk.
    pub fn take(&self, bytes: usize, evict: impl Fn(PartitionSlot)) -> Option<Permit> {
        if let Some(permit) = self.budget.try_acquire(bytes) {
            return Some(permit);
        }
        self.evict(bytes, evict);
        self.budget.try_acquire(bytes)
    }

    /// Gives up chunks that may be, until `bytes` are free.
    pub fn evict(&self, bytes: usize, evict: impl Fn(PartitionSlot)) {
        while self.is_short_of(bytes) {
            let Some((owner, chunk_bytes)) = self.evictable.borrow_mut().pop_front() else {
                return;
            };
            let left = self.evictable_bytes.get() - chunk_bytes;
            self.evictable_bytes.set(left);
            evict(owner);
        }
    }

    /// More chunks of a partition, of these sizes, may be given up.
    pub fn release(&self, owner: PartitionSlot, chunks: impl IntoIterator<Item = usize>) {
        let mut evictable = self.evictable.borrow_mut();
        let before = evictable.len();
        for chunk_bytes in chunks {
            evictable.push_back((owner, chunk_bytes));
            let now = self.evictable_bytes.get() + chunk_bytes;
            self.evictable_bytes.set(now);
        }
        let is_more = evictable.len() > before;
        drop(evictable);
        if is_more {
            self.look_again();
        }
    }

    /// A partition with so many chunks is gone. The list is rid of such when they may be half of it, so
    /// that each costs no more than a look at two entries.
    pub fn owner_gone(&self, chunks: usize, is_there: impl Fn(PartitionSlot) -> bool) {
        self.gone.set(self.gone.get() + chunks);
        let mut evictable = self.evictable.borrow_mut();
        if self.gone.get() * 2 >= evictable.len() {
            evictable.retain(|(owner, _)| is_there(*owner));
            let left = evictable.iter().map(|(_, chunk_bytes)| chunk_bytes).sum();
            self.evictable_bytes.set(left);
            self.gone.set(0);
        }
        drop(evictable);
        self.look_again();
    }

    /// Waits for memory of `bytes`. `look` is asked before each look, and has more written back where there
    /// is too little ([`TailMemory::is_short_of`]).
    ///
    /// # Errors
    /// What `look` gives.
    pub async fn wait<E>(
        &self,
        bytes: usize,
        look: impl FnMut() -> Result<(), E>,
    ) -> Result<Permit, E> {
        self.budget.acquire_unless(bytes, look).await
    }

    /// What is free, or would be once everything is given up that may be.
    fn available_bytes(&self) -> usize {
        let kept = self.budget.taken() - self.evictable_bytes.get().min(self.budget.taken());
        self.budget.total().saturating_sub(kept)
    }

    /// Whether so little is available that more is to be written back, before anybody has to wait for it.
    ///
    /// An example, of 256 MiB: 200 are of chunks that were not written back yet. 56 are available, less than
    /// a quarter. Where 20 of the 200 are written back, it is 76.
    pub fn is_low(&self) -> bool {
        self.available_bytes() < self.budget.total() / LOW_PART
    }

    /// How large a chunk may be that is taken for batches to come. A part of what is available, so that
    /// where many partitions share it, each has a few chunks that come and go one by one, and not one
    /// that all of its batches are in, which cannot be given up while it grows.
    ///
    /// An example, of 256 MiB: 128 KiB while all of it is available; of the last 16 MiB 8 KiB.
    pub fn growth_bytes(&self) -> usize {
        self.available_bytes() / GROWTH_PART
    }

    /// Whether fewer than so many bytes are free.
    pub fn is_short_of(&self, bytes: usize) -> bool {
        self.budget.taken() + bytes > self.budget.total()
    }

    /// What is taken of it.
    #[cfg(test)]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// There may be more that can be given up or written back: whoever waits looks again.
    pub fn look_again(&self) {
        self.budget.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_leaves_the_list() {
        let slot = PartitionSlot::of_test;
        let memory = TailMemory::new(100);
        (0..4).for_each(|at| memory.release(slot(at), [10, 10]));
        memory.owner_gone(2, |owner| owner != slot(1));
        assert_eq!(memory.evictable.borrow().len(), 8, "it is not worth it yet");
        memory.owner_gone(2, |owner| owner != slot(1) && owner != slot(2));
        let owners = |(owner, _): &(PartitionSlot, usize)| *owner;
        let left: Vec<_> = memory.evictable.borrow().iter().map(owners).collect();
        assert_eq!(left, [slot(0), slot(0), slot(3), slot(3)]);
        assert_eq!(memory.evictable_bytes.get(), 40);
        let held = memory.take(90, |_| unreachable!("there is room")).unwrap();
        let asked = RefCell::new(Vec::new());
        assert!(
            memory
                .take(20, |owner| asked.borrow_mut().push(owner))
                .is_none()
        );
        assert_eq!(asked.take(), left, "none of them had anything");
        drop(held);
    }

    /// The examples at [`TailMemory::is_low`] and [`TailMemory::growth_bytes`].
    #[test]
    fn what_may_be_given_up_is_available() {
        const MIB: usize = 1 << 20;
        let slot = PartitionSlot::of_test(1);
        let memory = TailMemory::new(256 * MIB);
        assert_eq!((memory.is_low(), memory.growth_bytes()), (false, 128 << 10));
        let mut taken = vec![memory.take(200 * MIB, |_| ()).unwrap()];
        assert!(memory.is_low());
        memory.release(slot, [20 * MIB]);
        assert!(!memory.is_low());
        taken.push(memory.take(56 * MIB, |_| ()).unwrap());
        assert_eq!(memory.growth_bytes(), 10 << 10);
        memory.evict(1, |_| ());
        assert_eq!(
            memory.available_bytes(),
            0,
            "it had grown: nothing came back"
        );
    }
}
