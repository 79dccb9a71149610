//! One who waits for many events and wants to know which of them came.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

use super::local::Event;

/// What came of the events that report here, by key. A consumer of a thousand partitions looks at
/// those that have changed, and leaves the others alone.
///
/// An event reports once; whoever wants the next report asks for it with [`Event::report`], and
/// then looks at the state behind it, as there is none in the event.
#[derive(Debug)]
pub struct Changes<K> {
    awaited: RefCell<BTreeSet<K>>,
    came: RefCell<BTreeSet<K>>,
    event: Event,
}

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self {
            awaited: RefCell::default(),
            came: RefCell::default(),
            event: Event::new(),
        }
    }
}

impl<K: Ord> Changes<K> {
    /// The keys that came since this was last asked.
    pub fn take(&self) -> BTreeSet<K> {
        self.came.take()
    }

    /// Completes when there is something to take.
    pub async fn wait(&self) {
        let look = || (!self.came.borrow().is_empty()).then_some(());
        self.event.wait_until(look).await;
    }

    /// Reports a key without an event.
    pub fn tell(&self, key: K) {
        self.came.borrow_mut().insert(key);
        self.event.notify();
    }
}

/// Where an event reports to.
pub(super) trait Report {
    /// Whether anybody is there to take it.
    fn is_awaited(&self) -> bool;
    /// The event came.
    fn tell(self: Box<Self>);
}

struct KeyReport<K: Ord> {
    key: K,
    to: Weak<Changes<K>>,
}

impl<K: Ord + Clone> Report for KeyReport<K> {
    fn is_awaited(&self) -> bool {
        self.to.strong_count() > 0
    }

    fn tell(self: Box<Self>) {
        if let Some(changes) = self.to.upgrade() {
            changes.tell(self.key.clone());
        }
    }
}

impl<K: Ord> Drop for KeyReport<K> {
    fn drop(&mut self) {
        if let Some(changes) = self.to.upgrade() {
            changes.awaited.borrow_mut().remove(&self.key);
        }
    }
}

impl Event {
    /// Reports `key` to `changes` at the next [`Event::notify`], once. Asking again before that
    /// changes nothing; so does a `changes` that nobody holds any more.
    pub fn report<K: Ord + Clone + 'static>(&self, key: &K, changes: &Rc<Changes<K>>) {
        if changes.awaited.borrow_mut().insert(key.clone()) {
            self.add_report(Box::new(KeyReport {
                key: key.clone(),
                to: Rc::downgrade(changes),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn says_which_events_came() {
        let events = [Event::new(), Event::new(), Event::new()];
        let changes = Rc::new(Changes::default());
        for (key, event) in events.iter().enumerate() {
            event.report(&key, &changes);
        }
        assert!(changes.wait().now_or_never().is_none());
        events[2].notify();
        events[0].notify();
        assert!(changes.wait().now_or_never().is_some());
        assert_eq!(Vec::from_iter(changes.take()), [0, 2]);
        events[2].notify();
        assert!(changes.take().is_empty(), "an event reports once");
        events[2].report(&2, &changes);
        events[2].notify();
        assert_eq!(Vec::from_iter(changes.take()), [2]);
    }

    #[test]
    fn an_event_nobody_notifies_stays_small() {
        let event = Event::new();
        let held = Rc::new(Changes::default());
        for round in 0..1000 {
            event.report(&1, &held);
            event.report(&round, &Rc::new(Changes::default()));
        }
        assert!(event.reports() < 20, "{}", event.reports());
        event.notify();
        assert_eq!(Vec::from_iter(held.take()), [1]);
    }
}
