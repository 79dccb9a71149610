//! Messages between cores on their way: a lane's message takes its time, as a wake-up does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rng::Rng;
use crate::rt::{Carrier, Parcel};

/// Where senders leave what the world then delivers. Senders must be `Send`, hence the lock; there is
/// one thread.
#[derive(Default)]
pub(super) struct Post {
    has_parcels: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parcels: Vec<Arc<dyn Parcel>>,
    is_closed: bool,
}

impl Post {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was left here since this was last asked, in order.
    pub(super) fn take(&self) -> Vec<Arc<dyn Parcel>> {
        if !self.has_parcels.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut self.state().parcels)
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let parcels = std::mem::take(&mut state.parcels);
        drop(state);
        drop(parcels);
    }
}

impl Carrier for Post {
    fn post(&self, parcel: Arc<dyn Parcel>) {
        let mut state = self.state();
        if !state.is_closed {
            state.parcels.push(parcel);
            self.has_parcels.store(true, Ordering::Relaxed);
        }
    }
}

/// How long a message takes: mostly that of a wake-up between cores, sometimes until the other core
/// has done with what it is at.
pub(super) fn draw_latency(rng: &mut Rng) -> Duration {
    Duration::from_micros(match rng.below(40) {
        0 => 3_000,
        1..=4 => 200 + rng.below(400),
        _ => rng.below(60),
    })
}
