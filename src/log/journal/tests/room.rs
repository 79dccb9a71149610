//! Files that take room when they are written to: copies with holes, file systems that copy on write.

use super::*;
use crate::rt::{File, OpenMode, Runtime};
use crate::sim::{ENOSPC, Fault, FaultOn};

async fn put(
    rt: &SimRuntime,
    journal: &Journal<SimRuntime, u64>,
    number: u64,
) -> Result<Sequence, JournalError> {
    let mut permit = journal.reserve(3_000).await?;
    let entry = data(rt, 1, 0, number * 3_000, 3_000, number);
    Ok(journal.append(&mut permit, entry))
}

#[test]
fn a_write_without_room_is_tried_again_at_its_place() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let returned = sim.run(async {
        let (tokens, on_completed) = collect();
        let journal = create(&rt, 1, small(), on_completed).await;
        rt.sleep(Duration::from_millis(200)).await;
        let start = journal.position_of(Sequence(0));
        let first = put(&rt, &journal, 0).await.unwrap();
        journal.wait_completed(first).await.unwrap();
        disk.inject(Fault {
            on: FaultOn::Write,
            path: "journal".into(),
            skip: 0,
            times: 3,
            errno: ENOSPC,
        });
        let second = put(&rt, &journal, 1).await.unwrap();
        rt.sleep(Duration::from_millis(150)).await;
        // What would come behind it waits at the door, with an error that may pass.
        let refused = put(&rt, &journal, 2).await;
        assert!(matches!(refused, Err(JournalError::DiskFull)));
        assert_eq!(*tokens.borrow(), [0]);
        journal.wait_completed(second).await.unwrap();
        let third = put(&rt, &journal, 2).await.unwrap();
        journal.wait_completed(third).await.unwrap();
        journal.close(true).await.unwrap();
        let found = scan(&rt, start).await.unwrap();
        assert_eq!(found.entry_count(), 3);
        assert!(found.end.clean && found.lost.is_empty());
        tokens
    });
    assert_eq!(*returned.unwrap().borrow(), [0, 1, 2]);
}

#[test]
fn a_journal_that_ends_on_a_full_disk_does_not_wait_for_room() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, u64>| {}).await;
        rt.sleep(Duration::from_millis(200)).await;
        disk.inject(Fault {
            on: FaultOn::Write,
            path: "journal".into(),
            skip: 0,
            times: u32::MAX,
            errno: ENOSPC,
        });
        put(&rt, &journal, 0).await.unwrap();
        rt.sleep(Duration::from_millis(50)).await;
        let closed = journal.close(true).await;
        assert!(matches!(closed, Err(JournalError::Failed(_))));
    })
    .unwrap();
}

#[test]
fn holes_are_filled_while_there_is_room() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, u64>| {}).await;
        rt.sleep(Duration::from_millis(200)).await;
        journal.close(true).await.unwrap();
        drop(journal);
        let ring_bytes = small().file_bytes * u64::from(small().file_count);
        for index in 0..small().file_count {
            let path = files::path_of(Path::new(DIR), index);
            let file = rt.open(&path, OpenMode::DIRECT).await.unwrap();
            // As a copy that keeps holes.
            file.set_len(0).await.unwrap();
            file.set_len(small().file_bytes).await.unwrap();
        }
        let used = disk.used_bytes();
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, u64>| {}).await;
        rt.sleep(Duration::from_millis(200)).await;
        assert!(disk.used_bytes() >= used + ring_bytes);
        disk.set_capacity(Some(disk.used_bytes()));
        for number in 0..20 {
            let last = put(&rt, &journal, number).await.unwrap();
            journal.wait_completed(last).await.unwrap();
        }
    })
    .unwrap();
}
