//! A deterministic world to run shards in: virtual time, seeded scheduling, a disk that loses
//! what was not made durable, sockets in memory. For tests.
//!
//! A [`Sim`] is one life of one process: its shards run in one thread and share a [`SimDisk`].
//! The life ends with [`Sim::power_cut`] or [`Sim::process_kill`] (as does dropping it), and the next
//! one starts with what the disk has kept. The same seeds give the same run, to the byte.
//!
//! A [`SimWorld`] holds several processes, each on a disk, with clocks and an address of its own, and
//! each killed, cut off from power, paused and started again by itself; what is between them on the
//! network can be slow, held back, cut, reset and lost.
//!
//! ```
//! use corelane::rt::{Buf, File, OpenMode, Runtime, WriteMode};
//! use corelane::sim::{Cut, DiskModel, Sim, SimDisk};
//! use std::path::Path;
//!
//! let disk = SimDisk::new(DiskModel::any(1));
//! let mut life = Sim::new(1, &disk);
//! let shard = life.runtime(0);
//! life.cut_at_io(6);
//! let mut acknowledged = false;
//! let end = life.run(async {
//!     let file = shard.open(Path::new("/log"), OpenMode::BUFFERED_CREATE).await.unwrap();
//!     shard.sync_dir(Path::new("/")).await.unwrap();
//!     let bytes = vec![Buf::from_vec(b"kept".to_vec())];
//!     file.write_at(bytes, 0, WriteMode::Durable).await.unwrap();
//!     acknowledged = true;
//! });
//! assert_eq!(end, Err(Cut), "the sixth step is the completion of the write");
//! life.power_cut();
//!
//! assert!(!acknowledged);
//! let mut life = Sim::new(2, &disk);
//! assert!(life.run(async { true }).unwrap());
//! assert_eq!(disk.read_file("/log").unwrap(), b"kept");
//! ```

mod disk;
mod executor;
mod file;
mod many;
mod net;
pub mod node;
mod post;
mod process;
mod rng;
mod runtime;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use disk::{DiskModel, EIO, EMFILE, ENOSPC, Fault, FaultOn, SimDisk};
pub use executor::Order;
pub use file::SimFile;
pub use many::{SimProcess, SimWorld};
pub use net::{SimListener, SimSocket};
pub use rng::Rng;
pub use runtime::SimRuntime;

use crate::rt::{Arena, DurableWrites};
use process::Process;
use world::{Turn, World};

/// Memory of a shard, unless [`Sim::set_arena_bytes`] says otherwise.
const ARENA_BYTES: usize = 256 << 20;
/// More turns than a scenario of any sense takes.
const MAX_TURNS: u64 = 50_000_000;

/// The life was cut before the future ended: see [`Sim::cut_at_io`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the life was cut")]
pub struct Cut;

/// One life of one process.
pub struct Sim {
    world: Rc<World>,
    process: Rc<Process>,
    order: Order,
    max_turns: u64,
    arena_bytes: usize,
    arenas: RefCell<BTreeMap<u32, Arena>>,
    has_ended: bool,
}

impl Sim {
    /// A new process on this disk.
    pub fn new(seed: u64, disk: &SimDisk) -> Self {
        let world = World::new(seed);
        Self {
            process: world.start(disk, 1),
            world,
            order: Order::Random,
            max_turns: MAX_TURNS,
            arena_bytes: ARENA_BYTES,
            arenas: RefCell::default(),
            has_ended: false,
        }
    }

    /// What the code of one shard runs on. Each shard has memory of its own.
    pub fn runtime(&self, shard: u32) -> SimRuntime {
        let mut arenas = self.arenas.borrow_mut();
        let arena = arenas
            .entry(shard)
            .or_insert_with(|| Arena::new(self.arena_bytes));
        SimRuntime::new(self.process.clone(), arena.clone())
    }

    /// Limits the memory of shards whose runtime is asked for from now on.
    pub fn set_arena_bytes(&mut self, bytes: usize) {
        self.arena_bytes = bytes;
    }

    /// How this life makes its durable writes so, whatever the disk is like; by default with
    /// RWF_DSYNC.
    pub fn set_durable_writes(&mut self, way: DurableWrites) {
        self.process.set_durable_writes(way);
    }

    /// How ready tasks are picked; by default at random.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    /// Panics when the life has not ended after so many turns of tasks.
    pub fn set_max_turns(&mut self, turns: u64) {
        self.max_turns = turns;
    }

    /// Cuts the life at its `step`th I/O step, counted from 1. An operation on file or directory is
    /// two steps: its submission (at the cut it is in flight) and its completion (at the cut it
    /// is done, and nobody has learned of it).
    pub fn cut_at_io(&mut self, step: u64) {
        self.process.set_cut_at_io(step);
    }

    /// I/O steps so far: run once without a cut to know how many there are to cut at.
    pub fn io_count(&self) -> u64 {
        self.process.io_count()
    }

    /// Virtual time since the life began.
    pub fn now(&self) -> Duration {
        self.process.now()
    }

    /// Sets the wall clock, which otherwise goes on from the disk's last life.
    pub fn set_wall_clock_ms(&mut self, unix_ms: i64) {
        self.process.set_wall_clock_ms(unix_ms);
    }

    /// Keeps the events of the run as lines, for looking at one seed.
    pub fn record_trace(&mut self) {
        self.world.record_trace();
    }

    /// The recorded events.
    pub fn trace(&self) -> Vec<String> {
        self.world.trace()
    }

    /// A number that differs when anything differed in what was done to the disk, or when.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }

    /// Runs `main`, and the tasks that were spawned in this life, until it ends. Tasks that are left
    /// go on with the next call.
    ///
    /// # Errors
    /// [`Cut`] when the life was cut before.
    ///
    /// # Panics
    /// When `main` waits and nothing is left that could wake it, and when it takes too long.
    pub fn run<T>(&mut self, main: impl Future<Output = T>) -> Result<T, Cut> {
        let mut main = pin!(main);
        let waker = self.process.executor().main_waker();
        let mut context = Context::from_waker(&waker);
        for _ in 0..self.max_turns {
            let turn = self.world.next_turn(self.order);
            let polled = match turn {
                Some(Turn::Main) => main.as_mut().poll(&mut context),
                Some(Turn::Spawned(process, task)) => {
                    process.executor().poll(task);
                    Poll::Pending
                }
                None => {
                    let has_advanced = self.process.is_cut() || self.world.advance();
                    if !has_advanced && std::env::var("TRACE").is_ok() {
                        for line in self.trace().iter().rev().take(20).rev() {
                            eprintln!("{line}");
                        }
                    }
                    assert!(has_advanced, "deadlock: {}", self.world.describe());
                    Poll::Pending
                }
            };
            if self.process.is_cut() {
                return Err(Cut);
            }
            if let Poll::Ready(value) = polled {
                return Ok(value);
            }
        }
        panic!(
            "no end after {} turns: {}",
            self.max_turns,
            self.world.describe()
        );
    }

    /// Ends the life with a power loss: nothing runs any further, and the disk keeps what was
    /// durable and any part of the rest.
    pub fn power_cut(mut self) {
        self.has_ended = true;
        self.process.power_cut();
        self.world.end();
    }

    /// Ends the life with SIGKILL: nothing runs any further, but the kernel keeps what it has.
    pub fn process_kill(self) {}
}

impl Drop for Sim {
    fn drop(&mut self) {
        if !self.has_ended {
            self.process.kill();
            self.world.end();
        }
    }
}
