//! Everything on a shard that waits with a deadline, behind one timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::select;

use super::local::Event;
use super::{Runtime, TaskClass};

/// The deadlines of a shard, in their order. One task sleeps until the first of them; a wait that
/// ends before its deadline leaves the timer alone. Clones are the same queue.
#[derive(Debug)]
pub struct Deadlines<R: Runtime> {
    rt: R,
    queue: Rc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// By time and number of the wait.
    waiting: RefCell<BTreeMap<(Duration, u64), Option<Waker>>>,
    next: Cell<u64>,
    /// Until when the task sleeps, while there is one.
    asleep_until: Cell<Option<Duration>>,
    /// Notified when the task must sleep for less.
    earlier: Rc<Event>,
}

/// Completes at its time; dropped, it leaves the queue.
#[derive(Debug)]
pub struct Deadline {
    queue: Rc<Queue>,
    key: (Duration, u64),
}

impl<R: Runtime> Clone for Deadlines<R> {
    fn clone(&self) -> Self {
        Self {
            rt: self.rt.clone(),
            queue: self.queue.clone(),
        }
    }
}

impl<R: Runtime> Deadlines<R> {
    /// Nobody waits.
    pub fn new(rt: R) -> Self {
        Self {
            rt,
            queue: Rc::default(),
        }
    }

    /// Completes when [`Runtime::now`] has come to `at`.
    pub fn until(&self, at: Duration) -> Deadline {
        let queue = &self.queue;
        let key = (at, queue.next.get());
        queue.next.set(key.1 + 1);
        queue.waiting.borrow_mut().insert(key, None);
        match queue.asleep_until.get() {
            None => {
                queue.asleep_until.set(Some(at));
                let serving = serve(self.rt.clone(), Rc::downgrade(queue));
                self.rt.spawn(TaskClass::Foreground, serving);
            }
            Some(until) if at < until => queue.earlier.notify(),
            Some(_) => {}
        }
        Deadline {
            queue: queue.clone(),
            key,
        }
    }
}

/// Wakes whose time has come, until nobody is left.
async fn serve<R: Runtime>(rt: R, queue: Weak<Queue>) {
    loop {
        let (at, earlier) = {
            let Some(queue) = queue.upgrade() else { return };
            while let Some(waiter) = queue.next_due(rt.now()) {
                if let Some(waker) = waiter {
                    waker.wake();
                }
            }
            let at = queue.first();
            queue.asleep_until.set(at);
            let Some(at) = at else { return };
            (at, queue.earlier.clone())
        };
        let is_earlier = || {
            let first = queue.upgrade()?.first()?;
            (first < at).then_some(())
        };
        let sleep = rt.sleep(at.saturating_sub(rt.now()));
        select(pin!(earlier.wait_until(is_earlier)), pin!(sleep)).await;
    }
}

impl Queue {
    /// Takes one out whose time has come.
    fn next_due(&self, now: Duration) -> Option<Option<Waker>> {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn first(&self) -> Option<Duration> {
        let waiting = self.waiting.borrow();
        waiting.keys().next().map(|(at, _)| *at)
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.queue.waiting.borrow_mut().get_mut(&self.key) {
            None => Poll::Ready(()),
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{DiskModel, Sim, SimDisk};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_comes_at_its_time_and_in_order() {
        let disk = SimDisk::new(DiskModel::any(1));
        let mut life = Sim::new(1, &disk);
        let rt = life.runtime(0);
        let waited = life.run(async move {
            let deadlines = Deadlines::new(rt.clone());
            let (begun, order) = (rt.now(), Rc::new(RefCell::new(Vec::new())));
            let ended = Rc::new(Event::new());
            for after in [50, 10, 30, 20] {
                let deadline = deadlines.until(begun + after * MS);
                let (rt, order, ended) = (rt.clone(), order.clone(), ended.clone());
                rt.clone().spawn(TaskClass::Foreground, async move {
                    deadline.await;
                    let late = rt.now() - begun - after * MS;
                    order.borrow_mut().push((after, late < MS));
                    ended.notify();
                });
            }
            drop(deadlines.until(begun + 5 * MS));
            ended
                .wait_until(|| (order.borrow().len() == 4).then_some(()))
                .await;
            // The timer is gone with the last wait, and comes back for the next one.
            rt.sleep(100 * MS).await;
            deadlines.until(rt.now() + MS).await;
            assert!(deadlines.queue.waiting.borrow().is_empty());
            order.take()
        });
        let expected = [10, 20, 30, 50].map(|after| (after, true));
        assert_eq!(waited.unwrap(), expected);
    }
}
