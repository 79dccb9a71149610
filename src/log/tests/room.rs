//! Room for a batch: what it holds, that it returns, and that a batch which has it is accepted.

use std::time::Duration;

use super::*;
use crate::log::journal::Sequence;
use crate::log::partition::write_back_plan::Urgency;
use crate::log::shard::append::evict;
use crate::log::shard::write_back::write_back_below;
use crate::model::ProducerId;
use crate::rt::TaskClass;

const SOON: Duration = Duration::from_millis(50);
/// Longer than anything here takes.
const LATE: Duration = Duration::from_secs(5);

fn ask(bytes: usize) -> RoomAsk {
    RoomAsk {
        bytes,
        records: RECORDS_PER_BATCH as i32,
        max_timestamp_ms: 1_000,
        producer: None,
        now_ms: 0,
    }
}

/// What is taken of the shard: tail memory, journal space, room in the checkpoints.
fn taken(log: &Log) -> (usize, u64, usize) {
    let storage = &log.0.storage;
    (
        storage.tail.budget().taken(),
        storage.journal.pressure().promised_bytes,
        storage.checkpoint_room.needed_bytes(),
    )
}

impl Scene {
    /// Names of files in the partition's directory that end like this.
    fn names(&self, ending: &str) -> Vec<String> {
        let paths = self.disk.list().into_iter().map(|(path, _)| path);
        let names = paths.filter_map(|path| Some(path.strip_prefix("/data/t-0/")?.to_owned()));
        names.filter(|name| name.ends_with(ending)).collect()
    }
}

#[test]
fn room_that_is_not_used_returns() {
    let scene = Scene::new();
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 5).await;
        let before = taken(&log);
        let rolls = RoomAsk {
            producer: Some(ProducerId(9)),
            ..ask(15_000)
        };
        let room = log.reserve(rolls).await.unwrap();
        let held = taken(&log);
        assert!(held.0 > before.0 && held.1 > before.1 && held.2 > before.2);
        let waiting = log.clone();
        rt.spawn(TaskClass::Foreground, async move {
            waiting.append(&batch(50), 0).await.unwrap();
        });
        rt.sleep(SOON).await;
        assert_eq!(log.marks().log_end, Offset(50), "the turn is taken");
        drop(room);
        assert_eq!(taken(&log), before);
        rt.sleep(SOON).await;
        assert_eq!(log.marks().durable, Offset(60));
        assert_eq!(scene.names(".prepared").len(), 1, "for when it is needed");
        shard.close().await.unwrap();
        assert!(scene.names(".prepared").is_empty());
    });
}

/// The block at the log's end is written back, so eviction could take it, and what the room counts on.
#[test]
fn memory_that_room_counts_on_stays() {
    let scene = Scene::new();
    scene.live(async |_, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 1).await;
        let all = Sequence(u64::MAX);
        write_back_below(&log.0.storage, all).await.unwrap();
        let room = log.reserve(ask(1_000)).await.unwrap();
        let all = log.0.storage.tail.budget().total();
        evict(&log.0.storage, all);
        let bytes = batch(10);
        let accepted = room.accept(&BatchView::first(&bytes).unwrap());
        log.wait_durable(accepted.end_offset).await.unwrap();
        assert_eq!(read(&log, 0, 4_000).await, Ok((20, vec![0, 10])));
        evict(&log.0.storage, all);
    });
}

#[test]
fn a_batch_with_room_is_accepted_though_the_disk_is_full() {
    let mut scene = Scene::new();
    scene.options.journal_ready_bytes = 1 << 20;
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 31).await;
        let bytes = batch(310);
        let first = log.reserve(ask(16_000)).await.unwrap();
        scene.disk.set_capacity(Some(scene.disk.used_bytes()));
        let accepted = first.accept(&BatchView::first(&bytes).unwrap());
        assert_eq!(
            (accepted.base_offset, accepted.end_offset),
            (Offset(310), Offset(320))
        );
        log.wait_durable(Offset(320)).await.unwrap();
        shard.checkpoint().await.unwrap();
        while log.marks().segment_durable < Offset(320) {
            log.0.request_write_back(Urgency::Everything);
            rt.sleep(SOON).await;
        }
        assert_eq!(shard.offline_reason(), None);
        scene.disk.set_capacity(None);
    });
    scene.knows(id(1));
    assert_eq!(scene.names("310.log").len(), 1);
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        assert_eq!(read(&log, 310, 4_000).await, Ok((320, vec![310])));
    });
}

/// Segments end while the journal has not even the first of them: nobody waits, and no file is named by
/// what the journal does not have.
#[test]
fn segments_end_before_they_are_journaled() {
    let mut scene = Scene::new();
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 5).await;
        scene.disk.stall_writes("/journal/", LATE);
        let before = rt.now();
        for number in 5..100 {
            log.append(&batch(number * 10), 0).await.unwrap();
        }
        assert!(rt.now() - before < LATE);
        let marks = log.marks();
        assert_eq!((marks.durable, marks.log_end), (Offset(50), Offset(1_000)));
        rt.sleep(SOON).await;
        assert_eq!(scene.names(".log"), ["00000000000000000000.log"]);
        assert!(scene.names(".prepared").len() >= 2);
        log.wait_durable(Offset(1_000)).await.unwrap();
        rt.sleep(SOON).await;
        assert!(scene.names(".log").len() >= 3);
        shard.close().await.unwrap();
        assert!(scene.names(".prepared").is_empty());
    });
    scene.knows(id(1));
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        let (next, bases) = read(&log, 0, 1 << 20).await.unwrap();
        assert_eq!((next, bases.len()), (bases.len() as i64 * 10, bases.len()));
        assert_eq!(read(&log, 990, 4_000).await, Ok((1_000, vec![990])));
    });
}

#[test]
fn what_is_accepted_in_a_deleted_partition_is_never_acknowledged() {
    let scene = Scene::new();
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 1).await;
        let room = log.reserve(ask(1_000)).await.unwrap();
        let deleting = shard.clone();
        rt.spawn(TaskClass::Foreground, async move {
            deleting.delete_partition(id(1)).await.unwrap();
        });
        rt.sleep(SOON).await;
        let bytes = batch(10);
        let journaled = shard.0.storage.last_entry();
        let accepted = room.accept(&BatchView::first(&bytes).unwrap());
        // It is appended nowhere.
        let (base_offset, end_offset) = (accepted.base_offset, accepted.end_offset);
        assert_eq!((base_offset, end_offset), (Offset(10), Offset(10)));
        assert_eq!(log.marks().log_end, Offset(10));
        assert_eq!(shard.0.storage.last_entry(), journaled);
        let outcome = log.wait_durable(accepted.end_offset).await;
        assert_eq!(outcome, Err(StorageError::Deleted));
        rt.sleep(SOON).await;
        assert!(scene.names("").is_empty());
        assert_eq!(taken(&log).1, 0);
    });
}
