//! What is to be written back, and in which order: whose turn it is, and what the journal waits for.
//!
//! | question | list |
//! |---|---|
//! | who is written back next | a queue: where enough has gathered, a segment has ended, or it was asked for |
//! | what does only the journal have | by the earliest write that may hold some of it: what the journal wants to forget first |
//!
//! An example. The partitions in slots 1, 2 and 3 have what only the journal has from writes 7, 7 and 9
//! on. The journal can forget what lies before 7. Slots 1 and 2 are written back: now it is 9, and
//! whoever waits for 8 or 9 goes on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::log::journal::Sequence;
use crate::model::{PartitionId, PartitionSlot};
use crate::rt::{Event, Latch, MarkQueue, Mutex, MutexGuard};

/// A partition's place among those of which only the journal has something.
pub type BacklogKey = (Sequence, PartitionId);

/// Write-backs of a shard that are due.
#[derive(Debug)]
pub struct Backlog {
    queue: RefCell<VecDeque<PartitionSlot>>,
    /// Notified when there is something in `queue`, one task for one, and when there will never be.
    queued: Event,
    waiting: RefCell<BTreeMap<BacklogKey, PartitionSlot>>,
    /// Where the last [`Backlog::next_pressed`] ended in it.
    pressed_to: Cell<Option<BacklogKey>>,
    /// Who waits for the first of `waiting` to be another.
    passed: MarkQueue<Mark>,
    /// Everything listed below is wanted in segments. Where a batch follows that is not journaled yet, a
    /// partition's unfinished block cannot be written back: it is asked for again when that one is.
    target: Cell<Sequence>,
    turn: Mutex,
}

/// What is listed below a write is wanted in segments, until this is dropped.
pub struct Aim<'a> {
    backlog: &'a Backlog,
    _turn: MutexGuard,
}

impl Drop for Aim<'_> {
    fn drop(&mut self) {
        self.backlog.target.set(Sequence(0));
    }
}

/// Where the first of [`Backlog::waiting`] is; nowhere is beyond all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    At(BacklogKey),
    Nowhere,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            queue: RefCell::default(),
            queued: Event::new(),
            waiting: RefCell::default(),
            pressed_to: Cell::new(None),
            passed: MarkQueue::default(),
            target: Cell::new(Sequence(0)),
            turn: Mutex::new(),
        }
    }
}

impl Backlog {
    /// Puts a partition at the end of the queue.
    pub fn push(&self, slot: PartitionSlot) {
        self.queue.borrow_mut().push_back(slot);
        self.queued.notify_one();
    }

    /// How many are in the queue.
    pub fn queue_len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// The next of the queue; none once `is_over`, which is asked again behind [`Backlog::wake_all`].
    pub async fn next(&self, is_over: impl Fn() -> bool) -> Option<PartitionSlot> {
        let look = || match is_over() {
            true => Some(None),
            false => self.queue.borrow_mut().pop_front().map(Some),
        };
        self.queued.wait_until(look).await
    }

    /// Whoever waits looks again: nothing is written back any more.
    pub fn wake_all(&self) {
        self.queued.notify();
        self.passed.release_all();
    }

    /// Moves a partition from its place among those of which only the journal has something to another.
    pub fn relist(
        &self,
        id: PartitionId,
        slot: PartitionSlot,
        before: Option<Sequence>,
        now: Option<Sequence>,
    ) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(before) = before {
            waiting.remove(&(before, id));
        }
        if let Some(now) = now {
            waiting.insert((now, id), slot);
        }
        drop(waiting);
        self.passed.reach(self.first());
    }

    /// The earliest journal write that may hold what no segment file has.
    pub fn oldest(&self) -> Option<Sequence> {
        let waiting = self.waiting.borrow();
        waiting.first_key_value().map(|((first, _), _)| *first)
    }

    /// Has everything that is listed below a write be wanted; one at a time does.
    pub async fn aim(&self, target: Sequence) -> Aim<'_> {
        let turn = self.turn.lock().await;
        self.target.set(target);
        Aim {
            backlog: self,
            _turn: turn,
        }
    }

    /// Whether a partition that is listed there is wanted in its segment.
    pub fn is_wanted(&self, listed: Option<Sequence>) -> bool {
        listed.is_some_and(|first| first < self.target.get())
    }

    /// The first partitions of which only the journal has something below a write, at most so many.
    pub fn below(&self, target: Sequence, count: usize) -> Vec<(BacklogKey, PartitionSlot)> {
        let waiting = self.waiting.borrow();
        let below = waiting.iter().take_while(|((first, _), _)| *first < target);
        below.take(count).map(|(key, slot)| (*key, *slot)).collect()
    }

    /// Completes when nothing is listed before `key` any more, or nothing is written back any more.
    pub async fn wait_passed(&self, key: BacklogKey) {
        if self.first() < Mark::At(key) {
            let latch = Latch::default();
            self.passed.join(Mark::At(key), &latch);
            latch.wait().await;
        }
    }

    /// The next partitions of which only the journal has something; the others have their turn at the next
    /// call.
    pub fn next_pressed(&self, count: usize) -> Vec<PartitionSlot> {
        let waiting = self.waiting.borrow();
        let behind = match self.pressed_to.get() {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let mut last = None;
        let next = waiting.range(behind).take(count).map(|(key, slot)| {
            last = Some(*key);
            *slot
        });
        let next: Vec<_> = next.collect();
        // From the front again, behind the last of them.
        self.pressed_to.set(last.filter(|_| next.len() == count));
        next
    }

    fn first(&self) -> Mark {
        let waiting = self.waiting.borrow();
        let first = waiting.first_key_value();
        first.map_or(Mark::Nowhere, |(key, _)| Mark::At(*key))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::{PartitionIndex, TopicId};

    fn id(index: i32) -> PartitionId {
        PartitionId {
            topic: TopicId::ZERO,
            index: PartitionIndex(index),
        }
    }

    fn slot(at: u32) -> PartitionSlot {
        PartitionSlot::of_test(at)
    }

    fn list(backlog: &Backlog, at: u32, before: Option<u64>, now: Option<u64>) {
        let (before, now) = (before.map(Sequence), now.map(Sequence));
        backlog.relist(id(at as i32), slot(at), before, now);
    }

    /// The example at the top of this file.
    #[test]
    fn who_waits_goes_on_when_all_before_are_written_back() {
        let backlog = Backlog::default();
        for (at, first) in [(1, 7), (2, 7), (3, 9)] {
            list(&backlog, at, None, Some(first));
        }
        assert_eq!(backlog.oldest(), Some(Sequence(7)));
        let below = backlog.below(Sequence(8), 9);
        assert!(below.iter().map(|(_, slot)| *slot).eq([slot(1), slot(2)]));
        let key = (Sequence(8), id(0));
        let mut waits = Box::pin(backlog.wait_passed(key));
        assert!((&mut waits).now_or_never().is_none());
        list(&backlog, 1, Some(7), None);
        assert!((&mut waits).now_or_never().is_none());
        list(&backlog, 2, Some(7), Some(10));
        assert!(waits.now_or_never().is_some());
        assert!(
            backlog
                .wait_passed((Sequence(9), id(3)))
                .now_or_never()
                .is_some()
        );
        let mut last = Box::pin(backlog.wait_passed((Sequence(11), id(0))));
        assert!((&mut last).now_or_never().is_none());
        backlog.wake_all();
        assert!(
            last.now_or_never().is_some(),
            "nothing is written back any more"
        );
    }

    #[test]
    fn one_at_a_time_wants_what_lies_below() {
        let backlog = Backlog::default();
        assert!(!backlog.is_wanted(Some(Sequence(0))));
        let aim = backlog.aim(Sequence(8)).now_or_never().unwrap();
        let is_wanted = |first| backlog.is_wanted(Some(Sequence(first)));
        assert_eq!(
            (is_wanted(7), is_wanted(8), backlog.is_wanted(None)),
            (true, false, false)
        );
        assert!(backlog.aim(Sequence(9)).now_or_never().is_none());
        drop(aim);
        assert!(!is_wanted(7));
        assert!(backlog.aim(Sequence(9)).now_or_never().is_some());
    }

    #[test]
    fn everybody_is_pressed_in_turn() {
        let backlog = Backlog::default();
        (0..5).for_each(|at| list(&backlog, at, None, Some(u64::from(at))));
        let turns: Vec<_> = (0..4).map(|_| backlog.next_pressed(2)).collect();
        let slots = |ats: &[u32]| Vec::from_iter(ats.iter().map(|at| slot(*at)));
        assert_eq!(
            turns,
            [slots(&[0, 1]), slots(&[2, 3]), slots(&[4]), slots(&[0, 1])]
        );
    }

    #[test]
    fn the_queue_is_first_come_first_served_until_it_is_over() {
        let backlog = Backlog::default();
        backlog.push(slot(4));
        backlog.push(slot(2));
        let next = || backlog.next(|| false).now_or_never();
        assert_eq!(
            (next(), next(), next()),
            (Some(Some(slot(4))), Some(Some(slot(2))), None)
        );
        assert_eq!(backlog.next(|| true).now_or_never(), Some(None));
    }
}
