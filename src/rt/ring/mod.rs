//! One raw io_uring per shard, for files and sockets.
//!
//! The ring is not an executor: something else calls [`Ring::turn`] whenever an operation was
//! queued ([`Ring::wanted`]) or the kernel signalled the ring's eventfd ([`Ring::eventfd`]).
//! Queued operations of one scheduler round share one system call.
//!
//! An operation owns what the kernel touches ([`Held`]) until its completion has been seen. A
//! dropped future leaves its operation running; the ring drops what it held afterwards.
#![expect(
    unsafe_code,
    reason = "the kernel works on memory behind the compiler's back"
)]

mod file;
mod fs;
mod held;
mod registered;
mod setup;
mod socket;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, squeue};
use slab::Slab;

pub use file::RingFile;
pub use fs::{disk_space, read_dir, sync_file_system};
pub use held::Held;
pub use setup::RingSupport;
pub use socket::{RingListener, RingSocket};

use super::{DurableWrites, Event};

/// Disk operations given to the kernel at a time; more wait in order. Deep enough for any device
/// that one core can fill.
const DISK_DEPTH: usize = 128;
/// How often the kernel is entered for work that its flag promises and that does not show: each time
/// it does some twenty pieces, and few end without a completion.
const FRUITLESS_ENTERS: u32 = 4;
/// How long the end of a ring waits for the kernel to let go of memory.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A shard's ring. Clones share it.
#[derive(Clone)]
pub struct Ring {
    inner: Rc<RingInner>,
}

struct RingInner {
    uring: RefCell<IoUring>,
    eventfd: OwnedFd,
    features: setup::Features,
    durable_writes: DurableWrites,
    registered: registered::Slots,
    ops: RefCell<Slab<Op>>,
    disk_in_flight: Cell<usize>,
    disk_waiting: RefCell<VecDeque<squeue::Entry>>,
    queued: Cell<bool>,
    turns: Cell<u64>,
    /// Room for what a turn finds, used again.
    completed: RefCell<Vec<(u64, i32)>>,
    wanted: Event,
    closed: Cell<bool>,
    wakes: Cell<bool>,
}

struct Op {
    held: Held,
    kind: OpKind,
    state: OpState,
}

enum OpState {
    Waiting(Option<Waker>),
    Abandoned,
    Done(i32),
}

/// What the ring must know of an operation besides its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpKind {
    /// Counts against [`DISK_DEPTH`].
    Disk,
    /// Like `Disk`; the result is a descriptor.
    Open,
    /// May take for ever, is not counted.
    Socket,
    /// Like `Socket`; the result is a descriptor.
    Accept,
}

impl OpKind {
    fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::Open)
    }

    fn gives_descriptor(self) -> bool {
        matches!(self, Self::Open | Self::Accept)
    }
}

impl Ring {
    /// A ring for the calling thread, whose files are written durably in this way.
    ///
    /// # Errors
    /// What io_uring_setup or eventfd answered; EPERM where io_uring is forbidden.
    pub fn new(durable_writes: DurableWrites) -> io::Result<Self> {
        let (uring, features) = setup::build(durable_writes)?;
        let eventfd = setup::eventfd()?;
        setup::register_eventfd(&uring, &eventfd)?;
        let registered = registered::Slots::new(&uring);
        Ok(Self {
            inner: Rc::new(RingInner {
                uring: RefCell::new(uring),
                eventfd,
                features,
                durable_writes,
                registered,
                ops: RefCell::default(),
                disk_in_flight: Cell::new(0),
                disk_waiting: RefCell::default(),
                queued: Cell::new(false),
                turns: Cell::new(0),
                completed: RefCell::default(),
                wanted: Event::new(),
                closed: Cell::new(false),
                wakes: Cell::new(true),
            }),
        })
    }

    /// How a durable write is made so.
    pub fn durable_writes(&self) -> DurableWrites {
        self.inner.durable_writes
    }

    /// Becomes readable (8 bytes) when the kernel has completions.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.inner.eventfd.as_fd()
    }

    /// Completes when there is something to give to the kernel: time for a [`Ring::turn`].
    pub async fn wanted(&self) {
        let look = || (self.inner.queued.get() || self.is_closed()).then_some(());
        self.inner.wanted.wait_until(look).await;
    }

    /// How often the ring was turned.
    pub fn turns(&self) -> u64 {
        self.inner.turns.get()
    }

    /// Whether [`Ring::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.get()
    }

    /// Gives queued operations to the kernel and wakes those that have completed.
    pub fn turn(&self) {
        self.inner.turns.set(self.inner.turns.get().wrapping_add(1));
        self.inner.queued.set(false);
        let mut completed = self.inner.completed.take();
        self.enter_quietly(&mut completed);
        for (key, result) in completed.drain(..) {
            self.complete(key, result);
        }
        self.inner.completed.replace(completed);
    }

    /// Ends the ring: cancels what is pending, waits until the kernel has let go of all memory,
    /// and fails every later operation. Nobody is woken when the executor has ended before.
    pub fn close(&self, executor_runs: bool) {
        if self.inner.closed.replace(true) {
            return;
        }
        self.inner.wakes.set(executor_runs);
        for entry in self.inner.disk_waiting.take() {
            self.complete(entry.get_user_data(), -libc::ECANCELED);
        }
        self.turn();
        let cancelled = setup::cancel_all(&self.inner.uring.borrow(), CLOSE_WAIT);
        self.turn();
        if cancelled.and_then(|()| self.wait_for_all()).is_err() && self.in_flight() > 0 {
            tracing::warn!(
                "the kernel still works on memory of an ended shard; it stays allocated"
            );
            std::mem::forget(self.inner.ops.take());
        }
        if executor_runs {
            self.inner.wanted.notify();
            // Both ends are ours; the counter cannot overflow.
            let _ = rustix::io::write(&self.inner.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Operations not yet completed.
    fn in_flight(&self) -> usize {
        let ops = self.inner.ops.borrow();
        ops.iter()
            .filter(|(_, op)| !matches!(op.state, OpState::Done(_)))
            .count()
    }

    fn wait_for_all(&self) -> io::Result<()> {
        let steps = 50;
        for _ in 0..steps {
            if self.in_flight() == 0 {
                return Ok(());
            }
            setup::wait(&self.inner.uring.borrow(), CLOSE_WAIT / steps)?;
            self.turn();
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// One io_uring_enter, and more while there is something left that no eventfd would tell of.
    fn enter_quietly(&self, completed: &mut Vec<(u64, i32)>) {
        let mut uring = self.inner.uring.borrow_mut();
        let mut fruitless = 0;
        uring.completion().disable_eventfd();
        loop {
            if let Err(error) = setup::submit_and_reap(&uring) {
                panic!("io_uring_enter with valid arguments: {error}");
            }
            let before = completed.len();
            completed.extend(
                uring
                    .completion()
                    .map(|entry| (entry.user_data(), entry.result())),
            );
            uring.completion().enable_eventfd();
            fence(Ordering::SeqCst);
            let is_empty = uring.completion().is_empty() && uring.submission().is_empty();
            fruitless = if completed.len() == before {
                fruitless + 1
            } else {
                0
            };
            // The kernel adds work first and sets the flag then: when it has run the work in between,
            // the flag stays, with nothing behind it, until the next work comes, perhaps for ever.
            // What comes from here on tells the eventfd.
            let has_work = uring.submission().taskrun() && fruitless < FRUITLESS_ENTERS;
            if is_empty && !has_work {
                return;
            }
        }
    }

    fn complete(&self, key: u64, result: i32) {
        let mut ops = self.inner.ops.borrow_mut();
        let Some(op) = ops.get_mut(key as usize) else {
            return;
        };
        let is_disk = op.kind.is_disk();
        let ended = match std::mem::replace(&mut op.state, OpState::Done(result)) {
            OpState::Waiting(waker) => Ended::Seen(waker),
            OpState::Abandoned | OpState::Done(_) => Ended::Unseen(ops.remove(key as usize)),
        };
        drop(ops);
        match ended {
            Ended::Seen(Some(waker)) if self.inner.wakes.get() => waker.wake(),
            // Without its executor, a task cannot even be dropped.
            Ended::Seen(waker) => std::mem::forget(waker),
            Ended::Unseen(op) => op.discard(result),
        }
        if is_disk {
            self.next_disk_entry();
        }
    }

    /// A disk operation has ended; the longest waiting one takes its place.
    fn next_disk_entry(&self) {
        let next = self.inner.disk_waiting.borrow_mut().pop_front();
        match next {
            Some(entry) => self.push(entry),
            None => {
                let count = self.inner.disk_in_flight.get();
                self.inner.disk_in_flight.set(count.saturating_sub(1));
            }
        }
    }

    /// Starts an operation. `entry` points into `held` and nowhere else.
    ///
    /// # Safety
    /// Every pointer in `entry` must stay valid while `held` lives, also when `held` is moved.
    unsafe fn start(&self, entry: squeue::Entry, held: Held, kind: OpKind) -> Pending {
        let inner = &self.inner;
        let state = match inner.closed.get() {
            true => OpState::Done(-libc::ECANCELED),
            false => OpState::Waiting(None),
        };
        let key = inner.ops.borrow_mut().insert(Op { held, kind, state });
        let entry = entry.user_data(key as u64);
        if !inner.closed.get() {
            if !kind.is_disk() {
                self.push(entry);
            } else if inner.disk_in_flight.get() < DISK_DEPTH {
                inner.disk_in_flight.set(inner.disk_in_flight.get() + 1);
                self.push(entry);
            } else {
                inner.disk_waiting.borrow_mut().push_back(entry);
            }
        }
        Pending {
            ring: self.clone(),
            key,
        }
    }

    fn push(&self, entry: squeue::Entry) {
        let mut uring = self.inner.uring.borrow_mut();
        // SAFETY: `start`'s contract; `held` lives in the slab until the completion.
        while unsafe { uring.submission().push(&entry) }.is_err() {
            if let Err(error) = setup::submit(&uring) {
                panic!("io_uring_enter with valid arguments: {error}");
            }
        }
        drop(uring);
        if !self.inner.queued.replace(true) {
            self.inner.wanted.notify();
        }
    }
}

enum Ended {
    Seen(Option<Waker>),
    Unseen(Op),
}

impl Op {
    /// Ends an operation nobody waits for.
    fn discard(self, result: i32) {
        if self.kind.gives_descriptor() && result >= 0 {
            drop(own(result));
        }
    }
}

/// Takes over a descriptor that the kernel has just handed out.
fn own(descriptor: i32) -> OwnedFd {
    // SAFETY: it is the result of an open, accept or socket call, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }
}

/// An operation in flight. Dropping it abandons the operation, which goes on.
struct Pending {
    ring: Ring,
    key: usize,
}

impl Future for Pending {
    /// The kernel's result (bytes, a descriptor, or minus errno), and what the operation held.
    type Output = (i32, Held);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.ring.inner.clone();
        let mut ops = inner.ops.borrow_mut();
        match ops.get_mut(self.key).map(|op| &mut op.state) {
            Some(OpState::Done(result)) => {
                let result = *result;
                let held = ops.remove(self.key).held;
                drop(ops);
                // The key may soon be another operation's.
                self.key = usize::MAX;
                Poll::Ready((result, held))
            }
            Some(OpState::Waiting(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(OpState::Abandoned) | None => unreachable!("polled after its end"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut ops = self.ring.inner.ops.borrow_mut();
        match ops.get_mut(self.key).map(|op| &mut op.state) {
            Some(OpState::Done(result)) => {
                let result = *result;
                let op = ops.remove(self.key);
                drop(ops);
                op.discard(result);
            }
            Some(state) => *state = OpState::Abandoned,
            None => {}
        }
    }
}

/// The kernel's result as a count, or as an error.
fn count_of(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether the operation did nothing and is to be asked again.
fn is_transient(result: i32) -> bool {
    result == -libc::EINTR || result == -libc::EAGAIN
}
