//! A whole node in the simulator: its shards, partitions, server and handlers, under the load of the
//! project's own client, killed, cut off from power, paused and cut off from its clients.
//!
//! The promise: every answer is *ok*, *failed* or *unknown*. What was answered ok is there at the end:
//! each acknowledged record once, at its offset, byte for byte; topics, partitions and configs as they
//! were made. What was shown to a consumer stays. Nothing is there that nobody asked for. Records of an
//! idempotent producer are there at most once, and in its order. And the node always comes back.
//!
//! | file | what |
//! |---|---|
//! | `machine` | the node's machine: its disk, and its process from life to life |
//! | `load` | producers, consumers, and who changes topics |
//! | `faults` | what happens to the machine meanwhile |
//! | `history` | what was asked and answered |
//! | `check` | whether that is what a client then finds |

mod check;
mod faults;
mod history;
mod load;
mod machine;
#[cfg(test)]
mod refusals;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::{DiskModel, Rng, SimDisk, SimRuntime, SimWorld};
use crate::rt::Runtime;
use history::History;
use machine::Machine;

pub use machine::ADDRESS;

/// The machine of the clients.
const CLIENTS: u8 = 2;
const CLIENT_MEMORY_BYTES: usize = 64 << 20;
/// More virtual time than anything here takes that ends.
const LIMIT: Duration = Duration::from_secs(600);

/// What one seed, or several, have gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Times the node was killed.
    pub kills: u32,
    /// Times its machine lost its power.
    pub power_cuts: u32,
    /// Of both, those before it served.
    pub cut_in_start: u32,
    /// Clean stops.
    pub stops: u32,
    /// Times it was paused.
    pub pauses: u32,
    pub network_faults: u32,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Batches of which nobody knows.
    pub unknown: u64,
    /// Records read back at the end.
    pub records: u64,
    /// Changes of metadata answered with success.
    pub changes: u64,
    /// Those answered otherwise, or not.
    pub unknown_changes: u64,
    /// A number for everything that happened; differs when anything differed.
    pub trace_hash: u64,
}

impl NodeReport {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.cut_in_start += other.cut_in_start;
        self.stops += other.stops;
        self.pauses += other.pauses;
        self.network_faults += other.network_faults;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.records += other.records;
        self.changes += other.changes;
        self.unknown_changes += other.unknown_changes;
        self.trace_hash ^= other.trace_hash;
    }
}

/// Runs one seed: a node under load, with faults; then a last power cut or kill, and what a client
/// finds; then a clean stop.
///
/// # Errors
/// The promise that was broken.
pub fn run_node_seed(seed: u64) -> Result<NodeReport, String> {
    let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn run(seed: u64) -> Result<NodeReport, String> {
    let mut rng = Rng::new(seed);
    let world = Rc::new(SimWorld::new(seed));
    if std::env::var("TRACE").is_ok() {
        world.record_trace();
    }
    let model = DiskModel {
        latency: Duration::from_micros(10)..Duration::from_micros([50, 300, 2_000][rng.index(3)]),
        ..DiskModel::any(rng.next_u64())
    };
    let clients = world.start(
        &SimDisk::new(DiskModel::default()),
        CLIENTS,
        CLIENT_MEMORY_BYTES,
    );
    let scene = Scene {
        rt: clients.runtime(0),
        machine: Rc::new(Machine::new(&world, SimDisk::new(model), &mut rng)),
        history: Rc::default(),
        report: Rc::default(),
        world: world.clone(),
    };
    let played = world.run(scene.play(&mut rng));
    let mut report = *scene.report.borrow();
    report.trace_hash = world.trace_hash();
    scene.history.borrow().count(&mut report);
    if played.is_err() {
        for line in world.trace() {
            eprintln!("{line}");
        }
    }
    played.map(|()| report)
}

/// Everything of one seed.
#[derive(Clone)]
struct Scene {
    world: Rc<SimWorld>,
    /// Of the clients.
    rt: SimRuntime,
    machine: Rc<Machine>,
    history: Rc<RefCell<History>>,
    report: Rc<RefCell<NodeReport>>,
}

impl Scene {
    async fn play(&self, rng: &mut Rng) -> Result<(), String> {
        self.machine.start();
        self.within("the first start", self.machine.serves())
            .await??;
        let load = load::begin(self, rng);
        faults::happen(self, rng).await?;
        load.end();
        self.faultless().await?;
        self.within("the end of the load", load.ended()).await?;
        faults::end_life(self, rng.coin());
        self.faultless().await?;
        check::check(self).await?;
        self.stop().await?;
        self.faultless().await?;
        check::check(self).await
    }

    /// Lets the node serve, on a network without faults.
    async fn faultless(&self) -> Result<(), String> {
        faults::clear(self);
        if !self.machine.is_running() {
            self.machine.start();
        }
        self.within("a start", self.machine.serves()).await?
    }

    /// Stops the node in good order.
    async fn stop(&self) -> Result<(), String> {
        self.report.borrow_mut().stops += 1;
        self.within("a stop", self.machine.stop()).await?
    }

    /// The value of `future`, which must come before long.
    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        match select(pin!(future), pin!(self.rt.sleep(LIMIT))).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(_) => Err(format!("{what} does not come to an end")),
        }
    }
}
