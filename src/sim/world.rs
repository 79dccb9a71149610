//! What the processes of one world share: time, events to come, chance, the network.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::disk::SimDisk;
use super::disk::op::OpId;
use super::executor::{Executor, Order, Work};
use super::net::{Delivery, Net};
use super::post;
use super::process::Process;
use super::rng::{Rng, mix};
use crate::rt::Parcel;

/// How long a ready task may have to wait for its turn.
const LONGEST_TURN: Duration = Duration::from_micros(200);

pub(super) struct World {
    net: RefCell<Net>,
    /// Those that have not ended.
    processes: RefCell<Vec<Rc<Process>>>,
    /// What belongs to no process: whoever starts and ends them.
    outside: Executor,
    core: RefCell<Core>,
}

struct Core {
    rng: Rng,
    /// Of its own, so that a random id drawn or not does not change the schedule.
    id_rng: Rng,
    now: Duration,
    events: BTreeMap<EventKey, Event>,
    next_event: u64,
    next_process: u32,
    trace: Trace,
}

/// Events in order; a random number decides between those of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKey {
    at: Duration,
    lot: u64,
    number: u64,
}

pub(super) enum Event {
    Timer(Waker),
    /// The completion of an operation of a process's disk.
    Io(Rc<Process>, OpId),
    Delivery(Delivery),
    Parcel(Arc<dyn Parcel>),
}

/// What runs next.
pub(super) enum Turn {
    /// The future given to `run`.
    Main,
    /// A spawned task of a process.
    Spawned(Rc<Process>, usize),
}

#[derive(Default)]
struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let mut rng = Rng::new(seed);
        let core = Core {
            id_rng: rng.fork(),
            rng,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            next_event: 0,
            next_process: 1,
            trace: Trace::default(),
        };
        Rc::new(Self {
            net: RefCell::default(),
            processes: RefCell::default(),
            outside: Executor::default(),
            core: RefCell::new(core),
        })
    }

    /// Starts a process; `host` is the last part of its address.
    pub(super) fn start(self: &Rc<Self>, disk: &SimDisk, host: u8) -> Rc<Process> {
        let number = {
            let mut core = self.core.borrow_mut();
            core.next_process += 1;
            core.next_process - 1
        };
        let process = Process::new(self, disk, host, number);
        self.processes.borrow_mut().push(process.clone());
        let left_behind = disk.state().in_flight_ids();
        for left_behind in left_behind {
            process.schedule_io(left_behind);
        }
        process
    }

    /// Forgets a process and what it waits for.
    pub(super) fn forget(&self, process: &Rc<Process>) {
        let is_other = |other: &Rc<Process>| !Rc::ptr_eq(other, process);
        self.processes.borrow_mut().retain(is_other);
        let of_process = |_: &EventKey, event: &mut Event| matches!(event, Event::Io(owner, _) if Rc::ptr_eq(owner, process));
        let events: Vec<_> = {
            let mut core = self.core.borrow_mut();
            core.events.extract_if(.., of_process).collect()
        };
        drop(events);
    }

    /// Drops everything that is to come, once the last process has ended.
    pub(super) fn end(&self) {
        self.outside.close();
        let events = std::mem::take(&mut self.core.borrow_mut().events);
        drop(events);
        let net = self.net.take();
        drop(net);
    }

    pub(super) fn processes(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().clone()
    }

    pub(super) fn outside(&self) -> &Executor {
        &self.outside
    }

    pub(super) fn net(&self) -> std::cell::RefMut<'_, Net> {
        self.net.borrow_mut()
    }

    pub(super) fn now(&self) -> Duration {
        self.core.borrow().now
    }

    pub(super) fn random_u64(&self) -> u64 {
        self.core.borrow_mut().id_rng.next_u64()
    }

    /// Draws from the schedule's randomness.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.core.borrow_mut().rng)
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

    /// Notes what has happened; `line` says it in words.
    pub(super) fn note(&self, facts: &[u64], line: impl FnOnce() -> String) {
        let mut core = self.core.borrow_mut();
        let now = core.now;
        core.trace.note(&[now.as_nanos() as u64]);
        core.trace.note(facts);
        if let Some(lines) = &mut core.trace.lines {
            lines.push(format!("{now:>12?} {}", line()));
        }
    }

    /// What runs next, if anything is ready; now and then an event comes first.
    pub(super) fn next_turn(&self, order: Order) -> Option<Turn> {
        self.carry();
        if order == Order::Random && self.draw(|rng| rng.one_in(16)) && self.is_event_near() {
            self.advance();
        }
        loop {
            let chosen = self.choose()?;
            let executor = chosen.as_ref().map_or(&self.outside, |p| p.executor());
            let work = executor.next(order, &mut self.core.borrow_mut().rng);
            match (work, chosen) {
                (Some(Work::Main), _) => return Some(Turn::Main),
                (Some(Work::Task(task)), Some(process)) => {
                    return Some(Turn::Spawned(process, task));
                }
                // Tasks that had ended.
                _ => {}
            }
        }
    }

    /// Who runs next: one of the processes that have something to run, or what is outside (none).
    fn choose(&self) -> Option<Option<Rc<Process>>> {
        let processes = self.processes.borrow();
        let ready = || processes.iter().filter(|process| process.is_ready());
        let is_outside_ready = usize::from(self.outside.is_ready());
        let count = ready().count() + is_outside_ready;
        let chosen = match count {
            0 => return None,
            1 => 0,
            _ => self.draw(|rng| rng.index(count)),
        };
        match chosen.checked_sub(is_outside_ready) {
            None => Some(None),
            Some(index) => Some(ready().nth(index).cloned()),
        }
    }

    /// Puts what was posted between cores on its way.
    fn carry(&self) {
        let posted = |process: &Rc<Process>| process.posted();
        let parcels = self
            .processes
            .borrow()
            .iter()
            .flat_map(posted)
            .collect::<Vec<_>>();
        for parcel in parcels {
            let latency = self.draw(post::draw_latency);
            self.schedule(self.now() + latency, Event::Parcel(parcel));
        }
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
            Event::Io(process, op) => process.complete_io(op),
            Event::Delivery(delivery) => delivery.arrive(),
            Event::Parcel(parcel) => parcel.arrive(),
        }
        true
    }

    /// Forgets a timer, if it has not fired.
    pub(super) fn cancel(&self, key: EventKey) {
        let event = self.core.borrow_mut().events.remove(&key);
        drop(event);
    }

    pub(super) fn schedule(&self, at: Duration, event: Event) -> EventKey {
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

    /// Where things stand, for a panic.
    pub(super) fn describe(&self) -> String {
        let processes = self.processes.borrow();
        let of_each: Vec<String> = processes.iter().map(|process| process.describe()).collect();
        let events = self.core.borrow().events.len();
        format!(
            "{}; {events} events to come, after {:?}",
            of_each.join("; "),
            self.now()
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
