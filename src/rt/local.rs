//! Waiting within one shard: no atomics, no locks, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Room for so many waiters is kept for those who wait next: one that is notified for each request
/// would take memory as often.
const KEPT_ROOM: usize = 64;

/// A moment that tasks of a shard wait for. Holds no state: waiters look at theirs.
#[derive(Default)]
pub struct Event {
    wakers: RefCell<Vec<Waker>>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.wakers.borrow().len();
        write!(f, "Event({waiting} waiting)")
    }
}

impl Event {
    /// An event nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every waiter look again.
    pub fn notify(&self) {
        let mut wakers = self.wakers.take();
        wakers.drain(..).for_each(Waker::wake);
        let mut waiting = self.wakers.borrow_mut();
        if waiting.capacity() == 0 && wakers.capacity() <= KEPT_ROOM {
            *waiting = wakers;
        }
    }

    /// Lets one waiter look again, whichever.
    pub fn notify_one(&self) {
        let one = self.wakers.borrow_mut().pop();
        if let Some(waker) = one {
            waker.wake();
        }
    }

    /// Completes when `look` finds something: now, or after some later [`Event::notify`].
    pub async fn wait_until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| {
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Those who wait for the same thing, in the order of asking: one is woken at a time, and lets the next
/// one look when it goes.
///
/// Three wait for 4, 1 and 1 of something. 2 come back: the first is woken, looks, and goes on waiting;
/// the others sleep. 2 more come back: it takes its 4 and goes, and the second looks.
#[derive(Default)]
pub struct Line {
    /// By ticket, which rises.
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next_ticket: Cell<u64>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} waiting)", self.len())
    }
}

impl Line {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets the one that waits longest look again.
    pub fn wake_first(&self) {
        let first = self
            .waiting
            .borrow_mut()
            .front_mut()
            .map(|(_, waker)| waker.take());
        if let Some(waker) = first.flatten() {
            waker.wake();
        }
    }

    /// Lets all look again, in their order: what they wait for may never come.
    pub fn wake_all(&self) {
        let wakers: Vec<_> = {
            let mut waiting = self.waiting.borrow_mut();
            waiting
                .iter_mut()
                .filter_map(|(_, waker)| waker.take())
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Joins the end of the line, and completes when `look`, which is told whether everybody before has
    /// gone, finds something.
    pub async fn wait_until<T>(&self, mut look: impl FnMut(bool) -> Option<T>) -> T {
        let place = Place::new(self);
        poll_fn(|context| match look(place.is_first()) {
            Some(found) => Poll::Ready(found),
            None => {
                place.keep(context.waker());
                Poll::Pending
            }
        })
        .await
    }
}

/// A place in a line; leaving it, also by cancellation, lets the next one look.
struct Place<'a> {
    line: &'a Line,
    ticket: u64,
}

impl<'a> Place<'a> {
    fn new(line: &'a Line) -> Self {
        let ticket = line.next_ticket.get();
        line.next_ticket.set(ticket + 1);
        line.waiting.borrow_mut().push_back((ticket, None));
        Self { line, ticket }
    }

    fn is_first(&self) -> bool {
        let waiting = self.line.waiting.borrow();
        waiting
            .front()
            .is_some_and(|(first, _)| *first == self.ticket)
    }

    fn keep(&self, waker: &Waker) {
        let mut waiting = self.line.waiting.borrow_mut();
        if let Ok(at) = waiting.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            waiting[at].1 = Some(waker.clone());
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let was_first = self.is_first();
        let mut waiting = self.line.waiting.borrow_mut();
        if let Ok(at) = waiting.binary_search_by_key(&self.ticket, |(ticket, _)| *ticket) {
            waiting.remove(at);
        }
        drop(waiting);
        if was_first {
            self.line.wake_first();
        }
    }
}

/// What one task of a shard has at a time, also while it waits for other things: in the order of asking.
///
/// One appends and waits for room; two more ask. The first lets go: the second appends, the third
/// sleeps.
#[derive(Clone, Debug, Default)]
pub struct Mutex {
    inner: Rc<MutexInner>,
}

#[derive(Debug, Default)]
struct MutexInner {
    is_held: Cell<bool>,
    line: Line,
}

impl Mutex {
    /// One that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds it once everyone who asked earlier has let go.
    pub async fn lock(&self) -> MutexGuard {
        if let Some(guard) = self.try_lock() {
            return guard;
        }
        let look = |is_first: bool| (is_first && !self.inner.is_held.get()).then(|| self.hold());
        self.inner.line.wait_until(look).await
    }

    /// Holds it if nobody does, nor waits for it.
    pub fn try_lock(&self) -> Option<MutexGuard> {
        (self.inner.line.is_empty() && !self.inner.is_held.get()).then(|| self.hold())
    }

    fn hold(&self) -> MutexGuard {
        self.inner.is_held.set(true);
        MutexGuard(self.inner.clone())
    }
}

/// Holds a [`Mutex`] until it is dropped.
#[derive(Debug)]
pub struct MutexGuard(Rc<MutexInner>);

impl Drop for MutexGuard {
    fn drop(&mut self) {
        self.0.is_held.set(false);
        self.0.line.wake_first();
    }
}

/// A bounded amount (bytes, slots) that tasks of a shard take from, in the order of asking.
///
/// Back-pressure is waiting here before any work is done.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Rc<BudgetInner>,
}

#[derive(Debug)]
struct BudgetInner {
    total: Cell<usize>,
    taken: Cell<usize>,
    line: Line,
}

impl Budget {
    /// A budget of `total`.
    pub fn new(total: usize) -> Self {
        Self {
            inner: Rc::new(BudgetInner {
                total: Cell::new(total),
                taken: Cell::new(0),
                line: Line::default(),
            }),
        }
    }

    /// Takes `amount` once it is there and everyone who asked earlier has theirs. An amount above
    /// the total is granted when nothing else is taken, so that nobody waits for ever.
    pub async fn acquire(&self, amount: usize) -> Permit {
        if let Some(permit) = self.try_acquire(amount) {
            return permit;
        }
        let look = |is_first| (is_first && self.has_room(amount)).then(|| self.take(amount));
        self.inner.line.wait_until(look).await
    }

    /// Takes `amount` as [`Budget::acquire`] does, unless `look` fails first: it is asked before each look,
    /// and may make room. See [`Budget::look_again`].
    pub async fn acquire_unless<E>(
        &self,
        amount: usize,
        mut look: impl FnMut() -> Result<(), E>,
    ) -> Result<Permit, E> {
        let look = |is_first| match look() {
            Err(error) => Some(Err(error)),
            Ok(()) => (is_first && self.has_room(amount)).then(|| Ok(self.take(amount))),
        };
        self.inner.line.wait_until(look).await
    }

    /// Whoever waits longest looks again: there may be more to be had, though nothing was given back.
    pub fn look_again(&self) {
        self.inner.line.wake_first();
    }

    /// Takes `amount` if it is there and nobody waits.
    pub fn try_acquire(&self, amount: usize) -> Option<Permit> {
        (self.inner.line.is_empty() && self.has_room(amount)).then(|| self.take(amount))
    }

    /// Takes `amount` whether it is there or not: of what is given already and can only be counted.
    pub fn charge(&self, amount: usize) -> Permit {
        self.take(amount)
    }

    /// What is taken now.
    pub fn taken(&self) -> usize {
        self.inner.taken.get()
    }

    /// Whether somebody waits for a part of it.
    pub fn is_awaited(&self) -> bool {
        !self.inner.line.is_empty()
    }

    /// Waits, taking nothing, until there is something left and everyone who asked earlier has
    /// theirs.
    pub async fn some_left(&self) {
        if !self.has_room(1) {
            drop(self.acquire(1).await);
        }
    }

    /// The whole amount.
    pub fn total(&self) -> usize {
        self.inner.total.get()
    }

    /// Changes the whole amount; what is taken stays taken.
    pub fn set_total(&self, total: usize) {
        self.inner.total.set(total);
        self.inner.line.wake_first();
    }

    fn has_room(&self, amount: usize) -> bool {
        let taken = self.inner.taken.get();
        taken == 0 || taken.saturating_add(amount) <= self.inner.total.get()
    }

    fn take(&self, amount: usize) -> Permit {
        self.inner.taken.set(self.inner.taken.get() + amount);
        Permit {
            inner: self.inner.clone(),
            amount,
        }
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Rc<BudgetInner>,
    amount: usize,
}

impl Permit {
    /// How much it holds.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Takes over what `other`, a part of the same budget, holds.
    pub fn join(&mut self, mut other: Self) {
        assert!(
            Rc::ptr_eq(&self.inner, &other.inner),
            "parts of two budgets cannot be one"
        );
        self.amount += std::mem::take(&mut other.amount);
    }

    /// Gives back what it holds beyond `amount`.
    pub fn shrink_to(&mut self, amount: usize) {
        let given_back = self.amount.saturating_sub(amount);
        self.amount -= given_back;
        self.inner.taken.set(self.inner.taken.get() - given_back);
        self.inner.line.wake_first();
    }

    /// Holds `amount` more, whether or not it is there: for what cannot be made smaller any more.
    /// Whoever asks next waits until it is paid back.
    pub fn overdraw(&mut self, amount: usize) {
        self.amount += amount;
        self.inner.taken.set(self.inner.taken.get() + amount);
    }

    /// Takes more, whether it is there or not, or gives some back, until it holds `amount`.
    pub fn set_amount(&mut self, amount: usize) {
        let others = self.inner.taken.get() - self.amount;
        self.inner.taken.set(others + amount);
        if amount < std::mem::replace(&mut self.amount, amount) {
            self.inner.line.wake_first();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.taken.set(self.inner.taken.get() - self.amount);
        self.inner.line.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn first_come_first_served() {
        let budget = Budget::new(10);
        let held = budget.try_acquire(8).unwrap();
        let mut large = Box::pin(budget.acquire(5));
        assert!((&mut large).now_or_never().is_none());
        assert!(
            budget.try_acquire(1).is_none(),
            "a later, smaller one must not overtake"
        );
        drop(held);
        let large = large.now_or_never().expect("there is room now");
        assert_eq!(budget.taken(), 5);
        drop(large);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_cancelled_waiter_makes_room() {
        let budget = Budget::new(1);
        let held = budget.try_acquire(1).unwrap();
        let mut waiting = Box::pin(budget.acquire(1));
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        drop(held);
        assert!(budget.try_acquire(1).is_some());
    }

    #[test]
    fn a_mutex_has_one_holder_in_the_order_of_asking() {
        let mutex = Mutex::new();
        let held = mutex.try_lock().unwrap();
        let (mut second, mut third) = (Box::pin(mutex.lock()), Box::pin(mutex.lock()));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(held);
        assert!(mutex.try_lock().is_none(), "the second was there before");
        assert!((&mut third).now_or_never().is_none());
        let held = second.now_or_never().expect("nobody holds it");
        drop(third);
        drop(held);
        assert!(mutex.try_lock().is_some());
    }

    #[test]
    fn only_the_first_in_line_is_woken() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::task::{Context, Wake};

        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let budget = Budget::new(4);
        let (first, last) = (
            budget.try_acquire(2).unwrap(),
            budget.try_acquire(2).unwrap(),
        );
        let mut waiting = Vec::from_iter([4, 1, 1].map(|amount| {
            let count = Arc::new(Count::default());
            (count, Box::pin(budget.acquire(amount)))
        }));
        let mut poll = |at: usize| {
            let (count, waiting) = &mut waiting[at];
            let waker = Waker::from(count.clone());
            let poll = waiting.as_mut().poll(&mut Context::from_waker(&waker));
            (poll, count.clone())
        };
        let counts = [0, 1, 2].map(|at| poll(at).1);
        let woken = || {
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::Relaxed))
        };
        drop(first);
        assert_eq!(woken(), [1, 0, 0]);
        assert!(poll(0).0.is_pending());
        drop(last);
        assert_eq!(woken(), [2, 0, 0]);
        let Poll::Ready(all) = poll(0).0 else {
            panic!("there is room now");
        };
        assert_eq!(woken(), [2, 1, 0], "it lets the next one look");
        assert!(poll(1).0.is_pending());
        drop(all);
        assert!(poll(1).0.is_ready());
        assert_eq!(woken(), [2, 2, 1]);
        assert!(poll(2).0.is_ready());
    }

    #[test]
    fn what_is_charged_is_counted_and_may_change() {
        let budget = Budget::new(4);
        let mut charged = budget.charge(6);
        assert!(budget.try_acquire(1).is_none());
        charged.set_amount(3);
        let one = budget.try_acquire(1).unwrap();
        charged.set_amount(5);
        assert_eq!(budget.taken(), 6);
        drop((charged, one));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn who_waits_for_something_left_takes_nothing() {
        let budget = Budget::new(4);
        let mut held = budget.charge(6);
        let mut waiting = Box::pin(budget.some_left());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(budget.is_awaited());
        held.shrink_to(3);
        assert!(waiting.now_or_never().is_some());
        assert!(!budget.is_awaited());
        assert_eq!(budget.taken(), 3);
        assert!(budget.some_left().now_or_never().is_some());
    }

    #[test]
    fn more_than_everything_is_granted_alone() {
        let budget = Budget::new(4);
        let all = budget.acquire(9).now_or_never().unwrap();
        assert!(budget.try_acquire(1).is_none());
        drop(all);
        assert!(budget.try_acquire(1).is_some());
    }
}
