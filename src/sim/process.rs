//! What one process has to itself: a disk, tasks, clocks, an address; and how it ends.

use std::cell::{Cell, RefMut};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::disk::op::{HandleId, OpId, Outcome, Slot, Target, Work};
use super::disk::{SimDisk, State};
use super::executor::Executor;
use super::post::Post;
use super::world::{Event, EventKey, World};
use crate::rt::{Carrier, DurableWrites, Parcel};

/// When the first life of a disk begins: 2024-01-01.
pub(super) const FIRST_WALL_CLOCK_MS: i64 = 1_704_067_200_000;

/// Parts of a clock's rate.
const MILLION: u128 = 1_000_000;

pub(super) struct Process {
    world: Rc<World>,
    /// Of all that the world has had.
    number: u32,
    address: Ipv4Addr,
    disk: SimDisk,
    executor: Executor,
    post: Arc<Post>,
    /// When it was started, in the world's time.
    born: Duration,
    /// How fast its clocks go: 1,000,000 is right.
    rate: Cell<u32>,
    wall_clock_start_ms: Cell<i64>,
    durable_writes: Cell<DurableWrites>,
    io_count: Cell<u64>,
    cut_at_io: Cell<Option<u64>>,
    is_cut: Cell<bool>,
    /// It has lost its power, or its machine: not even its kernel says anything any more.
    is_dark: Cell<bool>,
    is_paused: Cell<bool>,
    has_ended: Cell<bool>,
    cut: crate::rt::Event,
}

impl Process {
    pub(super) fn new(world: &Rc<World>, disk: &SimDisk, host: u8, number: u32) -> Rc<Self> {
        Rc::new(Self {
            world: world.clone(),
            number,
            address: Ipv4Addr::new(10, 0, 0, host),
            disk: disk.clone(),
            executor: Executor::default(),
            post: Arc::default(),
            born: world.now(),
            rate: Cell::new(MILLION as u32),
            wall_clock_start_ms: Cell::new(disk.state().wall_clock_ms),
            durable_writes: Cell::default(),
            io_count: Cell::new(0),
            cut_at_io: Cell::new(None),
            is_cut: Cell::new(false),
            is_dark: Cell::new(false),
            is_paused: Cell::new(false),
            has_ended: Cell::new(false),
            cut: crate::rt::Event::new(),
        })
    }

    pub(super) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(super) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(super) fn disk(&self) -> RefMut<'_, State> {
        self.disk.state()
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The machine that this address means to the process.
    pub(super) fn host_of(&self, address: IpAddr) -> Ipv4Addr {
        match address {
            IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => address,
            _ => self.address,
        }
    }

    /// What carries the messages between its cores.
    pub(super) fn post(&self) -> Arc<dyn Carrier> {
        self.post.clone()
    }

    pub(super) fn posted(&self) -> Vec<Arc<dyn Parcel>> {
        self.post.take()
    }

    /// Whether it has a task to run, and may.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_cut() && !self.is_paused.get() && self.executor.is_ready()
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.set(is_paused);
    }

    // ---- clocks

    /// Its monotonic clock.
    pub(super) fn now(&self) -> Duration {
        let passed = self.world.now() - self.born;
        match u128::from(self.rate.get()) {
            MILLION => passed,
            rate => nanos(passed.as_nanos() * rate / MILLION),
        }
    }

    /// When, in the world's time, its clock shows `at`, or just more.
    fn in_world(&self, at: Duration) -> Duration {
        let passed = match u128::from(self.rate.get()) {
            MILLION => at,
            rate => nanos((at.as_nanos().saturating_mul(MILLION)).div_ceil(rate)),
        };
        self.born.saturating_add(passed)
    }

    pub(super) fn set_rate(&self, rate: u32) {
        self.rate.set(rate.max(1));
    }

    pub(super) fn wall_clock_ms(&self) -> i64 {
        self.wall_clock_start_ms.get() + self.now().as_millis() as i64
    }

    pub(super) fn set_wall_clock_ms(&self, unix_ms: i64) {
        self.wall_clock_start_ms
            .set(unix_ms - self.now().as_millis() as i64);
    }

    pub(super) fn set_timer(&self, at: Duration, waker: &Waker) -> EventKey {
        self.world
            .schedule(self.in_world(at), Event::Timer(waker.clone()))
    }

    // ---- the disk

    pub(super) fn durable_writes(&self) -> DurableWrites {
        self.durable_writes.get()
    }

    pub(super) fn set_durable_writes(&self, way: DurableWrites) {
        self.durable_writes.set(way);
    }

    pub(super) fn io_count(&self) -> u64 {
        self.io_count.get()
    }

    pub(super) fn set_cut_at_io(&self, step: u64) {
        self.cut_at_io.set(Some(step));
    }

    /// Submits an operation of the disk; the outcome comes into the slot, or never after a cut.
    pub(super) fn submit(self: &Rc<Self>, target: Target, work: Work) -> Slot {
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

    pub(super) fn schedule_io(self: &Rc<Self>, op: OpId) {
        let latency = {
            let disk = self.disk();
            let drawn = self.world.draw(|rng| disk.draw_latency(rng));
            disk.stall_of(op).unwrap_or(drawn)
        };
        let completion = Event::Io(self.clone(), op);
        self.world.schedule(self.world.now() + latency, completion);
    }

    pub(super) fn complete_io(&self, op: OpId) {
        if self.is_cut() {
            return;
        }
        let completed = self.world.draw(|rng| self.disk.state().complete(op, rng));
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
        let step = self.io_count.get() + 1;
        self.io_count.set(step);
        let [kind, offset, len] = *facts;
        let facts = [step, op.number(), kind, offset, len];
        self.world.note(&facts, || {
            let line = line(&self.disk());
            format!("{:>5} of {} op {} {line}", step, self.number, op.number())
        });
        if self.cut_at_io.get() == Some(step) {
            self.cut();
        }
    }

    pub(super) fn close(&self, handle: HandleId) {
        if !self.is_cut() {
            self.disk().close(handle);
        }
    }

    // ---- the end

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    pub(super) fn is_dark(&self) -> bool {
        self.is_dark.get()
    }

    /// Stops it here: nothing that it does from now on has an effect.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        self.cut.notify();
    }

    /// Completes when it has been cut.
    pub(super) async fn wait_cut(&self) {
        let look = || self.is_cut().then_some(());
        self.cut.wait_until(look).await;
    }

    /// Ends it with SIGKILL: nothing of it runs any further, but the kernel keeps what it has, and
    /// closes its connections.
    pub(super) fn kill(self: &Rc<Self>) {
        if self.drop_all() {
            self.world.draw(|rng| self.disk.state().process_kill(rng));
        }
    }

    /// Ends it with a power loss: the disk keeps what was durable and any part of the rest, and
    /// nobody learns of it.
    pub(super) fn power_cut(self: &Rc<Self>) {
        self.is_dark.set(true);
        if self.drop_all() {
            self.world.draw(|rng| self.disk.state().power_cut(rng));
        }
    }

    /// False when it had ended before.
    fn drop_all(self: &Rc<Self>) -> bool {
        if self.has_ended.replace(true) {
            return false;
        }
        self.cut();
        let wall_clock_ms = self.wall_clock_ms();
        self.executor.close();
        self.post.close();
        self.world.forget(self);
        self.disk().wall_clock_ms = wall_clock_ms;
        true
    }

    /// Where it stands, for a panic.
    pub(super) fn describe(&self) -> String {
        format!(
            "process {}{}: {} tasks left, {} operations in flight, after {} I/O steps",
            self.number,
            if self.is_paused.get() {
                " (paused)"
            } else {
                ""
            },
            self.executor.task_count(),
            self.disk().in_flight_ids().len(),
            self.io_count(),
        )
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
