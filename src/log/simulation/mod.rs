//! Whole logs in the simulator: several lives on one disk, each ended by a power cut or a kill at
//! some I/O step, and what every life must find of the ones before.
//!
//! The promise: every acknowledged batch, in order, byte for byte; behind them nothing but a first
//! part of the unacknowledged ones; of what rewrites drop, all or nothing of each; producers exactly as those batches left them; log starts and
//! leader epochs never behind what was answered.

mod damage;
mod directed;
mod failure;
mod flushes;
mod handover;
mod life;
mod recovery;
mod rewrite;
mod shards;
mod truth;
mod work;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::log::options::Durability;
use crate::rt::{DurableWrites, Runtime};
use crate::sim::{DiskModel, Rng, Sim, SimDisk, SimRuntime};
use life::Plan;
use truth::Truth;

pub use damage::{
    full_disk, missing_dir, missing_segment, offline_keeps_all, rotten_checkpoint, rotten_log_start,
};
pub use directed::{
    emptied, full_journal, late_write, lost_metadata, recovery_time, rolls_cut_at_each_step,
    rotten_journal, unflushed_log_start,
};
pub use flushes::{commits_over_two_files, failed_flush};
pub use handover::{came_back, handed_over};
pub use recovery::{RecoveredShards, recover};
pub use rewrite::{gap_in_a_dense_segment, swap_cut_at_every_step};
pub use shards::{read_by_several, stopped_in_part};

/// How lives end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was not durable is lost in any part.
    PowerCut,
    /// The kernel lives on, with writes still in flight.
    Kill,
    /// One or the other.
    Either,
}

/// What one seed has gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lives that were cut while recovering.
    pub cut_in_recovery: u32,
    /// Lives that were cut between recovery and work.
    pub cut_while_opening: u32,
    /// Lives that were cut while working.
    pub cut_at_work: u32,
    /// Lives that ended because the disk failed.
    pub failed: u32,
    /// Lives that stopped cleanly.
    pub clean_stops: u32,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Rewrites whose segments took the place of others.
    pub swaps: u64,
    /// I/O steps of the last life, which is not cut.
    pub last_io_count: u64,
}

impl Report {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.cut_in_recovery += other.cut_in_recovery;
        self.cut_while_opening += other.cut_while_opening;
        self.cut_at_work += other.cut_at_work;
        self.failed += other.failed;
        self.clean_stops += other.clean_stops;
        self.acknowledged += other.acknowledged;
        self.swaps += other.swaps;
        self.last_io_count += other.last_io_count;
    }

    /// Whether the seed went through what every seed should: two lives cut at work, with batches
    /// acknowledged in each, and one in recovery.
    pub fn is_full(&self) -> bool {
        self.cut_at_work >= 2 && self.cut_in_recovery >= 1 && self.acknowledged >= 2
    }
}

/// Runs one seed at level `fsync` (or `written`, when no power is cut): lives that are cut at work,
/// at least two of them behind a batch that was acknowledged, one that is cut in recovery, and a last
/// one that stops cleanly.
///
/// # Errors
/// The promise that was broken.
pub fn run_seed(seed: u64, ending: Ending) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let mut lives = Lives::new(seed, ending);
    let at_work = |rng: &mut Rng, acknowledges| {
        let longest = [300, 900, 2500][rng.index(3)];
        let steps = 1 + rng.below(longest);
        Cut::AtWork {
            steps,
            acknowledges,
        }
    };
    lives.live(at_work(&mut rng, true))?;
    let acknowledges = rng.coin();
    lives.live(at_work(&mut rng, acknowledges))?;
    // How many steps this recovery has is known from the one before, about; each has one.
    let mut longest = lives.recovery_io_count * 5 / 4;
    while lives.report.cut_in_recovery == 0 {
        lives.live(Cut::InRecovery(1 + rng.below(longest.max(1))))?;
        longest = lives.recovery_io_count.min(longest * 3 / 4);
    }
    lives.live(at_work(&mut rng, true))?;
    lives.live(Cut::Never)?;
    Ok(lives.report())
}

/// Runs one seed in which the disk fails while the log works: writes or syncs, of journal, segments
/// or checkpoints, once or for ever. Everything goes offline, nothing is acknowledged any more, and
/// the next life has all that was.
///
/// # Errors
/// The promise that was broken.
pub fn run_failing_disk(seed: u64, ending: Ending) -> Result<Report, String> {
    caught(|| {
        let mut lives = Lives::new(seed, ending);
        for _ in 0..3 {
            let steps = 3_000;
            lives.live(Cut::WhenDiskFails { steps })?;
        }
        lives.live(Cut::Never)?;
        Ok(lives.report())
    })
}

/// Cuts the first life of a seed at one given I/O step, and checks what a second one finds.
///
/// # Errors
/// The promise that was broken.
pub fn run_cut_at(seed: u64, step: u64, ending: Ending) -> Result<Report, String> {
    caught(|| {
        let mut lives = Lives::new(seed, ending);
        lives.live(Cut::AtStep(step))?;
        lives.live(Cut::AtStep(step % 97 + 1))?;
        lives.live(Cut::Never)?;
        Ok(lives.report())
    })
}

/// I/O steps of the first life of a seed, when nothing cuts it.
///
/// # Errors
/// The promise that was broken.
pub fn count_steps(seed: u64) -> Result<u64, String> {
    let mut lives = Lives::new(seed, Ending::PowerCut);
    lives.live(Cut::Never)?;
    Ok(lives.report.last_io_count)
}

/// Where a life is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// At this I/O step.
    AtStep(u64),
    /// At this I/O step of its recovery, or at recovery's end.
    InRecovery(u64),
    /// So many I/O steps after the work has begun, or after a batch was acknowledged.
    AtWork { steps: u64, acknowledges: bool },
    /// When the disk has failed, which it does at some time while the log works, or after so many
    /// I/O steps.
    WhenDiskFails { steps: u64 },
    /// It stops cleanly.
    Never,
}

/// How far a life has come.
#[derive(Clone, Copy)]
enum Stage {
    Recovery,
    Opening,
    Work,
    DiskFailure,
    Stopped,
}

/// The lives of one seed, one after the other on one disk.
struct Lives {
    rng: Rng,
    disk: SimDisk,
    truth: Rc<RefCell<Truth>>,
    ending: Ending,
    durability: Durability,
    number: usize,
    report: Report,
    /// I/O steps of the last recovery that was not cut.
    recovery_io_count: u64,
}

impl Lives {
    fn new(seed: u64, ending: Ending) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let durability = match ending {
            Ending::Kill if rng.coin() => Durability::Written,
            _ => Durability::Fsync,
        };
        Self {
            rng,
            disk: SimDisk::new(DiskModel::any(seed)),
            truth: Rc::default(),
            ending,
            durability,
            number: 0,
            report: Report::default(),
            recovery_io_count: 0,
        }
    }

    fn report(&self) -> Report {
        Report {
            acknowledged: self.truth.borrow().acknowledged_count,
            swaps: self.truth.borrow().swap_count(),
            ..self.report
        }
    }

    fn live(&mut self, cut: Cut) -> Result<(), String> {
        let mut sim = Sim::new(self.rng.next_u64(), &self.disk);
        sim.set_max_turns(5_000_000);
        sim.set_durable_writes(DurableWrites::ALL[self.rng.index(2)]);
        let mut plan = Plan::any(&mut self.rng, self.durability);
        if let Cut::AtWork { .. } | Cut::WhenDiskFails { .. } = cut {
            plan.operations = usize::MAX;
        }
        let came_to = self.go_through(&mut sim, plan, cut);
        self.disk.set_capacity(None);
        self.disk.clear_faults();
        let broken = self.truth.borrow_mut().broken.take();
        let came_to = match broken {
            Some(broken) => Err(broken),
            None => came_to,
        };
        let report = &mut self.report;
        match came_to.map_err(|what| format!("life {}: {what}", self.number))? {
            Stage::Recovery => report.cut_in_recovery += 1,
            Stage::Opening => report.cut_while_opening += 1,
            Stage::Work => report.cut_at_work += 1,
            Stage::DiskFailure => report.failed += 1,
            Stage::Stopped => {
                report.clean_stops += 1;
                report.last_io_count = sim.io_count();
            }
        }
        self.number += 1;
        match self.ending {
            Ending::PowerCut => sim.power_cut(),
            Ending::Kill => sim.process_kill(),
            Ending::Either if self.rng.coin() => sim.power_cut(),
            Ending::Either => sim.process_kill(),
        }
        Ok(())
    }

    fn go_through(&mut self, sim: &mut Sim, plan: Plan, cut: Cut) -> Result<Stage, String> {
        let shards = 0..u32::from(plan.shards);
        let runtimes: Vec<_> = shards.map(|shard| sim.runtime(shard)).collect();
        let first = runtimes[0].clone();
        if let Cut::AtStep(step) | Cut::InRecovery(step) = cut {
            sim.cut_at_io(step);
        }
        let recovery = life::recover_all(&self.disk, &first, &plan, &self.truth);
        let Ok(recovered) = sim.run(recovery) else {
            return Ok(Stage::Recovery);
        };
        let recovered = recovered?;
        self.recovery_io_count = sim.io_count();
        if let Cut::InRecovery(_) = cut {
            return Ok(Stage::Opening);
        }
        let opening = life::open(runtimes, recovered, &plan, self.truth.clone());
        let Ok(node) = sim.run(opening) else {
            return Ok(Stage::Opening);
        };
        let node = node?;
        let work = life::work_and_stop(self.disk.clone(), node.clone(), plan);
        let mut work = pin!(work);
        if let Cut::AtWork {
            steps,
            acknowledges,
        } = cut
        {
            let waits = select(work.as_mut(), self.acknowledges_more(first));
            if acknowledges && let Ok(Either::Left((ended, _))) = sim.run(waits) {
                return Err(format!("the work ended by itself: {ended:?}"));
            }
            sim.cut_at_io(sim.io_count() + steps);
        }
        if let Cut::WhenDiskFails { steps } = cut {
            sim.cut_at_io(sim.io_count() + steps);
            self.disk.inject(failure::any(&mut self.rng));
            failure::watch(&node);
            return match sim.run(work) {
                Ok(ended) => failure::check(sim, &node, ended).map(|()| Stage::DiskFailure),
                Err(crate::sim::Cut) => Ok(Stage::Work),
            };
        }
        match sim.run(work) {
            Ok(ended) => ended.map(|()| Stage::Stopped),
            Err(crate::sim::Cut) => Ok(Stage::Work),
        }
    }

    /// Completes when one more batch was acknowledged.
    fn acknowledges_more(&self, rt: SimRuntime) -> impl Future<Output = ()> + use<> {
        let truth = self.truth.clone();
        let before = truth.borrow().acknowledged_count;
        Box::pin(async move {
            while truth.borrow().acknowledged_count == before {
                rt.sleep(Duration::from_micros(50)).await;
            }
        })
    }
}

/// Runs one seed and takes a panic (a deadlock, a broken invariant) as a broken promise.
///
/// # Errors
/// The promise that was broken.
pub fn try_seed(seed: u64, ending: Ending) -> Result<Report, String> {
    caught(|| run_seed(seed, ending))
}

fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
