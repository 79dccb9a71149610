//! Memory of the tails: which chunks may be given up, and who must move so that more may.

use std::rc::{Rc, Weak};

use crate::log::partition::move_plan::Urgency;
use crate::log::shard::core::Core;
use crate::log::shard::log_inner::LogInner;
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
                partition.state.borrow_mut().evict_chunk();
            }
        }
    }

    /// Lets the next partitions that have bytes to move do so; those that cannot move all of them
    /// yet have another turn after the others.
    pub fn press_moves(&self) {
        const AT_ONCE: usize = 64;
        let pressed: Vec<_> = {
            let mut behind = self.behind.borrow_mut();
            let count = behind.len().min(AT_ONCE);
            behind.drain(..count).collect()
        };
        for partition in pressed.iter().filter_map(Weak::upgrade) {
            partition.work.is_listed_behind.set(false);
            if partition.state.borrow().is_behind() {
                partition.list_behind();
                partition.request_move(Urgency::Everything);
            }
        }
    }
}

impl<R: Runtime> LogInner<R> {
    /// Lists the chunks whose last bytes are written back as such that may be given up.
    pub fn release_chunks(self: &Rc<Self>) {
        let released = self.state.borrow_mut().release_chunks();
        let owners = std::iter::repeat_n(Rc::downgrade(self), released);
        self.core.evictable.borrow_mut().extend(owners);
    }

    /// Lists the partition among those that have bytes to write back, unless it is listed.
    pub fn list_behind(self: &Rc<Self>) {
        if !self.work.is_listed_behind.replace(true) {
            let entry = Rc::downgrade(self);
            self.core.behind.borrow_mut().push_back(entry);
        }
    }
}
