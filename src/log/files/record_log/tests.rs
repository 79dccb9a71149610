//! The record log on a simulated disk.

use std::cell::RefCell;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::*;
use crate::rt::DurableWrites;
use crate::sim::{DiskModel, Rng, Sim, SimDisk, SimRuntime};

const DIR: &str = "/metadata";

fn record(number: u64) -> Vec<u8> {
    let len = [0, 100, 4048, 4049, 20_000][number as usize % 5];
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + len, number as u8);
    bytes
}

/// A snapshot of everything below `end`.
fn snapshot(end: u64) -> Vec<u8> {
    [b"sum".as_slice(), &end.to_le_bytes()].concat()
}

/// How many records the log stands for, if it is what was appended.
fn read(records: &[Vec<u8>]) -> Result<u64, String> {
    let mut next = 0;
    for (index, bytes) in records.iter().enumerate() {
        match bytes.strip_prefix(b"sum") {
            Some(end) if index == 0 => next = Fields(end).u64().ok_or("a short snapshot")?,
            _ if *bytes == record(next) => next += 1,
            _ => return Err(format!("record {index} is not number {next}")),
        }
    }
    Ok(next)
}

async fn work(rt: SimRuntime, mut rng: Rng, durable: &RefCell<u64>) -> Result<(), String> {
    let opened = RecordLog::open(&rt, Path::new(DIR)).await;
    let (mut log, records) = opened.map_err(|error| error.to_string())?;
    let mut next = read(&records)?;
    if next < *durable.borrow() {
        return Err(format!("{next} records of {}", durable.borrow()));
    }
    loop {
        if rng.one_in(6) {
            log.snapshot(&snapshot(next)).await.unwrap();
        }
        log.append(&record(next), Reserve::Keep).await.unwrap();
        next += 1;
        *durable.borrow_mut() = next;
    }
}

fn lives(seed: u64) -> Result<(), String> {
    let disk = SimDisk::new(DiskModel::any(seed));
    let durable = RefCell::new(0);
    let mut rng = Rng::new(seed);
    for _ in 0..10 {
        let mut sim = Sim::new(rng.next_u64(), &disk);
        // An open reads all that is reserved, block by block.
        let longest = [100, 2_000][rng.index(2)];
        sim.cut_at_io(1 + rng.below(longest));
        let rt = sim.runtime(0);
        if let Ok(ended) = sim.run(work(rt, rng.fork(), &durable)) {
            return ended;
        }
        match rng.coin() {
            true => sim.power_cut(),
            false => sim.process_kill(),
        }
    }
    Ok(())
}

#[test]
fn durable_records_survive_any_cut() {
    for seed in 0..100 {
        lives(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[cfg(feature = "planted")]
#[test]
fn records_that_are_not_durable_are_missed() {
    use crate::log::rules::planted;
    let _left_out = planted::leave_out(Rule::MetadataDurableFirst);
    assert!((0..30).any(|seed| lives(seed).is_err()));
}

fn with_records(disk: &SimDisk, count: u64) {
    let mut sim = Sim::new(1, disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let (mut log, _) = RecordLog::open(&rt, Path::new(DIR)).await.unwrap();
        for number in 0..count {
            log.append(&record(number), Reserve::Keep).await.unwrap();
        }
    })
    .unwrap();
}

#[test]
fn rot_before_the_end_is_an_error() {
    let disk = SimDisk::new(DiskModel::default());
    with_records(&disk, 6);
    disk.corrupt("/metadata/log", 4100..4200).unwrap();
    assert!(matches!(
        reopened(&disk),
        Err(RecordLogError::Rot { index: 1, .. })
    ));
}

fn reopened(disk: &SimDisk) -> Result<Vec<Vec<u8>>, RecordLogError> {
    let mut sim = Sim::new(2, disk);
    let rt = sim.runtime(0);
    let opened = sim.run(RecordLog::open(&rt, Path::new(DIR))).unwrap();
    opened.map(|(_, records)| records)
}

#[test]
fn rot_of_the_last_record_is_not_a_torn_write() {
    for count in 1..6 {
        let disk = SimDisk::new(DiskModel::default());
        with_records(&disk, count);
        let size = reopened_size(&disk);
        // The last two blocks are the end of the last record and its seal.
        disk.corrupt("/metadata/log", size - 8192..size - 4096)
            .unwrap();
        let opened = reopened(&disk);
        assert!(
            matches!(opened, Err(RecordLogError::Rot { .. })),
            "{count} records: {opened:?}"
        );
    }
}

fn reopened_size(disk: &SimDisk) -> u64 {
    let mut sim = Sim::new(2, disk);
    let rt = sim.runtime(0);
    let opened = sim.run(RecordLog::open(&rt, Path::new(DIR))).unwrap();
    opened.unwrap().0.size_bytes()
}

#[test]
fn a_damaged_seal_costs_nothing() {
    let disk = SimDisk::new(DiskModel::default());
    with_records(&disk, 3);
    let size = reopened_size(&disk);
    disk.corrupt("/metadata/log", size - 4096..size).unwrap();
    assert_eq!(reopened(&disk).unwrap().len(), 3);
    assert_eq!(reopened_size(&disk), size, "sealed again");
}

/// Others take all memory that becomes free while a record is on its way to the disk.
#[test]
fn without_memory_a_record_is_in_the_log_or_not() {
    for free_blocks in 0..4 {
        let disk = SimDisk::new(DiskModel::default());
        let mut sim = Sim::new(7, &disk);
        sim.set_durable_writes(DurableWrites::Flush);
        let rt = sim.runtime(0);
        let is_there = sim
            .run(async {
                let (mut log, _) = RecordLog::open(&rt, Path::new(DIR)).await.unwrap();
                let taken = || std::iter::from_fn(|| rt.arena().alloc(BLOCK_BYTES).ok());
                let mut held: Vec<BufMut> = taken().collect();
                held.truncate(held.len() - free_blocks);
                let appended = pin!(log.append(b"record", Reserve::Keep));
                let others = pin!(async {
                    loop {
                        held.extend(taken());
                        rt.sleep(Duration::from_micros(1)).await;
                    }
                });
                match select(appended, others).await {
                    Either::Left((appended, _)) => appended.is_ok(),
                    Either::Right((never, _)) => never,
                }
            })
            .unwrap();
        drop(sim);
        assert_eq!(reopened(&disk).unwrap().len(), usize::from(is_there));
        assert_eq!(is_there, free_blocks > 1, "{free_blocks} blocks");
    }
}

#[test]
fn a_full_disk_leaves_room_for_deletions() {
    let disk = SimDisk::new(DiskModel::default());
    with_records(&disk, 1);
    disk.set_capacity(Some(disk.used_bytes()));
    let mut sim = Sim::new(2, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let (mut log, _) = RecordLog::open(&rt, Path::new(DIR)).await.unwrap();
        let large = vec![0; 100_000];
        let full = loop {
            if let Err(error) = log.append(&large, Reserve::Keep).await {
                break error;
            }
        };
        assert!(matches!(full, RecordLogError::DiskFull));
        for _ in 0..4 {
            log.append(&large, Reserve::Use).await.unwrap();
        }
    })
    .unwrap();
}
