//! Memory of the tails: which chunks may be given up, and who must move so that more may.

use std::rc::{Rc, Weak};

use crate::log::partition::move_plan::Urgency;
use crate::log::partition::state::{LogInner, State};
use crate::log::shard::core::Core;
use crate::rt::{Permit, Runtime};

impl<R: Runtime> Core<R> {
    /// Tail memory of `bytes`, if it is there or can be made by evicting what is in segments.
    pub fn try_memory(&self, bytes: usize) -> Option<Permit> {
        if let Some(permit) = self.tail_memory.try_acquire(bytes) {
            return Some(permit);
        }
        self.evict(bytes);
        self.tail_memory.try_acquire(bytes)
    }

    /// Gives up chunks that may be, until `bytes` are free.
    pub fn evict(&self, bytes: usize) {
        let has_room = || self.tail_memory.taken() + bytes <= self.tail_memory.total();
        while !has_room() {
            let Some(owner) = self.evictable.borrow_mut().pop_front() else {
                return;
            };
            if let Some(partition) = owner.upgrade() {
                partition.evict_chunk();
            }
        }
    }

    /// Lets the next partitions that have bytes to move do so; those that cannot move all of them
    /// yet have another turn after the others.
    pub fn press_moves(&self) {
        const AT_ONCE: usize = 64;
        let pressed: Vec<_> = {
            let mut unmoved = self.with_unmoved.borrow_mut();
            let count = unmoved.len().min(AT_ONCE);
            unmoved.drain(..count).collect()
        };
        for partition in pressed.iter().filter_map(Weak::upgrade) {
            let mut state = partition.state.borrow_mut();
            state.is_listed_unmoved = false;
            if state.moved < state.tail.end() {
                partition.list_unmoved(&mut state);
                drop(state);
                partition.request_move(Urgency::Everything);
            }
        }
    }
}

impl<R: Runtime> LogInner<R> {
    /// Lists the chunks whose last bytes have moved as such that may be given up.
    pub fn release_chunks(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let moved = state.moved;
        let released = state.tail.release(moved);
        let owners = std::iter::repeat_n(Rc::downgrade(self), released);
        self.core.evictable.borrow_mut().extend(owners);
    }

    /// Gives up the oldest chunk of the tail, if everything in it is still in segment files.
    pub fn evict_chunk(&self) {
        let mut state = self.state.borrow_mut();
        let moved = state.moved;
        state.tail.evict(moved);
    }

    /// Lists the partition among those that have bytes to move, unless it is listed.
    pub fn list_unmoved(self: &Rc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.is_listed_unmoved, true) {
            let entry = Rc::downgrade(self);
            self.core.with_unmoved.borrow_mut().push_back(entry);
        }
    }
}
