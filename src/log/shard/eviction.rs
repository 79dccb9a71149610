//! Memory of the tails: which chunks may be given up, and what must be written back so that more may.

use std::ops::Bound;
use std::rc::Rc;

use crate::log::partition::write_back_plan::Urgency;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::storage::ShardStorage;
use crate::rt::{Permit, Runtime};

impl<R: Runtime> ShardStorage<R> {
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

    /// Lets the next partitions that have bytes to write back do so; the others have their turn at the
    /// next call.
    pub fn press_write_back(&self) {
        const AT_ONCE: usize = 64;
        let pressed: Vec<_> = {
            let waiting = self.waiting.borrow();
            let behind = match self.pressed_to.get() {
                Some(last) => (Bound::Excluded(last), Bound::Unbounded),
                None => (Bound::Unbounded, Bound::Unbounded),
            };
            let next = waiting.range(behind).take(AT_ONCE);
            next.map(|(key, partition)| (*key, partition.clone()))
                .collect()
        };
        // From the front again, behind the last of them.
        let last = pressed.last().map(|(key, _)| *key);
        self.pressed_to
            .set(last.filter(|_| pressed.len() == AT_ONCE));
        for partition in pressed
            .iter()
            .filter_map(|(_, partition)| partition.upgrade())
        {
            partition.request_write_back(Urgency::Everything);
        }
    }
}

impl<R: Runtime> OpenLog<R> {
    /// Lists the chunks whose last bytes are written back as such that may be given up.
    pub fn release_chunks(self: &Rc<Self>) {
        let released = self.state.borrow_mut().release_chunks();
        let owners = std::iter::repeat_n(Rc::downgrade(self), released);
        self.storage.evictable.borrow_mut().extend(owners);
    }

    /// Lists the partition by what only the journal has of it, if anything.
    pub fn list_waiting(self: &Rc<Self>) {
        let first = {
            let state = self.state.borrow();
            state.needs_journal_from().filter(|_| state.is_usable())
        };
        let listed = self.work.listed.replace(first);
        if listed == first {
            return;
        }
        let mut waiting = self.storage.waiting.borrow_mut();
        if let Some(listed) = listed {
            waiting.remove(&(listed, self.id));
        }
        if let Some(first) = first {
            waiting.insert((first, self.id), Rc::downgrade(self));
        }
    }
}
