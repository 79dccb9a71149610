//! A world of several processes, as whoever tests them sees it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::executor::Order;
use super::net;
use super::process::Process;
use super::world::{Turn, World};
use super::{SimDisk, SimRuntime};
use crate::rt::{Arena, DurableWrites};

/// Several processes with one time, one seed, and a network between them.
pub struct SimWorld {
    world: Rc<World>,
    max_turns: u64,
}

/// One life of one process of a [`SimWorld`]. It goes on when this is dropped.
#[derive(Clone)]
pub struct SimProcess {
    process: Rc<Process>,
    arena_bytes: usize,
    arenas: Rc<RefCell<BTreeMap<u32, Arena>>>,
}

impl SimWorld {
    /// A world without processes.
    pub fn new(seed: u64) -> Self {
        Self {
            world: World::new(seed),
            max_turns: super::MAX_TURNS,
        }
    }

    /// Starts a process on this disk, with the address 10.0.0.`host`, which no other one has now;
    /// each of its shards has `arena_bytes` of memory.
    pub fn start(&self, disk: &SimDisk, host: u8, arena_bytes: usize) -> SimProcess {
        SimProcess {
            process: self.world.start(disk, host),
            arena_bytes,
            arenas: Rc::default(),
        }
    }

    /// Runs `main`, which belongs to none of the processes, and all of them beside it, until it
    /// ends.
    ///
    /// # Panics
    /// When nothing is left that could happen, and after so many turns as no test of any sense
    /// takes.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let waker = self.world.outside().main_waker();
        let mut context = Context::from_waker(&waker);
        for _ in 0..self.max_turns {
            match self.world.next_turn(Order::Random) {
                Some(Turn::Main) => {
                    if let Poll::Ready(value) = main.as_mut().poll(&mut context) {
                        return value;
                    }
                }
                Some(Turn::Spawned(process, task)) => process.executor().poll(task),
                None => assert!(self.world.advance(), "deadlock: {}", self.world.describe()),
            }
        }
        panic!(
            "no end after {} turns: {}",
            self.max_turns,
            self.world.describe()
        );
    }

    /// Panics when [`SimWorld::run`] has not ended after so many turns of tasks.
    pub fn set_max_turns(&mut self, turns: u64) {
        self.max_turns = turns;
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        self.world.now()
    }

    /// What goes from one machine to another takes so much longer.
    pub fn delay(&self, from: Ipv4Addr, to: Ipv4Addr, delay: Duration) {
        net::delay(&self.world, from, to, delay);
    }

    /// What goes from one machine to another is held back, or no longer.
    pub fn hold(&self, from: Ipv4Addr, to: Ipv4Addr, is_held: bool) {
        net::hold(&self.world, from, to, is_held);
    }

    /// What goes from one machine to another is lost, or no longer; a connection that has lost
    /// something stays silent in this direction.
    pub fn cut(&self, from: Ipv4Addr, to: Ipv4Addr, is_cut: bool) {
        net::cut(&self.world, from, to, is_cut);
    }

    /// Connections between two machines end with a reset at `to`; `from` learns of it when it sends
    /// something.
    pub fn reset(&self, from: Ipv4Addr, to: Ipv4Addr) {
        net::reset(&self.world, from, to);
    }

    /// Connections between two machines become half open: nothing comes from `from` to `to` any more.
    pub fn lose(&self, from: Ipv4Addr, to: Ipv4Addr) {
        net::lose(&self.world, from, to);
    }

    /// Keeps what happens as lines, for looking at one seed.
    pub fn record_trace(&self) {
        self.world.record_trace();
    }

    /// The recorded lines.
    pub fn trace(&self) -> Vec<String> {
        self.world.trace()
    }

    /// A number that differs when anything differed in what was done to disks, or went over the
    /// network, or when.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }
}

impl Drop for SimWorld {
    fn drop(&mut self) {
        for process in self.world.processes() {
            process.kill();
        }
        self.world.end();
    }
}

impl SimProcess {
    /// What the code of one shard runs on. Each shard has memory of its own.
    pub fn runtime(&self, shard: u32) -> SimRuntime {
        let mut arenas = self.arenas.borrow_mut();
        let arena = arenas
            .entry(shard)
            .or_insert_with(|| Arena::new(self.arena_bytes));
        SimRuntime::new(self.process.clone(), arena.clone())
    }

    /// Its machine's address.
    pub fn address(&self) -> Ipv4Addr {
        self.process.address()
    }

    /// Cuts it at its `step`th I/O step, as [`Sim::cut_at_io`](super::Sim::cut_at_io) does: it does
    /// nothing any more, and is to be killed, or to lose its power, next.
    pub fn cut_at_io(&self, step: u64) {
        self.process.set_cut_at_io(step);
    }

    /// Completes when it has been cut.
    pub async fn wait_cut(&self) {
        self.process.wait_cut().await;
    }

    /// I/O steps so far.
    pub fn io_count(&self) -> u64 {
        self.process.io_count()
    }

    /// Ends it with SIGKILL; its kernel closes its connections.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Ends it with a power loss; nobody is told.
    pub fn power_cut(&self) {
        self.process.power_cut();
    }

    /// Stops its tasks, as SIGSTOP does, or lets them go on. Its kernel goes on in any case.
    pub fn set_paused(&self, is_paused: bool) {
        self.process.set_paused(is_paused);
    }

    /// Sets its wall clock, which otherwise goes on from the disk's last life.
    pub fn set_wall_clock_ms(&self, unix_ms: i64) {
        self.process.set_wall_clock_ms(unix_ms);
    }

    /// How it makes its durable writes so, whatever its disk is like; by default with RWF_DSYNC. To be
    /// said before it runs.
    pub fn set_durable_writes(&self, way: DurableWrites) {
        self.process.set_durable_writes(way);
    }

    /// How fast its clocks go, in millionths: 1,000,000 is right. To be said before it runs.
    pub fn set_clock_rate(&self, millionths: u32) {
        self.process.set_rate(millionths);
    }
}
