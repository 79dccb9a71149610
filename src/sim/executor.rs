//! Tasks of one process, and which of them are ready.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use super::rng::Rng;

/// In what order ready tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any of them, by the seed; I/O completes now and then while tasks are ready.
    Random,
    /// As they became ready.
    Fifo,
}

type Body = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// Absent while it is being polled.
    work: Option<Body>,
    ticket: Arc<Ticket>,
}

/// What a waker holds: a place in the ready queue. Wakers must be `Send`, hence the atomics;
/// there is one thread.
struct Ticket {
    task: Option<usize>,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Ready {
    queue: Mutex<Vec<Arc<Ticket>>>,
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().push(self.clone());
        }
    }
}

impl Ready {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Ticket>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is ready.
pub(super) enum Work {
    /// The future given to `run`.
    Main,
    /// A spawned task.
    Task(usize),
}

#[derive(Default)]
pub(super) struct Executor {
    tasks: RefCell<Slab<Task>>,
    ready: Arc<Ready>,
    is_closed: Cell<bool>,
}

impl Executor {
    /// Takes a task in; after [`Executor::close`] it is dropped at once.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        if self.is_closed.get() {
            return;
        }
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let ticket = self.ticket(Some(entry.key()));
        ticket.wake_by_ref();
        entry.insert(Task {
            work: Some(Box::pin(work)),
            ticket,
        });
    }

    /// A waker that makes [`Work::Main`] ready, as it is from the start.
    pub(super) fn main_waker(&self) -> Waker {
        let ticket = self.ticket(None);
        ticket.wake_by_ref();
        Waker::from(ticket)
    }

    fn ticket(&self, task: Option<usize>) -> Arc<Ticket> {
        Arc::new(Ticket {
            task,
            is_queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        })
    }

    /// Whether something may be ready.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.lock().is_empty()
    }

    /// Takes the next ready one out.
    pub(super) fn next(&self, order: Order, rng: &mut Rng) -> Option<Work> {
        let mut queue = self.ready.lock();
        while !queue.is_empty() {
            let ticket = match order {
                Order::Random => {
                    let index = rng.index(queue.len());
                    queue.swap_remove(index)
                }
                Order::Fifo => queue.remove(0),
            };
            ticket.is_queued.store(false, Ordering::Relaxed);
            match ticket.task {
                None => return Some(Work::Main),
                Some(task) if self.is_current(task, &ticket) => return Some(Work::Task(task)),
                Some(_) => {}
            }
        }
        None
    }

    /// Whether the ticket is of the task that has this number now (numbers are reused).
    fn is_current(&self, task: usize, ticket: &Arc<Ticket>) -> bool {
        let tasks = self.tasks.borrow();
        tasks
            .get(task)
            .is_some_and(|task| Arc::ptr_eq(&task.ticket, ticket))
    }

    pub(super) fn poll(&self, task: usize) {
        let Some((mut work, waker)) = self.take(task) else {
            return;
        };
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.put_back(task, work),
            Poll::Ready(()) => {
                self.tasks.borrow_mut().try_remove(task);
            }
        }
    }

    fn take(&self, task: usize) -> Option<(Body, Waker)> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(task)?;
        Some((task.work.take()?, Waker::from(task.ticket.clone())))
    }

    fn put_back(&self, task: usize, work: Body) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(task) {
            task.work = Some(work);
        }
    }

    /// Tasks that have not ended.
    pub(super) fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Drops every task without running it further, and all that come.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.ready.lock().clear();
    }
}
