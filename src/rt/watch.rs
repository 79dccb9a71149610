//! One who watches many things of a shard and wants to know which of them have news.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use slab::Slab;

use super::local::Event;

/// Which of the places that one reader watches have news, each once until it is taken. Watching a
/// thing that stays as it is costs nothing; news cost the same however many are watched.
#[derive(Debug, Default)]
pub struct ReadySet {
    ready: RefCell<Ready>,
    event: Event,
}

#[derive(Debug, Default)]
struct Ready {
    places: VecDeque<u32>,
    is_ready: Vec<bool>,
}

/// Who watches one thing.
#[derive(Debug, Default)]
pub struct Watchers {
    watching: RefCell<Slab<(Rc<ReadySet>, u32)>>,
    count: Cell<usize>,
}

/// A thing is watched for as long as this lives.
#[derive(Debug)]
pub struct Watch {
    watchers: Rc<Watchers>,
    key: usize,
}

impl ReadySet {
    /// There is news at a place, a small number that its reader gave it.
    pub fn tell(&self, place: u32) {
        {
            let mut ready = self.ready.borrow_mut();
            let at = place as usize;
            if at >= ready.is_ready.len() {
                ready.is_ready.resize(at + 1, false);
            }
            if std::mem::replace(&mut ready.is_ready[at], true) {
                return;
            }
            ready.places.push_back(place);
        }
        self.event.notify();
    }

    /// Takes the place that has had news for longest.
    pub fn take(&self) -> Option<u32> {
        let mut ready = self.ready.borrow_mut();
        let place = ready.places.pop_front()?;
        ready.is_ready[place as usize] = false;
        Some(place)
    }

    /// How many places there are to take.
    pub fn len(&self) -> usize {
        self.ready.borrow().places.len()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes when there is something to take.
    pub async fn wait(&self) {
        let look = || (!self.is_empty()).then_some(());
        self.event.wait_until(look).await;
    }
}

impl Watchers {
    /// Reports news to `set` under `place` from now on.
    pub fn watch(self: &Rc<Self>, set: &Rc<ReadySet>, place: u32) -> Watch {
        let key = self.watching.borrow_mut().insert((set.clone(), place));
        self.count.set(self.count.get() + 1);
        Watch {
            watchers: self.clone(),
            key,
        }
    }

    /// There is news for whoever watches.
    pub fn tell(&self) {
        if self.count.get() == 0 {
            return;
        }
        for (_, (set, place)) in self.watching.borrow().iter() {
            set.tell(*place);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watching = self.watchers.watching.borrow_mut();
        watching.try_remove(self.key);
        self.watchers.count.set(watching.len());
        if watching.is_empty() {
            *watching = Slab::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn says_which_have_news_once_each() {
        let things = [(); 3].map(|()| Rc::new(Watchers::default()));
        let set = Rc::new(ReadySet::default());
        let mut watches: Vec<_> = (0..3).map(|at| things[at].watch(&set, at as u32)).collect();
        assert!(set.wait().now_or_never().is_none());
        for at in [2, 0, 2] {
            things[at].tell();
        }
        assert!(set.wait().now_or_never().is_some());
        assert_eq!((set.take(), set.take()), (Some(2), Some(0)));
        assert!(set.is_empty());
        things[2].tell();
        assert_eq!((set.take(), set.take()), (Some(2), None), "a watch lasts");
        watches.truncate(2);
        things[2].tell();
        assert!(set.is_empty(), "and ends");
    }

    #[test]
    fn what_nobody_watches_any_more_holds_nothing() {
        let thing = Rc::new(Watchers::default());
        let held = Rc::new(ReadySet::default());
        let _watch = thing.watch(&held, 1);
        for _ in 0..1000 {
            thing.watch(&Rc::new(ReadySet::default()), 1);
        }
        assert_eq!(thing.watching.borrow().len(), 1);
        assert!(thing.watching.borrow().capacity() < 8);
        assert_eq!(Rc::strong_count(&held), 2);
    }
}
