//! A thread that wakes an executor now and then, whatever that waits for.
//!
//! glommio 0.9 can park with tasks ready to run, and with no timer that would end it: its preempt
//! timer fires between the moment it is armed and the first look at the task queues, that look is
//! skipped, and the timer's completion does not count as work (`LocalExecutor::run`). A task inside
//! cannot bound that sleep, because it may be one of those that are ready. A wake from another
//! thread always reaches the eventfd that a parked executor waits for. It costs 20 wake-ups a
//! second for each executor.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest that an executor can oversleep.
const BEAT: Duration = Duration::from_millis(50);

/// The thread, and what it shares with the executor's task. Ends when dropped.
pub(super) struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    has_ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        let mut state = self.state();
        while !state.has_ended {
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
            let waited = self.ended.wait_timeout(state, BEAT);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Pulse {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let beating = shared.clone();
        let thread = std::thread::Builder::new().name("pulse".into());
        let thread = thread.spawn(move || beating.beat())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What is woken: a task of the executor that never ends.
    pub fn task(&self) -> impl Future<Output = ()> + 'static {
        let shared = self.shared.clone();
        poll_fn(move |context| {
            let mut state = shared.state();
            if !state.has_ended {
                state.waker.get_or_insert_with(|| context.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state();
            state.has_ended = true;
            state.waker.take()
        };
        drop(waker);
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics.
            let _ = thread.join();
        }
    }
}
