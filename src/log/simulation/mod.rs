//! Whole logs in the simulator: several lives on one disk, each ended by a power cut or a kill at
//! some I/O step, and what every life must find of the ones before.
//!
//! The promise: every acknowledged batch, in order, byte for byte; behind them nothing but a first
//! part of the unacknowledged ones; producers exactly as those batches left them; log starts and
//! leader epochs never behind what was answered.

mod life;
mod truth;
mod work;

use std::cell::RefCell;
use std::rc::Rc;

use crate::log::options::Durability;
use crate::sim::{DiskModel, Rng, Sim, SimDisk};
use truth::Truth;

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
    /// Lives that were cut while recovering, or before all was checked.
    pub cut_in_recovery: u32,
    /// Lives that were cut while working.
    pub cut_at_work: u32,
    /// Lives that stopped cleanly.
    pub clean_stops: u32,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// I/O steps of the last life, which is not cut.
    pub last_io_count: u64,
}

impl Report {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.cut_in_recovery += other.cut_in_recovery;
        self.cut_at_work += other.cut_at_work;
        self.clean_stops += other.clean_stops;
        self.acknowledged += other.acknowledged;
        self.last_io_count += other.last_io_count;
    }
}

/// Lives of a seed: at least two are cut at work and one in recovery.
const LIVES: usize = 5;

/// Runs one seed at level `fsync` (or `written`, when no power is cut).
///
/// # Errors
/// The promise that was broken.
pub fn run_seed(seed: u64, ending: Ending) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let cuts = (0..LIVES).map(|life| match life {
        // Short enough to end in recovery, most of the time.
        2 => Some(1 + rng.below(120)),
        _ if life + 1 == LIVES => None,
        _ => {
            let longest = [300, 900, 2500][rng.index(3)];
            Some(200 + rng.below(longest))
        }
    });
    let cuts: Vec<_> = cuts.collect();
    run_lives(seed, &cuts, ending)
}

/// Cuts the first life of a seed at one given I/O step, and checks what a second one finds.
///
/// # Errors
/// The promise that was broken.
pub fn run_cut_at(seed: u64, step: u64, ending: Ending) -> Result<Report, String> {
    caught(|| run_lives(seed, &[Some(step), Some(step % 97 + 1), None], ending))
}

/// I/O steps of the first life of a seed, when nothing cuts it.
///
/// # Errors
/// The promise that was broken.
pub fn count_steps(seed: u64) -> Result<u64, String> {
    Ok(run_lives(seed, &[None], Ending::PowerCut)?.last_io_count)
}

fn run_lives(seed: u64, cuts: &[Option<u64>], ending: Ending) -> Result<Report, String> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let disk = SimDisk::new(DiskModel::any(seed));
    let truth = Rc::new(RefCell::new(Truth::default()));
    let durability = match ending {
        Ending::Kill if rng.coin() => Durability::Written,
        _ => Durability::Fsync,
    };
    let mut report = Report::default();
    for (number, cut) in cuts.iter().enumerate() {
        let mut sim = Sim::new(rng.next_u64(), &disk);
        sim.set_max_turns(5_000_000);
        let plan = life::Plan::any(&mut rng, number, durability);
        let shards: Vec<_> = (0..u32::from(plan.shards))
            .map(|shard| sim.runtime(shard))
            .collect();
        if let Some(step) = cut {
            sim.cut_at_io(*step);
        }
        let progress = Rc::new(RefCell::new(life::Progress::default()));
        let life = life::live(disk.clone(), shards, plan, truth.clone(), progress.clone());
        let ended = sim.run(life);
        disk.set_capacity(None);
        let progress = *progress.borrow();
        match ended {
            Ok(result) => {
                result.map_err(|what| format!("life {number}: {what}"))?;
                report.clean_stops += 1;
                report.last_io_count = sim.io_count();
            }
            Err(crate::sim::Cut) if progress.is_working => report.cut_at_work += 1,
            Err(crate::sim::Cut) => report.cut_in_recovery += 1,
        }
        if let Some(broken) = truth.borrow_mut().broken.take() {
            return Err(format!("life {number}: {broken}"));
        }
        match ending {
            Ending::PowerCut => sim.power_cut(),
            Ending::Kill => sim.process_kill(),
            Ending::Either if rng.coin() => sim.power_cut(),
            Ending::Either => sim.process_kill(),
        }
    }
    report.acknowledged = truth.borrow().acknowledged_count;
    Ok(report)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> std::ops::Range<u64> {
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .and_then(|value| value.parse().ok())
        };
        let first = number("FIRST_SEED").unwrap_or(0);
        first..first + number("SEEDS").unwrap_or(40)
    }

    fn check(ending: Ending) {
        let mut all = Report::default();
        let mut failures = Vec::new();
        for seed in seeds() {
            match try_seed(seed, ending) {
                Ok(report) => all.add(&report),
                Err(what) => failures.push(format!("seed {seed} ({ending:?}): {what}")),
            }
        }
        println!("{ending:?}: {all:?}");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(all.cut_in_recovery > 0 && all.cut_at_work > 0 && all.acknowledged > 0);
    }

    #[test]
    fn power_cuts_lose_nothing() {
        check(Ending::PowerCut);
    }

    #[test]
    fn kills_lose_nothing() {
        check(Ending::Kill);
    }

    #[test]
    fn one_or_the_other_loses_nothing() {
        check(Ending::Either);
    }
}
