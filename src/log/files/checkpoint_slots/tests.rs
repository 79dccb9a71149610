//! The slots on a simulated disk.

use std::cell::Cell;

use super::*;
use crate::sim::{DiskModel, Rng, Sim, SimDisk, SimRuntime};

fn run(number: u64) -> RunId {
    RunId { number, id: 3 }
}

/// Contents that tell themselves apart, of lengths that make the slots grow.
fn content(number: u64) -> Vec<u8> {
    let len = [0, 10, 5_000, 300_000][number as usize % 4];
    vec![number as u8; 8 + len]
}

/// What must be found: the checkpoint that was written last, or the one that was being written.
#[derive(Clone, Copy, Default)]
struct Known {
    written: u64,
    begun: u64,
}

async fn write_some(rt: SimRuntime, of: RunId, known: &Cell<Known>) {
    let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
    known.set(check(&slots, of, known.get()).await);
    loop {
        let mut state = known.get();
        state.begun += 1;
        known.set(state);
        let bytes = content(state.begun);
        slots.write_next(Some(of), of, &bytes).await.unwrap();
        state.written = state.begun;
        known.set(state);
        check(&slots, of, state).await;
    }
}

async fn check(slots: &CheckpointSlots<SimRuntime>, of: RunId, known: Known) -> Known {
    let found = slots.load(of).await.unwrap();
    let found = found.map(|checkpoint| checkpoint.content);
    if known.begun > 0 && found == Some(content(known.begun)) {
        let written = known.begun;
        return Known { written, ..known };
    }
    let written = (known.written > 0).then(|| content(known.written));
    assert!(
        found == written,
        "neither {} nor {}",
        known.written,
        known.begun
    );
    known
}

#[test]
fn the_newest_whole_checkpoint_survives_any_cut() {
    for seed in 0..400 {
        let disk = SimDisk::new(DiskModel::any(seed));
        let known = Cell::new(Known::default());
        let mut rng = Rng::new(seed);
        for _ in 0..10 {
            let mut sim = Sim::new(rng.next_u64(), &disk);
            sim.cut_at_io(1 + rng.below(80));
            let rt = sim.runtime(0);
            sim.run(write_some(rt, run(1), &known)).unwrap_err();
            match rng.coin() {
                true => sim.power_cut(),
                false => sim.process_kill(),
            }
        }
    }
}

/// Recovery of run 2 is cut again and again while it writes its first checkpoint; run 1 stays
/// committed, and its newest checkpoint must stay. Tells whether it did.
fn recovery_that_is_cut(seed: u64) -> bool {
    let disk = SimDisk::new(DiskModel::any(seed));
    let mut rng = Rng::new(seed);
    let mut sim = Sim::new(seed, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
        for content in [b"old", b"new"] {
            slots
                .write_next(Some(run(1)), run(1), content)
                .await
                .unwrap();
        }
    })
    .unwrap();
    for _ in 0..6 {
        sim.power_cut();
        sim = Sim::new(rng.next_u64(), &disk);
        sim.cut_at_io(1 + rng.below(40));
        let rt = sim.runtime(0);
        let newest = sim.run(async {
            let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
            let newest = slots.load(run(1)).await.unwrap();
            slots
                .write_next(Some(run(1)), run(2), b"next")
                .await
                .unwrap();
            newest.map(|checkpoint| checkpoint.content)
        });
        if newest.is_ok_and(|newest| newest.as_deref() != Some(b"new")) {
            return false;
        }
    }
    true
}

#[test]
fn recovery_keeps_the_newest_of_the_committed_run() {
    assert!((0..40).all(recovery_that_is_cut));
}

#[cfg(feature = "planted")]
#[test]
fn recovery_would_lose_it_without_its_rule() {
    use crate::log::rules::planted;
    let _left_out = planted::leave_out(Rule::RecoveryKeepsNewestCheckpoint);
    assert!(!(0..40).all(recovery_that_is_cut));
}

#[test]
fn a_full_disk_takes_a_checkpoint_of_the_usual_size() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
        disk.set_capacity(Some(disk.used_bytes()));
        let mut write = async |len| slots.write_next(None, run(1), &vec![1; len]).await;
        for _ in 0..4 {
            write(200_000).await.unwrap();
        }
        let full = write(1 << 20).await;
        assert!(matches!(full, Err(CheckpointError::DiskFull { .. })));
        assert_eq!(slots.load(run(1)).await.unwrap().unwrap().sequence, 4);
    })
    .unwrap();
}
