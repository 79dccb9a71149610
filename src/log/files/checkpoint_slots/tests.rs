//! The slots on a simulated disk.

use std::cell::RefCell;

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

/// What must be found: the checkpoint that was written last, or the one that was being written; each a
/// base and its changes.
#[derive(Default)]
struct Known {
    written: Vec<Vec<u8>>,
    begun: Vec<Vec<u8>>,
    number: u64,
    changes: usize,
}

async fn write_some(rt: SimRuntime, of: RunId, known: &RefCell<Known>) {
    let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
    check(&slots, of, known).await;
    loop {
        let (bytes, is_change) = {
            let mut known = known.borrow_mut();
            known.number += 1;
            let bytes = content(known.number);
            let is_change = bytes.len() <= slots.change_bytes(of);
            known.begun = known.written.clone();
            if !is_change {
                known.begun.clear();
            }
            known.begun.push(bytes.clone());
            known.changes += usize::from(is_change);
            (bytes, is_change)
        };
        match is_change {
            true => slots.write_changes(of, &bytes).await.unwrap(),
            false => slots.write_next(Some(of), of, &bytes).await.unwrap(),
        };
        let begun = known.borrow().begun.clone();
        known.borrow_mut().written = begun;
        check(&slots, of, known).await;
    }
}

async fn parts(slots: &CheckpointSlots<SimRuntime>, of: RunId) -> Vec<Vec<u8>> {
    let found = slots.load(of).await.unwrap();
    let parts = found.map(|found| [vec![found.content], found.changes].concat());
    parts.unwrap_or_default()
}

async fn check(slots: &CheckpointSlots<SimRuntime>, of: RunId, known: &RefCell<Known>) {
    let found = parts(slots, of).await;
    let mut known = known.borrow_mut();
    assert!(
        found == known.begun || found == known.written,
        "number {}: {} parts",
        known.number,
        found.len()
    );
    known.written = found;
}

#[test]
fn the_newest_whole_checkpoint_survives_any_cut() {
    for seed in 0..400 {
        let disk = SimDisk::new(DiskModel::any(seed));
        let known = RefCell::new(Known::default());
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
        assert!(known.borrow().changes > 0);
    }
}

/// Bases and changes as they are written; then another life looks what there is.
fn written(parts: &[(bool, &[u8])]) -> SimDisk {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
        for (is_change, content) in parts {
            match is_change {
                true => slots.write_changes(run(1), content).await.unwrap(),
                false => slots
                    .write_next(Some(run(1)), run(1), content)
                    .await
                    .unwrap(),
            };
        }
    })
    .unwrap();
    disk
}

/// What is read of it, and the slot that is damaged.
fn found(disk: &SimDisk) -> (Vec<Vec<u8>>, Option<PathBuf>) {
    let mut sim = Sim::new(2, disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
        let damaged = slots.damaged().map(Path::to_owned);
        (parts(&slots, run(1)).await, damaged)
    })
    .unwrap()
}

/// Slot 0 has base 1 and changes 2 and 3, slot 1 base 4, and slot 0 again base 5, which is as long as
/// base 1: behind it are the changes of that one.
fn with_changes_of_an_older_base() -> SimDisk {
    let parts: [&[u8]; 5] = [b"1", b"2", b"3", b"4", b"5"];
    let is_change = [false, true, true, false, false];
    let parts: Vec<_> = is_change.into_iter().zip(parts).collect();
    written(&parts)
}

#[test]
fn changes_of_an_older_base_are_void() {
    let found = found(&with_changes_of_an_older_base());
    assert_eq!(found, (vec![b"5".to_vec()], None));
}

#[cfg(feature = "planted")]
#[test]
fn they_would_count_without_their_rule() {
    use crate::log::rules::planted;
    let disk = with_changes_of_an_older_base();
    let _left_out = planted::leave_out(Rule::ChangesNameTheirBase);
    assert_ne!(found(&disk).0, vec![b"5".to_vec()]);
}

/// Blocks of a slot with a base and two changes: header, content, and so on.
fn with_two_changes() -> SimDisk {
    written(&[(false, b"base"), (true, b"one"), (true, b"two")])
}

#[test]
fn what_is_behind_a_damaged_part_does_not_count() {
    let all = [b"base".to_vec(), b"one".to_vec(), b"two".to_vec()];
    assert_eq!(found(&with_two_changes()), (all.to_vec(), None));
    for (block, whole) in [(1, 0), (3, 1), (5, 2)] {
        let disk = with_two_changes();
        let at = block * BLOCK_BYTES as u64;
        disk.corrupt("/checkpoint-0", at..at + 2).unwrap();
        let (parts, damaged) = found(&disk);
        assert_eq!(parts, all[..whole], "block {block}");
        assert_eq!(damaged, Some("/checkpoint-0".into()), "block {block}");
    }
    for (block, whole) in [(0, 0), (2, 1), (4, 2)] {
        let disk = with_two_changes();
        let at = block * BLOCK_BYTES as u64 + 20;
        disk.corrupt("/checkpoint-0", at..at + 2).unwrap();
        assert_eq!(found(&disk).0, all[..whole], "block {block}");
    }
}

#[test]
fn a_length_that_cannot_be_is_refused() {
    let lengths = [u64::MAX, u64::MAX - 4_095, 1 << 40, (256 << 10) - 4_095];
    for (length, block) in lengths.into_iter().flat_map(|l| [(l, 0), (l, 2), (l, 4)]) {
        let disk = with_two_changes();
        let header = Header {
            run: run(1),
            sequence: 1 + block / 2,
            base: 1,
            content_bytes: length,
            content_checksum: 0,
        };
        let at = block * BLOCK_BYTES as u64;
        disk.edit("/checkpoint-0", at, &header.encode()).unwrap();
        let (parts, damaged) = found(&disk);
        assert_eq!(parts.len() as u64, block / 2, "{length}");
        assert!(damaged.is_some());
    }
}

/// This version's bytes of a base and a change: two headers, each with its content; later builds must
/// read them or refuse them by their version.
const FIXTURE: &str = include_str!("../../../../tests/fixtures/checkpoint-slot-2.hex");

#[test]
fn bytes_that_are_kept_are_read() {
    let lines: Vec<Vec<u8>> = FIXTURE
        .lines()
        .map(|line| {
            let digits = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            (0..line.len()).step_by(2).map(digits).collect()
        })
        .collect();
    let disk = written(&[(false, b"base"), (true, b"change")]);
    let slot = disk.read_file("/checkpoint-0").unwrap();
    for (block, line) in slot.chunks(BLOCK_BYTES).zip(&lines) {
        let hex: String = block[..line.len()]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        println!("{hex}");
        assert_eq!(block[..line.len()], line[..]);
    }
    let kept = SimDisk::new(DiskModel::default());
    let mut bytes = vec![0; slot.len()];
    for (block, line) in bytes.chunks_mut(BLOCK_BYTES).zip(&lines) {
        block[..line.len()].copy_from_slice(line);
    }
    kept.write_file("/checkpoint-0", &bytes).unwrap();
    let all = vec![b"base".to_vec(), b"change".to_vec()];
    assert_eq!((lines.len(), found(&kept)), (4, (all, None)));
}

#[test]
fn another_version_is_refused() {
    let disk = with_two_changes();
    let mut header = disk.read_file("/checkpoint-0").unwrap()[..HEADER_BYTES].to_vec();
    header[4..8].copy_from_slice(&1u32.to_le_bytes());
    seal_header(&mut header);
    disk.edit("/checkpoint-0", 0, &header).unwrap();
    let mut sim = Sim::new(2, &disk);
    let rt = sim.runtime(0);
    let opened = sim.run(CheckpointSlots::open(&rt, Path::new("/"))).unwrap();
    let refused = opened.err().map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.contains("format version 1")));
}

#[test]
fn changes_take_no_more_than_their_base() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let mut slots = CheckpointSlots::open(&rt, Path::new("/")).await.unwrap();
        assert_eq!(slots.change_bytes(run(1)), 0, "there is no base");
        let mut written = [0; 2];
        for (base_bytes, written) in [2_000, 400_000].into_iter().zip(&mut written) {
            let base = vec![1; base_bytes];
            slots.write_next(Some(run(1)), run(1), &base).await.unwrap();
            while slots.change_bytes(run(1)) >= 4_000 {
                slots.write_changes(run(1), &[2; 4_000]).await.unwrap();
                *written += 1;
            }
            let more = slots.write_changes(run(1), &[2; 4_097]).await;
            assert!(matches!(more, Err(CheckpointError::DiskFull { .. })));
            assert_eq!(parts(&slots, run(1)).await.len(), 1 + *written);
        }
        // Two blocks each: of 32 KiB; of the 93 blocks that 768 KiB of room have beside the base's 99.
        assert_eq!(written, [4, 46]);
    })
    .unwrap();
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
