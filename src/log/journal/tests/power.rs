//! Lives that end at any I/O, one after the other in the same files.

use super::*;
use crate::rt::DurableWrites;
use crate::sim::{Cut, Rng};
use std::collections::VecDeque;

const PARTITIONS: usize = 3;

/// What the caller of the journal knows, and what it was promised.
#[derive(Clone, Debug)]
struct Truth {
    run: u64,
    start: JournalStart,
    /// End of what was acknowledged, per partition.
    acknowledged: [u64; PARTITIONS],
    /// End of what the checkpoint lets the journal forget, per partition.
    forgotten: [u64; PARTITIONS],
    log_end: [u64; PARTITIONS],
}

impl Truth {
    fn new(run: u64, options: &JournalOptions) -> Self {
        Self {
            run,
            start: options.first_start(run_id(run)),
            acknowledged: [0; PARTITIONS],
            forgotten: [0; PARTITIONS],
            log_end: [0; PARTITIONS],
        }
    }

    /// What a scan found is everything acknowledged, and nothing that was never appended.
    fn check(&self, found: &Found) -> Result<(), String> {
        let mut ends = self.forgotten;
        for entry in found.entries() {
            let ScannedEntry::Data {
                partition,
                position,
                payload,
                ..
            } = entry
            else {
                return Err("an entry that nobody appended".into());
            };
            let index = partition.index.0 as usize;
            let end = ends.get_mut(index).ok_or("a strange partition")?;
            if *position > *end {
                return Err(format!(
                    "partition {index} continues at {position}, not at {end}"
                ));
            }
            let bytes: Vec<u8> = payload.iter().flat_map(|buf| buf.to_vec()).collect();
            let at = *position + bytes.len() as u64;
            if bytes != content(self.run, index as i32, *position..at) {
                return Err(format!("partition {index} has wrong bytes below {at}"));
            }
            *end = at.max(*end);
        }
        for (index, end) in ends.into_iter().enumerate() {
            if end < self.acknowledged[index] {
                let acknowledged = self.acknowledged[index];
                return Err(format!(
                    "partition {index} ends at {end}, not {acknowledged}"
                ));
            }
            if end > self.log_end[index] {
                return Err(format!("partition {index} has more than was appended"));
            }
        }
        match found.lost.first() {
            Some(lost) => Err(format!("{lost:?} without rot")),
            None => Ok(()),
        }
    }
}

/// An entry that the journal must still know.
struct Kept {
    first: Sequence,
    index: usize,
    end: u64,
}

/// Appends, and now and then checkpoints and trims, until the life is cut.
async fn work(rt: SimRuntime, truth: Rc<RefCell<Truth>>, mut rng: Rng, options: JournalOptions) {
    let run = truth.borrow().run;
    let on_completed = {
        let truth = truth.clone();
        move |_, tokens: Drain<'_, (usize, u64)>| {
            for (index, end) in tokens {
                truth.borrow_mut().acknowledged[index] = end;
            }
        }
    };
    let journal = create(&rt, run, options, on_completed).await;
    let mut kept: VecDeque<Kept> = VecDeque::new();
    let mut last = Sequence(0);
    loop {
        let index = rng.index(PARTITIONS);
        let len = [20, 3_000, 9_000, 20_000, 45_000][rng.index(5)] + rng.index(100);
        if let Some(mut permit) = reserve_or_trim(&journal, &truth, &mut kept, len).await {
            let position = truth.borrow().log_end[index];
            let end = position + len as u64;
            truth.borrow_mut().log_end[index] = end;
            let first = last.max(journal.completed_end());
            let entry = data(&rt, run, index as i32, position, len, (index, end));
            last = journal.append(&mut permit, entry);
            kept.push_back(Kept { first, index, end });
        }
        if rng.one_in(12) {
            // Long enough for a closing record at times.
            rt.sleep(Duration::from_micros(rng.below(5_000))).await;
        }
        if rng.one_in(20) {
            checkpoint(&journal, &truth, &mut kept);
        }
    }
}

async fn reserve_or_trim<R: Runtime, T>(
    journal: &Journal<R, T>,
    truth: &RefCell<Truth>,
    kept: &mut VecDeque<Kept>,
    len: usize,
) -> Option<JournalPermit<R, T>> {
    use futures_util::FutureExt;
    let mut reserved = Box::pin(journal.reserve(len));
    if let Some(permit) = (&mut reserved).now_or_never() {
        return permit.ok();
    }
    if journal.completed_end().0 > 0 {
        let last = Sequence(journal.completed_end().0 - 1);
        journal.wait_completed(last).await.ok();
    }
    loop {
        checkpoint(journal, truth, kept);
        if let Some(permit) = (&mut reserved).now_or_never() {
            return permit.ok();
        }
        let end = journal.completed_end();
        let moved = || (journal.completed_end() > end).then_some(());
        let space = std::pin::pin!(journal.progressed().wait_until(moved));
        if let futures_util::future::Either::Right((permit, _)) =
            futures_util::future::select(space, &mut reserved).await
        {
            return permit.ok();
        }
    }
}

/// As if everything acknowledged had moved to its segment and a checkpoint said so.
fn checkpoint<R: Runtime, T>(
    journal: &Journal<R, T>,
    truth: &RefCell<Truth>,
    kept: &mut VecDeque<Kept>,
) {
    let mut truth = truth.borrow_mut();
    while let Some(entry) = kept.front()
        && truth.acknowledged[entry.index] >= entry.end
    {
        truth.forgotten[entry.index] = entry.end;
        kept.pop_front();
    }
    let end = journal.completed_end();
    let start = kept.front().map_or(end, |entry| entry.first.min(end));
    truth.start = journal.position_of(start);
    journal.trim(start);
}

/// Some lives on one disk, each ended by a cut, each followed by a look at what is left.
fn lives(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let disk = SimDisk::new(DiskModel::any(seed));
    let mut truth: Option<Truth> = None;
    for run in 1..=4 {
        let options = small();
        let mut sim = Sim::new(rng.next_u64(), &disk);
        sim.set_arena_bytes(16 << 20);
        sim.set_durable_writes(DurableWrites::ALL[rng.index(2)]);
        let rt = sim.runtime(0);
        if let Some(truth) = truth {
            let found = sim
                .run(scan(&rt, truth.start))
                .map_err(|_| "no cut was planned")?;
            let found = found.map_err(|error| format!("run {}: {error}", truth.run))?;
            truth
                .check(&found)
                .map_err(|error| format!("run {}: {error}", truth.run))?;
        }
        // As before a run is committed.
        let made = Journal::<_, ()>::make_files(&rt, Path::new(DIR), &options);
        sim.run(made).unwrap().map_err(|error| error.to_string())?;
        let fresh = Rc::new(RefCell::new(Truth::new(run, &options)));
        let steps = [40, 150, 600][rng.index(3)];
        sim.cut_at_io(sim.io_count() + 1 + rng.below(steps));
        let ended = sim.run(work(rt, fresh.clone(), rng.fork(), options));
        assert_eq!(ended, Err(Cut));
        if rng.coin() {
            sim.process_kill();
        } else {
            sim.power_cut();
        }
        let left = fresh.borrow().clone();
        truth = Some(left);
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_any_cut() {
    let seeds = std::env::var("JOURNAL_SEEDS").map_or(100, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        lives(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A process is killed while it writes; its successor reads, and writes to the same place. Tells
/// whether both passes of replay saw the same, and what the successor acknowledged is there.
fn killed_while_writing(seed: u64) -> bool {
    let disk = SimDisk::new(DiskModel::default());
    let start = |run| small().first_start(run_id(run));
    let write = async |rt: SimRuntime, run: u64, wait: bool| {
        let journal = create(&rt, run, small(), |_, _: Drain<'_, ()>| {}).await;
        let mut permit = journal.reserve(10).await.unwrap();
        let sequence = journal.append(&mut permit, data(&rt, run, 0, 0, 10, ()));
        if wait {
            journal.wait_completed(sequence).await.unwrap();
        }
        let pause_us = if wait { 100_000 } else { 5 };
        rt.sleep(Duration::from_micros(pause_us)).await;
        journal
    };
    let mut sim = Sim::new(seed, &disk);
    let rt = sim.runtime(0);
    let first = sim.run(write(rt, 1, false)).unwrap();
    sim.process_kill();
    drop(first);
    let mut sim = Sim::new(seed + 1, &disk);
    let rt = sim.runtime(0);
    let agree = sim.run(async {
        let first_pass = scan(&rt, start(1)).await.unwrap().entry_count();
        let second_pass = scan(&rt, start(1)).await.unwrap().entry_count();
        write(rt.clone(), 2, true).await;
        first_pass == second_pass
    });
    sim.process_kill();
    let mut sim = Sim::new(seed + 2, &disk);
    let rt = sim.runtime(0);
    let found = sim.run(scan(&rt, start(2))).unwrap();
    agree.unwrap() && found.is_ok_and(|found| found.entry_count() == 1)
}

#[test]
fn a_killed_predecessor_cannot_write_into_the_next_life() {
    assert!((0..60).all(killed_while_writing));
}

#[cfg(feature = "planted")]
#[test]
fn without_locks_a_killed_predecessor_does() {
    use crate::log::rules::{Rule, planted};
    let _left_out = planted::leave_out(Rule::Locks);
    assert!(!(0..300).all(killed_while_writing));
}

/// Each rule of the journal, left out, loses something within some seeds.
#[cfg(feature = "planted")]
#[test]
fn each_rule_that_is_left_out_is_missed() {
    use crate::log::rules::{Rule, planted};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let rules = [
        Rule::AckWaitsForDurable,
        Rule::AckWaitsForPrefix,
        Rule::JournalChecksums,
        Rule::RunCheck,
        Rule::SpaceReserved,
        Rule::AckWaitsForFlush,
        Rule::FlushCoversCompleted,
        Rule::FlushEveryFile,
    ];
    for rule in rules {
        let _left_out = planted::leave_out(rule);
        let caught = (0..200).find(|seed| {
            let lived = catch_unwind(AssertUnwindSafe(|| lives(*seed)));
            !matches!(lived, Ok(Ok(())))
        });
        let seed = caught.unwrap_or_else(|| panic!("{rule:?} left out and nothing was lost"));
        println!("{rule:?}: seed {seed}");
    }
}
