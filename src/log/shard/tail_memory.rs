//! Memory of all tails of a shard: taken for batches to come, given up chunk by chunk.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::model::PartitionSlot;
use crate::rt::{Budget, Mutex, Permit};

/// The memory, and which of it may be given up.
pub struct TailMemory {
    budget: Budget,
    /// The owner of each chunk that may be given up, in the order in which their last bytes were written
    /// back.
    evictable: RefCell<VecDeque<PartitionSlot>>,
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
            let Some(owner) = self.evictable.borrow_mut().pop_front() else {
                return;
            };
            evict(owner);
        }
    }

    /// So many more chunks of a partition may be given up.
    pub fn release(&self, owner: PartitionSlot, chunks: usize) {
        if chunks > 0 {
            let owners = std::iter::repeat_n(owner, chunks);
            self.evictable.borrow_mut().extend(owners);
            self.look_again();
        }
    }

    /// A partition with so many chunks is gone. The list is rid of such when they may be half of it, so
    /// that each costs no more than a look at two entries.
    pub fn owner_gone(&self, chunks: usize, is_there: impl Fn(PartitionSlot) -> bool) {
        self.gone.set(self.gone.get() + chunks);
        let mut evictable = self.evictable.borrow_mut();
        if self.gone.get() * 2 >= evictable.len() {
            evictable.retain(|owner| is_there(*owner));
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
        (0..4).for_each(|at| memory.release(slot(at), 2));
        memory.owner_gone(2, |owner| owner != slot(1));
        assert_eq!(memory.evictable.borrow().len(), 8, "it is not worth it yet");
        memory.owner_gone(2, |owner| owner != slot(1) && owner != slot(2));
        let left: Vec<_> = memory.evictable.borrow().iter().copied().collect();
        assert_eq!(left, [slot(0), slot(0), slot(3), slot(3)]);
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
}
