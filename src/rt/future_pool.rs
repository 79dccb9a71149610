//! Futures of one kind, in memory that is used again.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

/// So much memory of futures that have ended is kept.
const KEPT: usize = 256;

/// Begins futures that give a `T`, each from an `A`. One that begins when another has ended takes
/// nothing from the allocator.
pub struct FuturePool<A, T> {
    begin: Box<dyn Fn(A) -> Pooled<T>>,
}

/// A future of a pool. Its memory goes back when it is dropped.
pub struct Pooled<T> {
    place: Option<Box<dyn Place<T>>>,
}

/// What is known of a future's memory without its type.
trait Place<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T>;
    fn give_back(self: Box<Self>);
}

struct PlaceOf<F> {
    future: Pin<Box<Option<F>>>,
    home: Weak<Home<F>>,
}

struct Home<F> {
    #[expect(clippy::vec_box, reason = "the box is what is used again")]
    idle: RefCell<Vec<Box<PlaceOf<F>>>>,
}

impl<A, T> fmt::Debug for FuturePool<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FuturePool")
    }
}

impl<T> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled")
    }
}

impl<A, T: 'static> FuturePool<A, T> {
    /// A pool of the futures that `make` gives.
    pub fn new<F>(make: impl Fn(A) -> F + 'static) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        let home = Rc::new(Home {
            idle: RefCell::default(),
        });
        Self {
            begin: Box::new(move |input| home.begin(make(input))),
        }
    }

    /// The future for `input`.
    pub fn begin(&self, input: A) -> Pooled<T> {
        (self.begin)(input)
    }
}

impl<F: Future + 'static> Home<F> {
    fn begin(self: &Rc<Self>, future: F) -> Pooled<F::Output> {
        let idle = self.idle.borrow_mut().pop();
        let mut place = idle.unwrap_or_else(|| {
            Box::new(PlaceOf {
                future: Box::pin(None),
                home: Rc::downgrade(self),
            })
        });
        place.future.as_mut().set(Some(future));
        Pooled { place: Some(place) }
    }
}

impl<F: Future + 'static> Place<F::Output> for PlaceOf<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }

    fn give_back(mut self: Box<Self>) {
        self.future.as_mut().set(None);
        let Some(home) = self.home.upgrade() else {
            return;
        };
        let mut idle = home.idle.borrow_mut();
        if idle.len() < KEPT {
            idle.push(self);
        }
    }
}

impl<T> Future for Pooled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.place {
            Some(place) => place.poll(context),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::rt::Event;

    /// The sum of its bytes, which it also keeps beside itself, and where they lie.
    async fn sum_of((bytes, event): ([u8; 100], Rc<Event>)) -> (u32, usize) {
        let place = bytes.as_ptr() as usize;
        let mut looked_at = false;
        event
            .wait_until(|| std::mem::replace(&mut looked_at, true).then_some(()))
            .await;
        (bytes.iter().map(|byte| u32::from(*byte)).sum(), place)
    }

    #[test]
    fn memory_is_used_again_and_futures_end_when_they_are_dropped() {
        let pool = FuturePool::new(sum_of);
        let event = Rc::new(Event::new());
        let (mut places, mut takers) = (Vec::new(), Vec::new());
        for byte in 1..4 {
            let mut future = pool.begin(([byte; 100], event.clone()));
            assert!((&mut future).now_or_never().is_none());
            assert_eq!(Rc::strong_count(&event), 2);
            let (sum, place) = (&mut future).now_or_never().expect("looked at twice");
            assert_eq!(sum, 100 * u32::from(byte));
            places.push(place);
            drop(future);
            // Else the allocator would give the same place again.
            takers.extend((1..200).map(|units| Vec::<u8>::with_capacity(units * 8)));
        }
        assert_eq!(places[1], places[0]);
        assert_eq!(places[2], places[0]);
        drop(takers);
        drop(pool.begin(([4; 100], event.clone())));
        assert_eq!(Rc::strong_count(&event), 1, "what it holds goes with it");
        let both = [1, 2].map(|byte| pool.begin(([byte; 100], event.clone())));
        drop(pool);
        drop(both);
        assert_eq!(Rc::strong_count(&event), 1);
    }
}
