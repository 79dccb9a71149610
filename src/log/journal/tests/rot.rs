//! Damage on disk: what is told from a torn tail, and what cannot be.

use super::*;

const WRITES: u64 = 6;

/// A journal of single-block writes, with a closing record when `closed`.
fn written(disk: &SimDisk, closed: bool) -> JournalStart {
    let mut sim = Sim::new(1, disk);
    let rt = sim.runtime(0);
    let options = JournalOptions {
        close_after: Duration::from_secs(if closed { 1 } else { 1_000 }),
        ..small()
    };
    let start = options.first_start(run_id(1));
    sim.run(async {
        let journal = create(&rt, 1, options, |_, _: Drain<'_, ()>| {}).await;
        for number in 0..WRITES {
            let mut permit = journal.reserve(10).await.unwrap();
            let entry = data(&rt, 1, number as i32, 0, 10, ());
            let sequence = journal.append(&mut permit, entry);
            journal.wait_completed(sequence).await.unwrap();
        }
        rt.sleep(Duration::from_secs(5)).await;
    })
    .unwrap();
    sim.power_cut();
    start
}

fn rotten(disk: &SimDisk, write: u64, within: std::ops::Range<u64>) {
    let at = write * BLOCK_BYTES as u64;
    disk.corrupt("/journal/0000", at + within.start..at + within.end)
        .unwrap();
}

fn scanned(disk: &SimDisk, start: JournalStart) -> Found {
    let mut sim = Sim::new(2, disk);
    let rt = sim.runtime(0);
    sim.run(scan(&rt, start)).unwrap().unwrap()
}

fn lost(first: u64, end: u64, partitions: Option<Vec<PartitionId>>) -> LostWrites {
    let kept = partitions.map(|partitions| Kept {
        partitions: Vec::from_iter(partitions.into_iter().map(|id| (id, OwnerEpoch(6)))),
        ..Kept::default()
    });
    LostWrites {
        first: Sequence(first),
        end: Sequence(end),
        kept,
    }
}

#[test]
fn rot_in_the_middle_names_the_partitions_when_the_table_is_whole() {
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, false);
    rotten(&disk, 2, 96..106);
    let found = scanned(&disk, start);
    assert_eq!(found.lost, [lost(2, 3, Some(vec![partition(2)]))]);
    assert_eq!(found.entry_count(), 5);
    assert_eq!(found.end.next, Sequence(WRITES));
}

#[test]
fn an_event_stands_in_the_table_and_outlives_the_payload() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let start = small().first_start(run_id(1));
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await;
        let mut permit = journal.reserve(10).await.unwrap();
        let mut second = journal.reserve(0).await.unwrap();
        let mut third = journal.reserve(20).await.unwrap();
        journal.append(&mut permit, data(&rt, 1, 0, 0, 10, ()));
        let event = Entry::Event {
            partition: partition(1),
            owner_epoch: OwnerEpoch(6),
            event: log_start(1, 300),
            token: (),
        };
        let sequence = journal.append(&mut second, event);
        assert_eq!(sequence, Sequence(0), "one write has all");
        // What it would have replaced is still there.
        let event = Entry::Event {
            partition: partition(2),
            owner_epoch: OwnerEpoch(6),
            event: replaced(1, 20),
            token: (),
        };
        let sequence = journal.append(&mut third, event);
        assert_eq!(sequence, Sequence(0), "one write has all");
        journal.wait_completed(sequence).await.unwrap();
        rt.sleep(Duration::from_secs(5)).await;
    })
    .unwrap();
    sim.power_cut();
    rotten(&disk, 0, 96..106);
    let kept = Kept {
        partitions: vec![(partition(0), OwnerEpoch(6))],
        events: vec![(partition(1), OwnerEpoch(6), log_start(1, 300))],
    };
    assert_eq!(scanned(&disk, start).lost[0].kept, Some(kept));
}

#[test]
fn rot_over_several_writes_says_that_anybody_may_have_lost() {
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, false);
    rotten(&disk, 1, 0..3 * 4096);
    let found = scanned(&disk, start);
    assert_eq!(found.lost, [lost(1, 4, None)]);
    assert_eq!(found.entry_count(), 3);
}

#[test]
fn rot_of_the_last_write_is_told_by_a_closing_record_alone() {
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, false);
    rotten(&disk, WRITES - 1, 0..100);
    let found = scanned(&disk, start);
    assert_eq!(
        (found.lost.len(), found.end.next),
        (0, Sequence(WRITES - 1))
    );

    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, true);
    rotten(&disk, WRITES - 1, 0..100);
    let found = scanned(&disk, start);
    assert_eq!(found.lost, [lost(WRITES - 1, WRITES, None)]);
    assert_eq!(found.end.next, Sequence(WRITES + 1));
}

#[test]
fn a_checkpoint_knows_what_was_flushed() {
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, false);
    let start = JournalStart {
        flushed_end: Sequence(WRITES),
        ..start
    };
    rotten(&disk, WRITES - 1, 0..100);
    let found = scanned(&disk, start);
    assert_eq!(found.lost, [lost(WRITES - 1, WRITES, None)]);
}

fn refused(disk: &SimDisk, start: JournalStart) -> Option<ScanError> {
    let mut sim = Sim::new(2, disk);
    let rt = sim.runtime(0);
    sim.run(scan(&rt, start)).unwrap().err()
}

#[test]
fn a_file_that_is_missing_is_no_torn_tail() {
    for file in ["/journal/0000", "/journal/0002"] {
        let disk = SimDisk::new(DiskModel::default());
        let start = written(&disk, true);
        disk.remove_file(file).unwrap();
        let refused = refused(&disk, start);
        assert!(
            matches!(refused, Some(ScanError::Missing { path, .. }) if path == Path::new(file))
        );
    }
}

#[test]
fn a_file_that_was_cut_is_no_torn_tail() {
    let block = BLOCK_BYTES as u64;
    for bytes in [0, block, 2 * block + 50, WRITES * block] {
        let disk = SimDisk::new(DiskModel::default());
        let start = written(&disk, true);
        let whole = disk.read_file("/journal/0000").unwrap();
        disk.write_file("/journal/0000", &whole[..bytes as usize])
            .unwrap();
        let refused = refused(&disk, start);
        assert!(matches!(refused, Some(ScanError::Short { bytes: found, .. }) if found == bytes));
    }
}

#[test]
fn files_that_were_made_are_an_empty_journal() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let options = small();
    let made = Journal::<_, ()>::make_files(&rt, Path::new(DIR), &options);
    sim.run(made).unwrap().unwrap();
    sim.power_cut();
    let found = scanned(&disk, small().first_start(run_id(1)));
    assert_eq!((found.entry_count(), found.lost.len()), (0, 0));
}

#[test]
fn making_files_leaves_what_was_written() {
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, true);
    let before = disk.hash();
    let mut sim = Sim::new(2, &disk);
    let rt = sim.runtime(0);
    let shorter = JournalOptions {
        file_count: 2,
        ..small()
    };
    let made = Journal::<_, ()>::make_files(&rt, Path::new(DIR), &shorter);
    sim.run(made).unwrap().unwrap();
    drop(sim);
    assert_eq!(disk.hash(), before);
    assert_eq!(scanned(&disk, start).entry_count(), WRITES as usize);
}

#[test]
fn a_journal_of_a_later_run_is_not_read_as_an_earlier_one() {
    let disk = SimDisk::new(DiskModel::default());
    let mut start = written(&disk, false);
    start.run = run_id(0);
    let mut sim = Sim::new(2, &disk);
    let rt = sim.runtime(0);
    let refused = sim.run(scan(&rt, start)).unwrap();
    assert!(matches!(refused, Err(ScanError::LaterRun { .. })));
}

#[cfg(feature = "planted")]
#[test]
fn rot_would_go_unnoticed_without_its_rule() {
    use crate::log::rules::{Rule, planted};
    let _left_out = planted::leave_out(Rule::RotIsNotTorn);
    let disk = SimDisk::new(DiskModel::default());
    let start = written(&disk, false);
    rotten(&disk, 2, 0..10);
    assert!(scanned(&disk, start).lost.is_empty());
}
