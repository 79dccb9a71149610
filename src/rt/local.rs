//! Waiting within one shard: no atomics, no locks, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

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
        for waker in self.wakers.take() {
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
    queue: RefCell<VecDeque<u64>>,
    next_ticket: Cell<u64>,
    changed: Event,
}

impl Budget {
    /// A budget of `total`.
    pub fn new(total: usize) -> Self {
        Self {
            inner: Rc::new(BudgetInner {
                total: Cell::new(total),
                taken: Cell::new(0),
                queue: RefCell::default(),
                next_ticket: Cell::new(0),
                changed: Event::new(),
            }),
        }
    }

    /// Takes `amount` once it is there and everyone who asked earlier has theirs. An amount above
    /// the total is granted when nothing else is taken, so that nobody waits for ever.
    pub async fn acquire(&self, amount: usize) -> Permit {
        if let Some(permit) = self.try_acquire(amount) {
            return permit;
        }
        let turn = Turn::new(&self.inner);
        self.inner
            .changed
            .wait_until(|| (turn.is_first() && self.has_room(amount)).then_some(()))
            .await;
        let permit = self.take(amount);
        drop(turn);
        permit
    }

    /// Takes `amount` if it is there and nobody waits.
    pub fn try_acquire(&self, amount: usize) -> Option<Permit> {
        (self.inner.queue.borrow().is_empty() && self.has_room(amount)).then(|| self.take(amount))
    }

    /// Takes `amount` whether it is there or not: of what is given already and can only be counted.
    pub fn charge(&self, amount: usize) -> Permit {
        self.take(amount)
    }

    /// What is taken now.
    pub fn taken(&self) -> usize {
        self.inner.taken.get()
    }

    /// The whole amount.
    pub fn total(&self) -> usize {
        self.inner.total.get()
    }

    /// Changes the whole amount; what is taken stays taken.
    pub fn set_total(&self, total: usize) {
        self.inner.total.set(total);
        self.inner.changed.notify();
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
        self.inner.changed.notify();
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
            self.inner.changed.notify();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.taken.set(self.inner.taken.get() - self.amount);
        self.inner.changed.notify();
    }
}

/// A place in a budget's queue; leaving it, also by cancellation, lets the next one look.
struct Turn<'a> {
    inner: &'a BudgetInner,
    ticket: u64,
}

impl<'a> Turn<'a> {
    fn new(inner: &'a BudgetInner) -> Self {
        let ticket = inner.next_ticket.get();
        inner.next_ticket.set(ticket + 1);
        inner.queue.borrow_mut().push_back(ticket);
        Self { inner, ticket }
    }

    fn is_first(&self) -> bool {
        self.inner.queue.borrow().front() == Some(&self.ticket)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner
            .queue
            .borrow_mut()
            .retain(|ticket| *ticket != self.ticket);
        self.inner.changed.notify();
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
    fn more_than_everything_is_granted_alone() {
        let budget = Budget::new(4);
        let all = budget.acquire(9).now_or_never().unwrap();
        assert!(budget.try_acquire(1).is_none());
        drop(all);
        assert!(budget.try_acquire(1).is_some());
    }
}
