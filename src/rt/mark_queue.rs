//! Waiting until a mark has passed a point, without looking again each time it moves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Those who wait for a mark to reach a point, in the order of the points: a mark that moves takes
/// from the front whom it concerns and looks at nobody else.
///
/// Three batches end at 10, 12 and 20. The mark moves to 12: the first two are popped, and their
/// requests woken if nothing else is left for them to wait for; the third costs one comparison.
#[derive(Debug)]
pub struct MarkQueue<M> {
    waiting: RefCell<VecDeque<(M, Rc<Shared>)>>,
}

/// Waits in any number of [`MarkQueue`]s and is woken once: when all of them have let it go.
///
/// Those of a latch that was dropped leave the queues when these would have to grow.
#[derive(Debug, Default)]
pub struct Latch {
    shared: Rc<Shared>,
    home: Option<Latches>,
}

/// Latches in memory that is used again. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Latches {
    idle: Rc<RefCell<Vec<Rc<Shared>>>>,
}

/// The memory of so many is kept.
const IDLE_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Shared {
    left: Cell<usize>,
    is_abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl<M> Default for MarkQueue<M> {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
        }
    }
}

impl<M: Ord + Copy> MarkQueue<M> {
    /// Has `latch` wait for the mark to reach `point`. The caller has seen that it is below.
    pub fn join(&self, point: M, latch: &Latch) {
        let shared = &latch.shared;
        shared.left.set(shared.left.get() + 1);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() == waiting.capacity() {
            waiting.retain(|(_, shared)| !shared.is_abandoned.get());
        }
        let is_last = waiting.back().is_none_or(|(last, _)| *last <= point);
        match is_last {
            true => waiting.push_back((point, shared.clone())),
            false => {
                let at = waiting.partition_point(|(other, _)| *other <= point);
                waiting.insert(at, (point, shared.clone()));
            }
        }
    }

    /// The mark is here now.
    pub fn reach(&self, mark: M) {
        let next = || {
            let mut waiting = self.waiting.borrow_mut();
            waiting.pop_front_if(|(point, _)| *point <= mark)
        };
        while let Some((_, shared)) = next() {
            shared.let_go();
        }
    }

    /// The mark will not move any more: everyone goes, and sees why.
    pub fn release_all(&self) {
        for (_, shared) in self.waiting.take() {
            shared.let_go();
        }
    }
}

impl Latches {
    /// A latch that nothing holds.
    pub fn take(&self) -> Latch {
        Latch {
            shared: self.idle.borrow_mut().pop().unwrap_or_default(),
            home: Some(self.clone()),
        }
    }
}

impl Latch {
    /// Completes when no queue holds it.
    pub async fn wait(&self) {
        poll_fn(|context| match self.shared.left.get() {
            0 => Poll::Ready(()),
            _ => {
                self.shared.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }

    /// Whether some queue holds it.
    pub fn is_held(&self) -> bool {
        self.shared.left.get() > 0
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.shared.waker.take();
        // A queue that still holds it will find it abandoned.
        let is_held = Rc::strong_count(&self.shared) > 1;
        self.shared.is_abandoned.set(is_held);
        if let Some(Latches { idle }) = self.home.take().filter(|_| !is_held) {
            let mut idle = idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                idle.push(self.shared.clone());
            }
        }
    }
}

impl Shared {
    fn let_go(&self) {
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_free(latch: &Latch) -> bool {
        latch.wait().now_or_never().is_some()
    }

    #[test]
    fn a_mark_lets_go_whom_it_has_passed_in_any_order_of_joining() {
        let queue = MarkQueue::default();
        let latches = [20, 10, 30, 10].map(|point| {
            let latch = Latch::default();
            queue.join(point, &latch);
            latch
        });
        queue.reach(9);
        assert!(latches.iter().all(Latch::is_held));
        queue.reach(20);
        assert_eq!(latches.each_ref().map(is_free), [true, true, false, true]);
        queue.release_all();
        assert!(is_free(&latches[2]));
    }

    #[test]
    fn a_latch_waits_for_the_last_queue() {
        let (first, second) = (MarkQueue::default(), MarkQueue::default());
        let latch = Latch::default();
        assert!(is_free(&latch), "nothing to wait for");
        first.join(1, &latch);
        first.join(2, &latch);
        second.join(5, &latch);
        first.reach(2);
        assert!(!is_free(&latch));
        second.reach(5);
        assert!(is_free(&latch));
    }

    #[test]
    fn a_latch_that_nothing_holds_is_used_again() {
        let (queue, latches) = (MarkQueue::default(), Latches::default());
        let latch = latches.take();
        queue.join(5, &latch);
        drop(latch);
        let other = latches.take();
        queue.join(7, &other);
        queue.reach(5);
        assert!(other.is_held(), "the abandoned one was not this one");
        queue.reach(7);
        assert!(is_free(&other));
        let shared = Rc::as_ptr(&other.shared);
        drop(other);
        let again = latches.take();
        assert_eq!(Rc::as_ptr(&again.shared), shared);
        assert!(is_free(&again));
    }

    #[test]
    fn a_mark_that_stands_still_gathers_no_dead() {
        let queue = MarkQueue::default();
        let held = Latch::default();
        queue.join(1, &held);
        for point in 0..1000 {
            queue.join(point, &Latch::default());
        }
        let waiting = queue.waiting.borrow().len();
        assert!(waiting < 20, "{waiting}");
        queue.reach(1);
        assert!(is_free(&held));
    }
}
