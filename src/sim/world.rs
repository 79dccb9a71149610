//! What the tasks of one life share: time, events to come, the disk, the network.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::disk::op::{HandleId, OpId, Outcome, Slot, Target, Work};
use super::disk::{SimDisk, State};
use super::executor::{Executor, Order, Turn};
use super::net::{Delivery, Net};
use super::post::{self, Post};
use super::rng::{Rng, mix};
use crate::rt::{Carrier, Parcel};

/// When the first life of a disk begins: 2024-01-01.
pub(super) const FIRST_WALL_CLOCK_MS: i64 = 1_704_067_200_000;

/// How long a ready task may have to wait for its turn.
const LONGEST_TURN: Duration = Duration::from_micros(200);

pub(super) struct World {
    disk: SimDisk,
    executor: Executor,
    net: RefCell<Net>,
    post: Arc<Post>,
    core: RefCell<Core>,
    is_cut: Cell<bool>,
}

struct Core {
    rng: Rng,
    /// Of its own, so that a random id drawn or not does not change the schedule.
    id_rng: Rng,
    now: Duration,
    wall_clock_start_ms: i64,
    events: BTreeMap<EventKey, Event>,
    next_event: u64,
    io_count: u64,
    cut_at_io: Option<u64>,
    trace: Trace,
}

/// Events in order; a random number decides between those of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKey {
    at: Duration,
    lot: u64,
    number: u64,
}

enum Event {
    Timer(Waker),
    Io(OpId),
    Delivery(Delivery),
    Parcel(Arc<dyn Parcel>),
}

#[derive(Default)]
struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, disk: &SimDisk) -> Rc<Self> {
        let mut rng = Rng::new(seed);
        let core = Core {
            id_rng: rng.fork(),
            rng,
            now: Duration::ZERO,
            wall_clock_start_ms: disk.state().wall_clock_ms,
            events: BTreeMap::new(),
            next_event: 0,
            io_count: 0,
            cut_at_io: None,
            trace: Trace::default(),
        };
        let world = Rc::new(Self {
            disk: disk.clone(),
            executor: Executor::default(),
            net: RefCell::default(),
            post: Arc::default(),
            core: RefCell::new(core),
            is_cut: Cell::new(false),
        });
        let left_behind = disk.state().in_flight_ids();
        for left_behind in left_behind {
            world.schedule_io(left_behind);
        }
        world
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(super) fn disk(&self) -> std::cell::RefMut<'_, State> {
        self.disk.state()
    }

    pub(super) fn net(&self) -> std::cell::RefMut<'_, Net> {
        self.net.borrow_mut()
    }

    pub(super) fn now(&self) -> Duration {
        self.core.borrow().now
    }

    pub(super) fn wall_clock_ms(&self) -> i64 {
        let core = self.core.borrow();
        core.wall_clock_start_ms + core.now.as_millis() as i64
    }

    pub(super) fn set_wall_clock_ms(&self, unix_ms: i64) {
        let mut core = self.core.borrow_mut();
        core.wall_clock_start_ms = unix_ms - core.now.as_millis() as i64;
    }

    pub(super) fn random_u64(&self) -> u64 {
        self.core.borrow_mut().id_rng.next_u64()
    }

    /// Draws from the schedule's randomness.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.core.borrow_mut().rng)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Stops the life here: nothing that happens from now on has an effect.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
    }

    pub(super) fn set_cut_at_io(&self, step: u64) {
        self.core.borrow_mut().cut_at_io = Some(step);
    }

    pub(super) fn io_count(&self) -> u64 {
        self.core.borrow().io_count
    }

    pub(super) fn record_trace(&self) {
        self.core.borrow_mut().trace.lines = Some(Vec::new());
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.core.borrow().trace.lines.clone().unwrap_or_default()
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.core.borrow().trace.hash
    }

    /// What carries the messages between cores.
    pub(super) fn post(&self) -> Arc<dyn Carrier> {
        self.post.clone()
    }

    /// Puts what was posted on its way.
    fn carry(&self) {
        for parcel in self.post.take() {
            let latency = self.draw(post::draw_latency);
            self.schedule(self.now() + latency, Event::Parcel(parcel));
        }
    }

    /// What runs next, if anything is ready; now and then an event comes first.
    pub(super) fn next_turn(&self, order: Order) -> Option<Turn> {
        self.carry();
        if order == Order::Random && self.draw(|rng| rng.one_in(16)) && self.is_event_near() {
            self.advance();
        }
        if self.is_cut() {
            return None;
        }
        self.executor.next(order, &mut self.core.borrow_mut().rng)
    }

    /// Whether the next event could come before a ready task has had its turn on a busy core.
    fn is_event_near(&self) -> bool {
        let core = self.core.borrow();
        let next = core.events.first_key_value();
        next.is_some_and(|(key, _)| key.at <= core.now + LONGEST_TURN)
    }

    /// Lets time pass until the next event. False when there is none.
    pub(super) fn advance(&self) -> bool {
        let mut core = self.core.borrow_mut();
        let Some((key, event)) = core.events.pop_first() else {
            return false;
        };
        core.now = core.now.max(key.at);
        drop(core);
        match event {
            Event::Timer(waker) => waker.wake(),
            Event::Io(op) => self.complete_io(op),
            Event::Delivery(delivery) => delivery.arrive(),
            Event::Parcel(parcel) => parcel.arrive(),
        }
        true
    }

    /// Submits an operation of the disk; the outcome comes into the slot, or never after a cut.
    pub(super) fn submit(&self, target: Target, work: Work) -> Slot {
        let slot = Slot::default();
        if self.is_cut() {
            return slot;
        }
        let facts = work.facts();
        let op = self.disk().submit(target, work, slot.clone());
        self.io_step(op, &facts, |disk| disk.describe(op));
        self.schedule_io(op);
        slot
    }

    fn schedule_io(&self, op: OpId) {
        let latency = {
            let disk = self.disk();
            let model = disk.model();
            let drawn = self.draw(|rng| model.draw_latency(rng));
            disk.stall_of(op).unwrap_or(drawn)
        };
        self.schedule(self.now() + latency, Event::Io(op));
    }

    fn complete_io(&self, op: OpId) {
        let completed = self.draw(|rng| self.disk.state().complete(op, rng));
        let failed = completed
            .as_ref()
            .and_then(|(_, outcome)| outcome.error_kind());
        self.io_step(op, &[0, 0, u64::from(failed.is_some())], |_| match failed {
            Some(error) => format!("fails: {error}"),
            None => "is done".to_owned(),
        });
        let Some((slot, outcome)) = completed else {
            return;
        };
        if self.is_cut() {
            return;
        }
        match slot.fill(outcome) {
            Ok(waker) => waker.into_iter().for_each(Waker::wake),
            Err(Outcome::Opened(Ok(handle))) => self.close(handle),
            Err(_) => {}
        }
    }

    fn io_step(&self, op: OpId, facts: &[u64; 3], line: impl FnOnce(&State) -> String) {
        let mut core = self.core.borrow_mut();
        core.io_count += 1;
        let (now, step) = (core.now, core.io_count);
        core.trace.note(&[now.as_nanos() as u64, step, op.number()]);
        core.trace.note(facts);
        if let Some(lines) = &mut core.trace.lines {
            let line = line(&self.disk());
            lines.push(format!("{step:>5} {now:>12?} op {} {line}", op.number()));
        }
        if core.cut_at_io == Some(step) {
            self.cut();
        }
    }

    pub(super) fn close(&self, handle: HandleId) {
        if !self.is_cut() {
            self.disk().close(handle);
        }
    }

    pub(super) fn set_timer(&self, at: Duration, waker: &Waker) -> EventKey {
        self.schedule(at, Event::Timer(waker.clone()))
    }

    /// Forgets a timer, if it has not fired.
    pub(super) fn cancel(&self, key: EventKey) {
        let event = self.core.borrow_mut().events.remove(&key);
        drop(event);
    }

    pub(super) fn deliver(&self, at: Duration, delivery: Delivery) {
        self.schedule(at, Event::Delivery(delivery));
    }

    fn schedule(&self, at: Duration, event: Event) -> EventKey {
        let mut core = self.core.borrow_mut();
        core.next_event += 1;
        let key = EventKey {
            at,
            lot: core.rng.next_u64(),
            number: core.next_event,
        };
        core.events.insert(key, event);
        key
    }

    /// Drops everything that runs.
    pub(super) fn end(&self) {
        self.cut();
        let wall_clock_ms = self.wall_clock_ms();
        self.executor.close();
        self.post.close();
        let events = std::mem::take(&mut self.core.borrow_mut().events);
        drop(events);
        let net = self.net.take();
        drop(net);
        self.disk().wall_clock_ms = wall_clock_ms;
    }

    pub(super) fn power_cut(&self) {
        self.draw(|rng| self.disk.state().power_cut(rng));
    }

    pub(super) fn process_kill(&self) {
        self.draw(|rng| self.disk.state().process_kill(rng));
    }

    /// Where things stand, for a panic.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} tasks left, {} events to come, {} operations in flight, after {:?} and {} I/O steps",
            self.executor.task_count(),
            self.core.borrow().events.len(),
            self.disk().in_flight_ids().len(),
            self.now(),
            self.io_count(),
        )
    }
}

impl Trace {
    fn note(&mut self, facts: &[u64]) {
        for fact in facts {
            self.hash = mix(self.hash ^ fact).wrapping_add(*fact);
        }
    }
}
