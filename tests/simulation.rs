//! Long simulations of whole logs and whole nodes.
//!
//! `SEEDS` (100) seeds from `FIRST_SEED` (0) on per way of ending; `STEPS` (50) cuts at single I/O
//! steps, spread over a life, for each of `STEP_SEEDS` (2) seeds. With the feature `planted`, each
//! rule is left out in turn and must be missed within `PLANTED_SEEDS` (150) seeds.

use corelane::log::simulation::{
    Ending, Report, came_back, commits_over_two_files, count_steps, emptied, failed_flush,
    full_disk, full_journal, gap_in_a_dense_segment, handed_over, late_write, lost_metadata,
    missing_dir, missing_segment, offline_keeps_all, read_by_several, recovery_time,
    rolls_cut_at_each_step, rotten_checkpoint, rotten_journal, rotten_log_start, run_cut_at,
    run_failing_disk, stopped_in_part, swap_cut_at_every_step, try_seed, unflushed_log_start,
};
use corelane::sim::node::{NodeReport, run_node_seed};

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn run_seeds(ending: Ending) {
    let first = number("FIRST_SEED", 0);
    let mut all = Report::default();
    let mut failures = Vec::new();
    for seed in first..first + number("SEEDS", 100) {
        match try_seed(seed, ending) {
            Ok(report) if report.is_full() => all.add(&report),
            Ok(report) => failures.push(format!("seed {seed} ({ending:?}): only {report:?}")),
            Err(what) => failures.push(format!("seed {seed} ({ending:?}): {what}")),
        }
    }
    println!("{ending:?}: {all:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn power_cuts() {
    run_seeds(Ending::PowerCut);
}

#[test]
fn kills() {
    run_seeds(Ending::Kill);
}

#[test]
fn one_or_the_other() {
    run_seeds(Ending::Either);
}

#[test]
fn failing_disks() {
    let first = number("FIRST_SEED", 0);
    let mut all = Report::default();
    let mut failures = Vec::new();
    for seed in first..first + number("SEEDS", 100) {
        match run_failing_disk(seed, Ending::Either) {
            Ok(report) => all.add(&report),
            Err(what) => failures.push(format!("seed {seed}: {what}")),
        }
    }
    println!("failing disks: {all:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Partitions are recovered several at a time, and each with few operations.
#[test]
fn a_thousand_partitions_recover_in_less_than_a_second() {
    let elapsed = recovery_time(1000).expect("recovery");
    println!("1000 partitions, 100 us per operation: {elapsed:?}");
    assert!(elapsed < std::time::Duration::from_secs(1), "{elapsed:?}");
}

#[test]
fn directed_lives() {
    for seed in 0..number("SEEDS", 100) {
        late_write(seed).expect("late write");
        emptied(seed).expect("emptied");
        full_journal(seed).expect("a full journal");
        rotten_journal(seed).expect("rot");
        lost_metadata(seed).expect("metadata");
        commits_over_two_files(seed).expect("two files");
        failed_flush(seed).expect("a failed flush");
        handed_over(seed).expect("another owner");
        came_back(seed).expect("the first owner again");
    }
}

#[test]
fn damaged_files() {
    for seed in 0..number("SEEDS", 100).min(20) {
        offline_keeps_all(seed).expect("rot");
        full_disk(seed).expect("full disk");
        unflushed_log_start(seed).expect("a log start that was not flushed");
        missing_dir(seed).expect("directory");
        missing_segment(seed).expect("segment");
        rotten_checkpoint(seed).expect("checkpoint");
        rotten_log_start(seed).expect("log start");
        gap_in_a_dense_segment(seed).expect("gap");
        read_by_several(seed).expect("one journal, several shards");
        stopped_in_part(seed).expect("one shard stopped cleanly");
    }
}

/// Each of `SWAP_SEEDS` (3) swaps, by a power cut and by a kill.
#[test]
fn swaps_cut_at_every_step() {
    for seed in 0..number("SWAP_SEEDS", 3) {
        swap_cut_at_every_step(seed).expect("swap");
    }
}

/// Four seeds: power cuts and kills, with checkpoints seldom and always.
#[test]
fn rolls_cut_at_every_step() {
    for seed in 0..4 {
        let steps = rolls_cut_at_each_step(seed).unwrap_or_else(|what| panic!("{seed}: {what}"));
        println!("seed {seed}: {steps} cuts");
        assert!(steps > 30, "seed {seed}");
    }
}

#[test]
fn cuts_at_single_steps() {
    let mut failures = Vec::new();
    let mut cuts = 0;
    for seed in 0..number("STEP_SEEDS", 2) {
        let steps = count_steps(seed).expect("a life without a cut keeps its promises");
        let stride = (steps / number("STEPS", 50)).max(1);
        for step in (1..=steps).step_by(stride as usize) {
            cuts += 1;
            if let Err(what) = run_cut_at(seed, step, Ending::PowerCut) {
                failures.push(format!("seed {seed}, step {step}: {what}"));
            }
        }
    }
    println!("{cuts} cuts at single steps");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// `NODE_SEEDS` (40) seeds of a whole node, from `FIRST_SEED` on.
#[test]
fn whole_nodes() {
    let first = number("FIRST_SEED", 0);
    let mut all = NodeReport::default();
    let mut failures = Vec::new();
    for seed in first..first + number("NODE_SEEDS", 40) {
        match run_node_seed(seed) {
            Ok(report) => all.add(&report),
            Err(what) => failures.push(format!("seed {seed}: {what}")),
        }
    }
    println!("whole nodes from seed {first} on:\n{all}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..2 {
        let once = run_node_seed(seed).expect("a seed");
        assert_eq!(run_node_seed(seed), Ok(once), "seed {seed}");
    }
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use corelane::log::rules::{Rule, planted};

    /// What a rule that is left out should break.
    fn scene(rule: Rule) -> fn(u64) -> Result<(), String> {
        match rule {
            Rule::Locks => late_write,
            Rule::NewestOwnerSpeaks => handed_over,
            Rule::NameDurable => |seed| try_seed(seed, Ending::PowerCut).map(|_| ()),
            Rule::EarlierEntriesVoid => came_back,
            Rule::RotIsNotTorn => rotten_journal,
            Rule::MetadataDurableFirst => lost_metadata,
            Rule::FlushBeforeRecovery => unflushed_log_start,
            Rule::FlushEveryFile => commits_over_two_files,
            Rule::FlushFailureIsFinal => failed_flush,
            Rule::GapsOnlyWhereNotDense => gap_in_a_dense_segment,
            Rule::ReplayReplacesSegments
            | Rule::ReplacementDurableFirst
            | Rule::ReplacedFilesStay => swap_cut_at_every_step,
            _ => |seed| try_seed(seed, Ending::Either).map(|_| ()),
        }
    }

    /// A row of the table of rules: which was left out, the seed that missed it, and how.
    fn print_row(rule: Rule, seed: u64, what: &str) {
        let first_line = what.lines().next().unwrap_or("");
        println!("{:<32} seed {seed:>4}  {first_line}", format!("{rule:?}"));
    }

    fn caught_at(rule: Rule) -> Option<(u64, String)> {
        let _guard = planted::leave_out(rule);
        let scene = scene(rule);
        (0..number("PLANTED_SEEDS", 150)).find_map(|seed| Some((seed, scene(seed).err()?)))
    }

    #[test]
    fn late_writes_of_either_kind_are_missed_without_locks() {
        let _guard = planted::leave_out(Rule::Locks);
        let missed = |seed| late_write(seed).is_err();
        assert!(missed(0), "to the journal");
        assert!(missed(1), "to a segment");
    }

    /// What a whole node's clients notice when it is left out, each within `NODE_PLANTED_SEEDS` (60)
    /// seeds: an answer that comes too early, and what a start makes of the disk.
    const SEEN_BY_CLIENTS: [Rule; 5] = [
        Rule::AckWaitsForDurable,
        Rule::RepeatUnfinishedBlock,
        Rule::ReplayNotBelowMark,
        Rule::RunCheck,
        Rule::MetadataDurableFirst,
    ];

    #[test]
    fn clients_of_a_whole_node_miss_a_rule_that_is_left_out() {
        for rule in SEEN_BY_CLIENTS {
            let _guard = planted::leave_out(rule);
            let mut seeds = 0..number("NODE_PLANTED_SEEDS", 60);
            let caught = seeds.find_map(|seed| Some((seed, run_node_seed(seed).err()?)));
            let (seed, what) = caught.unwrap_or_else(|| panic!("{rule:?} is not missed"));
            print_row(rule, seed, &what);
        }
    }

    #[test]
    fn every_rule_is_missed_when_it_is_left_out() {
        let only = std::env::var("RULE").ok();
        let rules = Rule::ALL.iter().copied().filter(|rule| {
            only.as_ref()
                .is_none_or(|only| *only == format!("{rule:?}"))
        });
        let mut missed = Vec::new();
        let mut caught = 0;
        let mut left_out = 0;
        for rule in rules {
            left_out += 1;
            match caught_at(rule) {
                Some((seed, what)) => {
                    caught += 1;
                    print_row(rule, seed, &what);
                }
                None => {
                    println!("{:<32} NOT CAUGHT", format!("{rule:?}"));
                    missed.push(rule);
                }
            }
        }
        println!("rules caught / left out: {caught} / {left_out}");
        assert!(missed.is_empty(), "not caught: {missed:?}");
    }
}
