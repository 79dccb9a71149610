//! Lanes: typed, ordered queues from any core or thread to one core.
//!
//! A lane has any number of [`LaneSender`]s, which go wherever they are needed, and one
//! [`LaneReceiver`], which is sent to its core once and awaits there. Lanes are made through
//! [`Runtime::lane`](super::Runtime::lane), so that in the simulator each message takes its time, as
//! on a machine, while the order of one lane stays. Each side sees when the other is gone: a receiver
//! gets all that was sent before the last sender went, and a sender gets back what nobody will
//! receive.
//!
//! Who has no runtime (a signal handler's thread, the thread that starts the shards) makes lanes with
//! [`lane`] and sends with [`LaneSender::send_blocking`] or [`LaneSender::try_send`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The capacity of a lane whose senders never wait.
pub const UNBOUNDED: usize = usize::MAX;

/// A lane that the machine itself carries: a message is there when it has been sent. At most
/// `capacity` messages (at least one) are on their way or wait for the receiver.
pub fn lane<T: Send + 'static>(capacity: usize) -> (LaneSender<T>, LaneReceiver<T>) {
    carried_lane(capacity, None)
}

/// A lane whose messages arrive when `carrier` says so.
pub(crate) fn carried_lane<T: Send + 'static>(
    capacity: usize,
    carrier: Option<Arc<dyn Carrier>>,
) -> (LaneSender<T>, LaneReceiver<T>) {
    let state = State {
        arrived: VecDeque::new(),
        travelling: VecDeque::new(),
        senders: 1,
        is_ended: false,
        is_abandoned: false,
        receiver: None,
        waiting: Vec::new(),
    };
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        carrier,
        state: Mutex::new(state),
        room: Condvar::new(),
    });
    let sender = LaneSender {
        shared: shared.clone(),
    };
    (sender, LaneReceiver { shared })
}

/// What brings messages from core to core, where that is not the machine: the simulator.
pub(crate) trait Carrier: Send + Sync {
    /// Takes a parcel, whose [`Parcel::arrive`] is to be called once, in this thread, later.
    fn post(&self, parcel: Arc<dyn Parcel>);
}

/// A lane with something on its way.
pub(crate) trait Parcel: Send + Sync {
    /// Lets the next of what is on its way arrive, whichever posting this was: the order stays.
    fn arrive(&self);
}

/// The sending side of a lane. Clones send to the same receiver; it goes to other cores and threads.
pub struct LaneSender<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

/// The receiving side of a lane.
pub struct LaneReceiver<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

/// The receiver of a lane is gone; what was to be sent comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives any more")]
pub struct LaneClosed<T>(pub T);

/// Why [`LaneSender::try_send`] has sent nothing; what was to be sent comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// As many messages as the lane holds are on their way or wait.
    #[error("the lane is full")]
    Full(T),
    /// The receiver is gone.
    #[error("nobody receives any more")]
    Closed(T),
}

impl<T> std::fmt::Debug for LaneClosed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaneClosed")
    }
}

impl<T> std::fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

struct Shared<T: Send + 'static> {
    capacity: usize,
    carrier: Option<Arc<dyn Carrier>>,
    state: Mutex<State<T>>,
    /// For threads that wait for room.
    room: Condvar,
}

struct State<T> {
    arrived: VecDeque<T>,
    /// In order; the last sender's end is behind its messages.
    travelling: VecDeque<Travelling<T>>,
    senders: usize,
    /// The end has arrived.
    is_ended: bool,
    /// The receiver is gone.
    is_abandoned: bool,
    receiver: Option<Waker>,
    /// Tasks that wait for room, or for the receiver to go.
    waiting: Vec<Waker>,
}

enum Travelling<T> {
    Message(T),
    End,
}

impl<T: Send + 'static> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the next piece over, or lets it arrive at once; gives up the lock.
    fn dispatch(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>, piece: Travelling<T>) {
        state.travelling.push_back(piece);
        drop(state);
        match &self.carrier {
            Some(carrier) => carrier.post(self.clone()),
            None => self.arrive(),
        }
    }

    fn try_send(self: &Arc<Self>, message: T) -> Result<(), TrySendError<T>> {
        let state = self.state();
        if state.is_abandoned {
            return Err(TrySendError::Closed(message));
        }
        if state.held() >= self.capacity {
            return Err(TrySendError::Full(message));
        }
        self.dispatch(state, Travelling::Message(message));
        Ok(())
    }

    /// Lets those look again who wait for room or for the end.
    fn tell_senders(&self, mut state: MutexGuard<'_, State<T>>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.room.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send + 'static> Parcel for Shared<T> {
    fn arrive(&self) {
        let mut state = self.state();
        match state.travelling.pop_front() {
            Some(Travelling::Message(message)) if !state.is_abandoned => {
                state.arrived.push_back(message);
            }
            Some(Travelling::End) => state.is_ended = true,
            Some(Travelling::Message(_)) | None => {}
        }
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
    }
}

impl<T> State<T> {
    fn held(&self) -> usize {
        self.arrived.len() + self.travelling.len()
    }

    fn wait(&mut self, context: &Context<'_>) {
        let known = |waker: &Waker| waker.will_wake(context.waker());
        if !self.waiting.iter().any(known) {
            self.waiting.push(context.waker().clone());
        }
    }
}

impl<T: Send + 'static> LaneSender<T> {
    /// Sends a message, once the lane has room for it.
    ///
    /// # Errors
    /// [`LaneClosed`] when the receiver is gone, also while this waits.
    pub async fn send(&self, message: T) -> Result<(), LaneClosed<T>> {
        let mut message = Some(message);
        poll_fn(|context| {
            let Some(unsent) = message.take() else {
                return Poll::Ready(Ok(()));
            };
            let mut state = self.shared.state();
            if state.is_abandoned {
                return Poll::Ready(Err(LaneClosed(unsent)));
            }
            if state.held() >= self.shared.capacity {
                state.wait(context);
                message = Some(unsent);
                return Poll::Pending;
            }
            self.shared.dispatch(state, Travelling::Message(unsent));
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Sends a message if there is room for it now. It never waits: any thread may do it, and an
    /// unbounded lane always has room.
    ///
    /// # Errors
    /// The lane is full, or the receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.shared.try_send(message)
    }

    /// As [`LaneSender::send`], but blocks the thread: for threads without a runtime, never on a
    /// shard's core.
    ///
    /// # Errors
    /// [`LaneClosed`] when the receiver is gone, also while this waits.
    pub fn send_blocking(&self, message: T) -> Result<(), LaneClosed<T>> {
        let mut state = self.shared.state();
        while !state.is_abandoned && state.held() >= self.shared.capacity {
            let waited = self.shared.room.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_abandoned {
            return Err(LaneClosed(message));
        }
        self.shared.dispatch(state, Travelling::Message(message));
        Ok(())
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.state().is_abandoned
    }

    /// Completes when the receiver is gone.
    pub async fn closed(&self) {
        poll_fn(|context| {
            let mut state = self.shared.state();
            if state.is_abandoned {
                return Poll::Ready(());
            }
            state.wait(context);
            Poll::Pending
        })
        .await
    }
}

impl<T: Send + 'static> Clone for LaneSender<T> {
    fn clone(&self) -> Self {
        self.shared.state().senders += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T: Send + 'static> Drop for LaneSender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.senders -= 1;
        if state.senders == 0 && !state.is_abandoned {
            self.shared.dispatch(state, Travelling::End);
        }
    }
}

impl<T: Send + 'static> LaneReceiver<T> {
    /// The next message, when it has arrived; none when all senders are gone and everything that
    /// they sent has been received. A dropped future has taken nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut state = self.shared.state();
            if let Some(message) = state.arrived.pop_front() {
                self.shared.tell_senders(state);
                return Poll::Ready(Some(message));
            }
            if state.is_ended {
                return Poll::Ready(None);
            }
            state.receiver = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// A message that has arrived, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        let mut state = self.shared.state();
        let message = state.arrived.pop_front()?;
        self.shared.tell_senders(state);
        Some(message)
    }
}

impl<T: Send + 'static> Drop for LaneReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_abandoned = true;
        let arrived = std::mem::take(&mut state.arrived);
        let travelling = std::mem::take(&mut state.travelling);
        self.shared.tell_senders(state);
        // What they hold may be senders of this very lane: not under the lock.
        drop((arrived, travelling));
    }
}

impl<T: Send + 'static> std::fmt::Debug for LaneSender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaneSender")
    }
}

impl<T: Send + 'static> std::fmt::Debug for LaneReceiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaneReceiver")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_thread_waits_for_room_and_learns_of_the_end() {
        let (sender, mut receiver) = lane(2);
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let sent = (0..).take_while(|i| sender.send_blocking(*i).is_ok());
                sent.count()
            })
            .unwrap();
        let mut received = 0;
        while received < 100 {
            match receiver.try_recv() {
                Some(message) => {
                    assert_eq!(message, received);
                    received += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        drop(receiver);
        let sent = thread.join().unwrap();
        assert!((100..=102).contains(&sent), "{sent}");
    }

    #[test]
    fn a_message_that_holds_its_own_sender_goes_with_the_receiver() {
        let (sender, receiver) = lane(UNBOUNDED);
        let witness = Arc::new(());
        let held = (sender.clone(), witness.clone());
        sender
            .try_send(Box::new(held) as Box<dyn std::any::Any + Send>)
            .unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&witness), 1);
        assert!(sender.is_closed());
        assert!(sender.closed().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_wait_leaves_the_message() {
        let (sender, mut receiver) = lane(1);
        assert!(receiver.recv().now_or_never().is_none());
        sender.try_send(7).unwrap();
        assert!(matches!(sender.try_send(8), Err(TrySendError::Full(8))));
        let mut waiting = Box::pin(sender.send(9));
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        assert_eq!(receiver.recv().now_or_never(), Some(Some(7)));
        assert_eq!(receiver.try_recv(), None, "a dropped send has sent nothing");
        drop(sender);
        assert_eq!(receiver.recv().now_or_never(), Some(None));
    }
}
