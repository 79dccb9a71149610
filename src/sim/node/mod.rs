//! A whole node in the simulator: its shards, partitions, server and handlers, under the load of the
//! project's own client, killed, cut off from power, paused and cut off from its clients, on a disk
//! that fills up and is slow at times, with clocks that jump and go wrong.
//!
//! The promise: every answer is *ok*, *failed* or *unknown*. What was answered ok is there at the end:
//! each acknowledged record once, at its offset, byte for byte; topics, partitions and configs as they
//! were made. What was shown to a consumer stays. Nothing is there that nobody asked for, or that was
//! refused for certain. Records of an idempotent producer are there at most once, and in its order. And
//! the node always comes back, and every partition takes records again.
//!
//! At the levels below `fsync` an end of the node may take what was acknowledged: a power cut at
//! `written`, any end at `memory`. Then of what was acknowledged before, some first part is there.
//!
//! | file | what |
//! |---|---|
//! | `machine` | the node's machine: its disk, and its process from life to life |
//! | `load` | producers, consumers, and who changes topics |
//! | `once` | producers that send once, also what must be refused |
//! | `faults` | what happens to the machine meanwhile |
//! | `history` | what was asked and answered |
//! | `check` | whether that is what a client then finds |
//! | `report` | what seeds have gone through |

mod check;
#[cfg(test)]
mod directed;
mod faults;
mod history;
mod load;
mod machine;
mod once;
#[cfg(test)]
mod refusals;
mod report;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::{DiskModel, Rng, SimDisk, SimRuntime, SimWorld};
use crate::log::Durability;
use crate::rt::Runtime;
use history::History;
use machine::Machine;

pub use machine::ADDRESS;
pub use report::NodeReport;

/// The machine of the clients.
const CLIENTS: u8 = 2;
const CLIENT_MEMORY_BYTES: usize = 64 << 20;
/// More virtual time than anything here takes that ends.
const LIMIT: Duration = Duration::from_secs(600);

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
    let durability = match rng.below(8) {
        0..=4 => Durability::Fsync,
        5 | 6 => Durability::Written,
        _ => Durability::Memory,
    };
    let machine = Machine::new(&world, SimDisk::new(model), durability, &mut rng);
    let scene = Scene {
        rt: clients.runtime(0),
        machine: Rc::new(machine),
        history: Rc::default(),
        report: Rc::default(),
        world: world.clone(),
    };
    let played = world.run(scene.play(&mut rng));
    let mut report = *scene.report.borrow();
    report.trace_hash = world.trace_hash();
    report.wrong_rates = scene.machine.wrong_rates();
    report.levels[scene.machine.durability() as usize] = 1;
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
        self.machine.start(rng);
        self.within("the first start", self.machine.serves())
            .await??;
        let load = load::begin(self, rng);
        faults::happen(self, rng).await?;
        load.end();
        self.faultless(rng).await?;
        self.within("the end of the load", load.ended()).await?;
        check::check_accepts(self).await?;
        faults::end_life(self, rng.coin());
        self.faultless(rng).await?;
        check::check(self).await?;
        check::check_accepts(self).await?;
        self.stop().await?;
        self.faultless(rng).await?;
        check::check(self).await
    }

    /// Lets the node serve, with nothing in its way.
    async fn faultless(&self, rng: &mut Rng) -> Result<(), String> {
        faults::clear(self);
        loop {
            if !self.machine.is_running() {
                self.machine.start(rng);
            }
            let served = self.within("a start", self.machine.serves()).await?;
            // A start that has met a full disk may fail, also when there is room again by then.
            match served {
                Err(_) if self.machine.clear_ended()? => {
                    self.report.borrow_mut().failed_on_full += 1;
                }
                served => return served,
            }
        }
    }

    /// Stops the node in good order; one whose disk was full may fail to, and is then killed.
    async fn stop(&self) -> Result<(), String> {
        self.report.borrow_mut().stops += 1;
        match self.within("a stop", self.machine.stop()).await? {
            Ok(()) => Ok(()),
            Err((true, _)) => {
                self.report.borrow_mut().failed_on_full += 1;
                if self.machine.may_lose(false) {
                    self.history.borrow_mut().begin_era();
                }
                Ok(())
            }
            Err((false, failed)) => Err(failed),
        }
    }

    /// The value of `future`, which must come before long.
    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        match select(pin!(future), pin!(self.rt.sleep(LIMIT))).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(_) => Err(format!("{what} does not come to an end")),
        }
    }
}
