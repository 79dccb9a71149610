//! Memory for responses until they are written: for records from before these are read, for everything
//! else from when it is there.
//!
//! Whoever waits here holds nothing of it, and a response that was begun is cut to what there is
//! instead of waiting, so that no response waits for another. What is held is given back when the
//! response is written, or its connection ends: a client that takes nothing is closed after
//! `connections.max.idle.ms`, and after ten seconds where others wait for memory.
//!
//! A Metadata response of 10,000 partitions has 0.5 MB. With 24 MiB, a client that asks and never
//! reads finds no more room when 50 of them wait, whatever the number of its connections; then nobody's
//! request is looked at before one of those was written or closed. (Produce and Fetch go on: the
//! one's responses are smaller than its requests, which are charged as long, the other's take rooms.)

use std::pin::pin;

use futures_util::future::{Either, select};

use crate::rt::{Budget, Buf, Permit};

/// Less than this is not worth a read, unless the client wants no more.
const READ_BYTES_MIN: usize = 64 << 10;
/// A read of so many bytes of records may touch so many more: it begins at an entry of the sparse
/// index and at a block, and ends at a block.
const READ_BYTES_BESIDE: usize = 24 << 10;
/// One response takes at most this part of what is free, so that some that are not read leave room
/// for others.
const SHARE_OF_FREE: usize = 4;

/// The memory of one shard. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ResponseMemory {
    large: Budget,
    /// For responses of one small read, where the other is used up: nearly all of these leave at
    /// once, into the socket's buffer.
    small: Budget,
}

impl ResponseMemory {
    /// So many bytes, and so many beside for small responses.
    pub fn new(large_bytes: usize, small_bytes: usize) -> Self {
        Self {
            large: Budget::new(large_bytes),
            small: Budget::new(small_bytes),
        }
    }

    /// Waits, holding nothing, until a response may be made whose size is not known before.
    pub async fn some_left(&self) {
        self.large.some_left().await;
    }

    /// Whether somebody waits for memory.
    pub fn is_awaited(&self) -> bool {
        self.large.is_awaited()
    }

    /// Charges `bytes` of a response that is there, beside what is `held` for its records.
    pub fn charge(&self, held: Option<Permit>, bytes: usize) -> Permit {
        match held {
            Some(mut held) => {
                held.overdraw(bytes);
                held
            }
            None => self.large.charge(bytes),
        }
    }

    /// Room for one response.
    pub fn room(&self) -> ResponseRoom {
        ResponseRoom {
            memory: self.clone(),
            permit: None,
            spent: 0,
            is_small: false,
        }
    }
}

/// What one response holds.
#[derive(Debug)]
pub struct ResponseRoom {
    memory: ResponseMemory,
    permit: Option<Permit>,
    /// How much of the permit is for what was read.
    spent: usize,
    is_small: bool,
}

impl ResponseRoom {
    /// Takes memory to read up to `wanted` bytes of records, and says how many there may be; none
    /// when there is no memory worth a read. [`ResponseRoom::settle`] follows when they are read.
    pub fn take(&mut self, wanted: usize) -> Option<usize> {
        let wanted = wanted.saturating_add(READ_BYTES_BESIDE);
        let least = wanted.min(READ_BYTES_MIN);
        if self.unspent() < least {
            self.extend(wanted, least);
        }
        let taken = self.unspent().min(wanted);
        (taken >= least).then(|| taken - READ_BYTES_BESIDE)
    }

    /// What was read holds `used` bytes; the rest of what was taken is given back. A first batch
    /// that had to be whole may hold more than was taken.
    pub fn settle(&mut self, used: usize) {
        self.spent += used;
        if self.spent == 0 {
            return self.clear();
        }
        if let Some(permit) = &mut self.permit {
            match self.spent.checked_sub(permit.amount()) {
                Some(missing) if missing > 0 => permit.overdraw(missing),
                _ => permit.shrink_to(self.spent),
            }
        }
    }

    /// Gives everything back: what was read is dropped.
    pub fn clear(&mut self) {
        (self.permit, self.spent, self.is_small) = (None, 0, false);
    }

    /// Waits, holding nothing, until there is memory for a read, and takes it.
    pub async fn wait(&mut self) {
        self.clear();
        let large = pin!(self.memory.large.acquire(READ_BYTES_MIN));
        let small = pin!(self.memory.small.acquire(READ_BYTES_MIN));
        let (permit, is_small) = match select(large, small).await {
            Either::Left((permit, _)) => (permit, false),
            Either::Right((permit, _)) => (permit, true),
        };
        (self.permit, self.is_small) = (Some(permit), is_small);
    }

    /// For as long as the response is not written.
    pub fn take_permit(&mut self) -> Option<Permit> {
        let permit = self.permit.take();
        self.clear();
        permit
    }

    fn unspent(&self) -> usize {
        let held = self.permit.as_ref().map_or(0, Permit::amount);
        held.saturating_sub(self.spent)
    }

    fn extend(&mut self, wanted: usize, least: usize) {
        if self.is_small {
            return;
        }
        let large = &self.memory.large;
        let free = large.total().saturating_sub(large.taken());
        let share = (free / SHARE_OF_FREE).min(wanted);
        let permit = (share >= least).then(|| large.try_acquire(share)).flatten();
        match (permit, &mut self.permit) {
            (Some(more), Some(held)) => held.join(more),
            (Some(more), none) => *none = Some(more),
            (None, Some(_)) => {}
            (None, none) => {
                *none = self.memory.small.try_acquire(least);
                self.is_small = true;
            }
        }
    }
}

/// Bytes of memory that `pieces` keep; those that follow each other in the same memory count once.
pub fn memory_of(pieces: &[Buf]) -> usize {
    let mut bytes = 0;
    let mut before: Option<&Buf> = None;
    for piece in pieces {
        if !before.is_some_and(|before| before.shares_memory_with(piece)) {
            bytes += piece.memory_bytes();
        }
        before = Some(piece);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const BESIDE: usize = READ_BYTES_BESIDE;

    #[test]
    fn a_response_is_cut_to_a_part_of_what_is_free() {
        let memory = ResponseMemory::new(8 << 20, 128 << 10);
        let mut first = memory.room();
        assert_eq!(first.take(50 << 20), Some((2 << 20) - BESIDE));
        first.settle(2 << 20);
        let mut second = memory.room();
        assert_eq!(second.take(50 << 20), Some((6 << 20) / 4 - BESIDE));
        second.settle(10_000);
        assert_eq!(
            memory.large.taken(),
            (2 << 20) + 10_000,
            "the rest is given back"
        );
        drop((first, second));
        assert_eq!(memory.large.taken(), 0);
    }

    #[test]
    fn small_ones_get_through_where_large_ones_are_not_read() {
        let memory = ResponseMemory::new(1 << 20, 128 << 10);
        let mut unread = Vec::new();
        loop {
            let mut room = memory.room();
            if room.take(1 << 20).is_none() || room.is_small {
                break;
            }
            room.settle(room.unspent());
            unread.push(room);
        }
        assert!(memory.large.taken() > 700 << 10);
        let mut room = memory.room();
        let small = READ_BYTES_MIN - BESIDE;
        assert_eq!(room.take(1 << 20), Some(small));
        room.settle(READ_BYTES_MIN);
        assert_eq!(room.take(1 << 20), None, "it takes no second read");
        drop(unread);
        assert_eq!(memory.room().take(1 << 20), Some((1 << 20) / 4 - BESIDE));
    }

    #[test]
    fn what_is_too_large_is_paid_back_before_the_next_one_reads() {
        let memory = ResponseMemory::new(512 << 10, 64 << 10);
        let mut whole = memory.room();
        assert!(whole.take(100).is_some());
        whole.settle(3 << 20);
        assert_eq!(memory.large.taken(), 3 << 20);
        let mut small = memory.room();
        assert!(small.take(1 << 20).is_some());
        let mut next = memory.room();
        assert_eq!(next.take(1 << 20), None);
        let mut waiting = Box::pin(next.wait());
        assert!((&mut waiting).now_or_never().is_none());
        drop(whole);
        assert!((&mut waiting).now_or_never().is_some());
        drop(waiting);
        assert!(next.take(1 << 20).is_some(), "what was waited for is there");
    }

    #[test]
    fn what_is_not_read_keeps_the_next_response_from_being_made() {
        let memory = ResponseMemory::new(1 << 20, 128 << 10);
        let unread: Vec<_> = (0..2).map(|_| memory.charge(None, 600 << 10)).collect();
        let mut next = Box::pin(memory.some_left());
        assert!((&mut next).now_or_never().is_none());
        assert!(memory.is_awaited());
        let mut room = memory.room();
        assert!(room.take(1000).is_some(), "a small read goes on");
        room.settle(1000);
        let held = memory.charge(room.take_permit(), 500);
        assert_eq!(memory.small.taken(), 1500);
        drop(unread);
        assert!(next.now_or_never().is_some());
        drop(held);
        assert_eq!((memory.large.taken(), memory.small.taken()), (0, 0));
    }

    #[test]
    fn memory_is_counted_once() {
        let (one, other) = (Buf::from_vec(vec![0; 100]), Buf::from_vec(vec![0; 10]));
        let pieces = [one.slice(0..10), one.slice(20..30), other.slice(0..1)];
        assert_eq!(memory_of(&pieces), 110);
    }
}
