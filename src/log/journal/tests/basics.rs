//! One life: what goes in comes out, and space comes back.

use super::*;
use crate::sim::{EIO, ENOSPC, Fault, FaultOn};
use futures_util::FutureExt;

fn bytes_of(entry: &ScannedEntry) -> Vec<u8> {
    match entry {
        ScannedEntry::Data { payload, .. } => payload.iter().flat_map(|buf| buf.to_vec()).collect(),
        ScannedEntry::Event { .. } => Vec::new(),
    }
}

#[test]
fn entries_of_every_length_come_back() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let lens = [
        1,
        100,
        4095,
        4096,
        4097,
        9_000,
        16 << 10,
        31 << 10,
        33 << 10,
        80 << 10,
    ];
    let found = sim
        .run(async {
            let (tokens, on_completed) = collect();
            let journal = create(&rt, 1, small(), on_completed).await;
            let mut position = 5_000;
            let mut last = Sequence(0);
            for (token, len) in lens.into_iter().enumerate() {
                let mut permit = journal.reserve(len).await.unwrap();
                last = journal.append(&mut permit, data(&rt, 1, 0, position, len, token));
                position += len as u64;
            }
            journal.wait_completed(last).await.unwrap();
            assert_eq!(*tokens.borrow(), (0..lens.len()).collect::<Vec<_>>());
            journal.close(true).await.unwrap();
            scan(&rt, small().first_start(run_id(1))).await.unwrap()
        })
        .unwrap();
    assert!(found.end.clean && found.lost.is_empty());
    let mut expected = 5_000;
    for entry in found.entries() {
        let ScannedEntry::Data { position, .. } = entry else {
            panic!("no log start was appended");
        };
        assert_eq!(*position, expected);
        let bytes = bytes_of(entry);
        let end = expected + bytes.len() as u64;
        assert_eq!(bytes, content(1, 0, expected..end));
        expected = end;
    }
    assert_eq!(expected, 5_000 + lens.iter().sum::<usize>() as u64);
}

#[test]
fn events_come_back() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let events = [log_start(7, 123), replaced(8, EVENT_BYTES_MAX)];
    let found = sim.run(async {
        let (tokens, on_completed) = collect();
        let journal = create(&rt, 1, small(), on_completed).await;
        for (number, event) in (6..).zip(events.clone()) {
            let entry = Entry::Event {
                partition: partition(4),
                owner_epoch: OwnerEpoch(number),
                event,
                token: "event",
            };
            let mut permit = journal.reserve(entry.payload_bytes()).await.unwrap();
            let sequence = journal.append(&mut permit, entry);
            journal.wait_completed(sequence).await.unwrap();
        }
        assert_eq!(*tokens.borrow(), ["event"; 2]);
        journal.close(false).await.unwrap();
        scan(&rt, small().first_start(run_id(1))).await.unwrap()
    });
    let found = found.unwrap();
    assert!(!found.end.clean);
    let entries = found.entries().map(|entry| match entry {
        ScannedEntry::Event { event, .. } => (entry.owner(), event.clone()),
        other => panic!("{other:?}"),
    });
    let owners = [6, 7].map(|epoch| (partition(4), OwnerEpoch(epoch)));
    assert_eq!(
        Vec::from_iter(entries),
        Vec::from_iter(owners.into_iter().zip(events))
    );
}

#[test]
fn what_is_appended_together_is_written_together() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(3, &disk);
    let rt = sim.runtime(0);
    let found = sim.run(async {
        let (_, on_completed) = collect::<()>();
        let journal = create(&rt, 1, JournalOptions::default(), on_completed).await;
        for index in 0..1_000 {
            let mut permit = journal.reserve(100).await.unwrap();
            journal.append(&mut permit, data(&rt, 1, index, 0, 100, ()));
        }
        journal.close(true).await.unwrap();
        let start = JournalOptions::default().first_start(run_id(1));
        scan(&rt, start).await.unwrap()
    });
    let found = found.unwrap();
    assert_eq!(found.entry_count(), 1_000);
    assert!(found.writes.len() < 20, "{} writes", found.writes.len());
}

#[test]
fn a_full_journal_waits_for_a_trim() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let (_, on_completed) = collect::<()>();
        let journal = create(&rt, 1, small(), on_completed).await;
        let mut last = Sequence(0);
        let mut position = 0;
        let waiting = loop {
            // Let the ring be prepared and the writes complete.
            rt.sleep(Duration::from_millis(50)).await;
            let mut reserved = Box::pin(journal.reserve(20_000));
            let Some(permit) = (&mut reserved).now_or_never() else {
                break reserved;
            };
            last = journal.append(&mut permit.unwrap(), data(&rt, 1, 0, position, 20_000, ()));
            position += 20_000;
        };
        assert!(journal.pressure().is_pressed());
        assert!(position >= 200_000, "most of 384 KiB is of use: {position}");
        journal.trim(Sequence(last.0 + 1));
        drop(waiting.await.unwrap());
        let pressure = journal.pressure();
        assert!(
            pressure.live_bytes <= BLOCK_BYTES as u64,
            "a closing record at most"
        );
        assert_eq!(pressure.promised_bytes, 0);
    })
    .unwrap();
}

#[test]
fn an_entry_beyond_half_of_the_journal_is_refused() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await;
        let refused = journal.reserve(200_000).await;
        assert!(matches!(
            refused,
            Err(JournalError::TooLarge { bytes: 200_000 })
        ));
    })
    .unwrap();
}

#[test]
fn nothing_is_acknowledged_after_a_write_error() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let tokens = sim.run(async {
        let (tokens, on_completed) = collect();
        let journal = create(&rt, 1, small(), on_completed).await;
        rt.sleep(Duration::from_millis(200)).await;
        disk.inject(Fault {
            on: FaultOn::Write,
            path: "journal".into(),
            skip: 1,
            times: 1,
            errno: EIO,
        });
        let mut last = Ok(());
        for token in 0..4 {
            let Ok(mut permit) = journal.reserve(10).await else {
                break;
            };
            let sequence = journal.append(&mut permit, data(&rt, 1, 0, token * 10, 10, token));
            last = journal.wait_completed(sequence).await;
        }
        assert!(matches!(last, Err(JournalError::Failed(_))));
        assert!(matches!(
            journal.reserve(1).await,
            Err(JournalError::Failed(_))
        ));
        assert!(matches!(
            journal.close(true).await,
            Err(JournalError::Failed(_))
        ));
        tokens
    });
    assert_eq!(*tokens.unwrap().borrow(), [0]);
}

#[test]
fn a_full_disk_keeps_the_ring_short_until_there_is_room() {
    let disk = SimDisk::new(DiskModel::default());
    disk.set_capacity(Some(160 << 10));
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await;
        let mut position = 0;
        let full = loop {
            match journal.reserve(5_000).await {
                Ok(mut permit) => {
                    let last = journal.append(&mut permit, data(&rt, 1, 0, position, 5_000, ()));
                    journal.wait_completed(last).await.unwrap();
                }
                Err(error) => break error,
            }
            position += 5_000;
        };
        assert!(matches!(full, JournalError::DiskFull));
        disk.set_capacity(None);
        rt.sleep(Duration::from_secs(3)).await;
        journal.reserve(5_000).await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_disk_without_room_for_the_beginning_refuses() {
    let disk = SimDisk::new(DiskModel::default());
    disk.inject(Fault {
        on: FaultOn::Write,
        path: "journal".into(),
        skip: 0,
        times: 9,
        errno: ENOSPC,
    });
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let created = sim.run(Journal::create(
        rt,
        Path::new(DIR),
        identity(1),
        small(),
        |_, _: Drain<'_, ()>| {},
    ));
    let Err(JournalError::Open { source, .. }) = created.unwrap() else {
        panic!("there is no room");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn plain_writes_are_flushed_on_demand() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    let options = JournalOptions {
        write_mode: crate::rt::WriteMode::Plain,
        gather_for: Some(Duration::from_millis(100)),
        ..small()
    };
    let found = sim.run(async {
        let journal = create(&rt, 1, options.clone(), |_, _: Drain<'_, ()>| {}).await;
        let mut permit = journal.reserve(10).await.unwrap();
        let sequence = journal.append(&mut permit, data(&rt, 1, 0, 0, 10, ()));
        rt.sleep(Duration::from_millis(50)).await;
        assert_eq!(journal.completed_end(), Sequence(0), "still gathering");
        journal.wait_completed(sequence).await.unwrap();
        assert_eq!(journal.flushed_end(), Sequence(0));
        assert_eq!(journal.flush().await.unwrap(), Sequence(1));
        drop(journal);
    });
    found.unwrap();
    sim.power_cut();
    let mut sim = Sim::new(2, &disk);
    let rt = sim.runtime(0);
    let found = sim.run(scan(&rt, options.first_start(run_id(1)))).unwrap();
    assert_eq!(found.unwrap().entry_count(), 1);
}

#[test]
fn a_dropped_journal_lets_go_of_its_files() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        drop(create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await);
        create(&rt, 2, small(), |_, _: Drain<'_, ()>| {}).await;
    })
    .unwrap();
}

/// Its run is committed, and nothing in it would count: that is no empty journal.
#[test]
fn the_journal_of_another_node_or_shard_is_refused() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await;
        let start = journal.position_of(Sequence(0));
        for number in 0..3 {
            let mut permit = journal.reserve(10).await.unwrap();
            let last = journal.append(&mut permit, data(&rt, 1, 0, number * 10, 10, ()));
            journal.wait_completed(last).await.unwrap();
        }
        let later = journal.position_of(Sequence(2));
        drop(journal);
        let dir = Path::new(DIR);
        for start in [start, later] {
            for (node, shard) in [(NodeId(8), SHARD), (NODE, ShardIndex(0))] {
                let refused = JournalScan::open(&rt, dir, node, shard, start).await.err();
                let refused = refused.unwrap().to_string();
                assert!(refused.contains("journal of node 7, shard 1"), "{refused}");
            }
            JournalScan::open(&rt, dir, NODE, SHARD, start)
                .await
                .unwrap();
        }
    })
    .unwrap();
}

#[test]
fn waiting_for_space_ends_when_it_is_not_wanted_or_cannot_come() {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(1, &disk);
    let rt = sim.runtime(0);
    sim.run(async {
        let journal = Rc::new(create(&rt, 1, small(), |_, _: Drain<'_, ()>| {}).await);
        let mut held = Vec::new();
        while let Some(permit) = journal.reserve(1_000).now_or_never() {
            held.push(permit.unwrap());
        }
        let wanted = Rc::new(std::cell::Cell::new(true));
        let (waits_on, still) = (journal.clone(), wanted.clone());
        let waiting = async move {
            let reserved = waits_on.reserve_while(1_000, || still.get()).await;
            matches!(reserved.err(), Some(JournalError::Unwanted))
        };
        let ends = async {
            rt.yield_now().await;
            wanted.set(false);
            journal.wake_waiting();
        };
        assert!(futures_util::future::join(waiting, ends).await.0);
        journal.set_stuck(true);
        let stuck = journal.reserve(1_000).await.err();
        assert!(matches!(stuck, Some(JournalError::DiskFull)));
        journal.set_stuck(false);
        held.clear();
        journal.reserve(1_000).await.unwrap();
    })
    .unwrap();
}

/// With a flush behind the writes: any error of one is final, and nothing is acknowledged any more.
#[test]
fn a_failed_flush_is_final_whatever_the_reason() {
    for errno in [EIO, ENOSPC] {
        let disk = SimDisk::new(DiskModel::default());
        let mut sim = Sim::new(1, &disk);
        sim.set_durable_writes(crate::rt::DurableWrites::Flush);
        let rt = sim.runtime(0);
        let (tokens, on_completed) = collect();
        sim.run(async {
            let journal = create(&rt, 1, small(), on_completed).await;
            let mut last = Sequence(0);
            for (position, token) in [(0, 0), (10, 1), (20, 2)] {
                let mut permit = journal.reserve(10).await.unwrap();
                let entry = data(&rt, 1, 0, position, 10, token);
                last = journal.append(&mut permit, entry);
                if token == 0 {
                    journal.wait_completed(last).await.unwrap();
                    assert_eq!(journal.flushed_end(), Sequence(1));
                    // Prepared to its end, and told that it is idle.
                    rt.sleep(Duration::from_secs(3)).await;
                    disk.inject(Fault {
                        on: FaultOn::Sync,
                        path: "journal".into(),
                        skip: 0,
                        times: 1,
                        errno,
                    });
                }
            }
            let failed = journal.wait_completed(last).await;
            assert!(matches!(failed, Err(JournalError::Failed(_))), "{failed:?}");
            rt.sleep(Duration::from_secs(3)).await;
        })
        .unwrap();
        assert_eq!(*tokens.borrow(), [0]);
    }
}
