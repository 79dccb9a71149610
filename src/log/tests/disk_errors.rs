//! Errors of the disk that are final, and those that are not.

use std::time::Duration;

use super::*;
use crate::log::shard::checkpointer;
use crate::rt::TaskClass;
use crate::sim::{EIO, ENOSPC, Fault, FaultOn};

/// A quota is used up.
const EDQUOT: i32 = 122;
const SOON: Duration = Duration::from_millis(50);

impl Scene {
    /// The first operation of a kind fails whose path contains this.
    fn fails(&self, on: FaultOn, path: &str, errno: i32) {
        self.fails_behind(0, on, path, errno);
    }

    /// One such operation fails behind so many that succeed.
    fn fails_behind(&self, skip: u32, on: FaultOn, path: &str, errno: i32) {
        self.disk.inject(Fault {
            on,
            path: path.into(),
            skip,
            times: 1,
            errno,
        });
    }
}

fn is_offline(error: &StorageError) -> bool {
    matches!(error, StorageError::Offline(why) if why.contains(DATA_DIR))
}

/// Appends until something fails.
async fn append_until_error(log: &Log) -> StorageError {
    loop {
        match log.append(&batch(0), 0).await {
            Ok(_) => {}
            Err(AppendError::Storage(error)) => return error,
            Err(AppendError::DiskFull) => return StorageError::DiskFull,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_new_segment_whose_name_may_be_lost_takes_the_directory_offline() {
    for errno in [EIO, ENOSPC] {
        let scene = Scene::new();
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            fill(&log, 5).await;
            scene.fails(FaultOn::SyncDir, "/t-0", errno);
            assert!(is_offline(&append_until_error(&log).await));
            let again = log.append(&batch(0), 0).await;
            assert!(matches!(again, Err(AppendError::Storage(error)) if is_offline(&error)));
            assert!(shard.offline_reason().is_some());
        });
    }
}

#[test]
fn an_index_whose_sync_failed_takes_the_directory_offline() {
    for (path, errno) in [("0.index", ENOSPC), ("0.timeindex", EIO)] {
        let mut scene = Scene::new();
        scene.config.segment_bytes = 8 << 20;
        scene.config.index_interval_bytes = 0;
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            // Entries enough to be worth a sync.
            fill(&log, 4_200).await;
            scene.fails(FaultOn::Sync, path, errno);
            assert!(is_offline(&shard.checkpoint().await.unwrap_err()), "{path}");
            assert!(shard.offline_reason().is_some());
        });
    }
}

#[test]
fn a_partition_whose_names_may_be_lost_takes_the_directory_offline() {
    // Its mark, its segment, the names of both, and its own name.
    let syncs = [
        (FaultOn::Sync, "/t-0/partition.metadata"),
        (FaultOn::Sync, "/t-0/00000000000000000000.log"),
        (FaultOn::SyncDir, "/t-0"),
        (FaultOn::SyncDir, DATA_DIR),
    ];
    let errnos = [EIO, ENOSPC, EDQUOT];
    for ((on, path), errno) in syncs
        .into_iter()
        .flat_map(|sync| errnos.map(|no| (sync, no)))
    {
        let scene = Scene::new();
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            fill(&log, 1).await;
            assert_eq!(shard.offline_reason(), None);
            let skip = u32::from(path == DATA_DIR);
            scene.fails_behind(skip, on, path, errno);
            assert!(is_offline(&shard.close().await.unwrap_err()), "{path}");
            assert!(shard.offline_reason().is_some());
        });
    }
    let scene = Scene::with_batches(1);
    scene.live(async |_, shard| {
        scene.fails(FaultOn::SyncDir, "/data", EIO);
        let deleted = shard.delete_partition(id(1)).await;
        assert!(is_offline(&deleted.unwrap_err()));
        assert!(shard.offline_reason().is_some());
    });
}

/// What the first append makes needs no sync: until something is in segment files, the journal has
/// it all.
#[test]
fn a_first_record_outlives_the_loss_of_its_directory() {
    for loses in ["partition.metadata", "00000000000000000000.log", ""] {
        let mut scene = Scene::new();
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            assert!(
                !scene
                    .disk
                    .list()
                    .iter()
                    .any(|(path, _)| path.contains("/t-0"))
            );
            fill(&log, 3).await;
        });
        scene.knows(id(1));
        for (path, _) in scene.disk.list() {
            if path.contains("/t-0/") && path.contains(loses) {
                scene.disk.remove_file(&path).unwrap();
            }
        }
        for _ in 0..2 {
            scene.live(async |_, shard| {
                let log = shard.partition(id(1)).unwrap();
                assert_eq!(read(&log, 0, 4000).await, Ok((30, vec![0, 10, 20])));
            });
        }
    }
}

#[test]
fn a_partition_without_records_has_no_directory() {
    let mut scene = Scene::new();
    scene.knows(id(1));
    let is_there = |scene: &Scene| {
        scene
            .disk
            .list()
            .iter()
            .any(|(path, _)| path.contains("/t-0"))
    };
    // Nothing of its own takes part in the first start.
    let known = std::mem::take(&mut scene.known);
    scene.live(async |_, shard| {
        create(&shard, scene.spec(id(1))).await.unwrap();
    });
    scene.known = known;
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        assert!(!is_there(&scene));
        // Room for the first record is missing: what was made for it goes with the next start.
        scene.fails(FaultOn::Allocate, "/t-0/", ENOSPC);
        scene.fails(FaultOn::Allocate, "/t-0/", ENOSPC);
        assert_eq!(log.append(&batch(0), 0).await, Err(AppendError::DiskFull));
        assert!(is_there(&scene));
        shard.close().await.unwrap();
    });
    scene.live(async |_, shard| {
        assert!(!is_there(&scene));
        let log = shard.partition(id(1)).unwrap();
        fill(&log, 1).await;
        assert!(is_there(&scene));
    });
}

/// A scene whose segments are written without a promise, and synced before a checkpoint.
fn written() -> Scene {
    let mut scene = Scene::new();
    scene.options.durability = Durability::Written;
    scene.options.write_back_bytes = 4096;
    scene.options.open_files = 1;
    scene
}

/// Sixty batches, of which the last three segments are to be synced.
async fn fill_unsynced(scene: &Scene, rt: &SimRuntime, shard: &ShardLog<SimRuntime>) -> Log {
    let log = create(shard, scene.spec(id(1))).await.unwrap();
    fill(&log, 90).await;
    while log.marks().segment_durable < Offset(700) {
        rt.sleep(SOON).await;
    }
    log
}

#[test]
fn segments_that_could_not_be_synced_are_synced_by_the_next_checkpoint() {
    let scene = written();
    scene.live(async |rt, shard| {
        let log = fill_unsynced(&scene, &rt, &shard).await;
        let waiting = log.0.storage.unsynced.segments();
        assert!(waiting.len() >= 3);
        log.0.storage.files.clear();
        scene.fails(FaultOn::Names, "300.log", ENOSPC);
        let storage = log.0.storage.clone();
        let shard = &shard.0.storage;
        assert_eq!(
            checkpointer::write_checkpoint(shard, 0).await,
            Err(StorageError::DiskFull)
        );
        let left = storage.unsynced.segments();
        assert!(left.is_superset(&waiting), "{left:?}");
        assert_eq!(checkpointer::write_checkpoint(shard, 0).await, Ok(()));
        assert!(storage.unsynced.segments().is_empty());
    });
}

#[test]
fn a_segment_whose_sync_failed_takes_the_directory_offline() {
    for errno in [EIO, ENOSPC] {
        let scene = written();
        scene.live(async |rt, shard| {
            fill_unsynced(&scene, &rt, &shard).await;
            scene.fails(FaultOn::Sync, "300.log", errno);
            assert!(is_offline(&shard.checkpoint().await.unwrap_err()));
            assert!(shard.offline_reason().is_some());
        });
    }
}

/// The name is free when a deletion returns, so a checkpoint must not come upon the next topic.
#[test]
fn a_checkpoint_does_not_take_the_files_of_a_topic_that_follows() {
    let scene = written();
    scene.live(async |rt, shard| {
        let log = fill_unsynced(&scene, &rt, &shard).await;
        let storage = log.0.storage.clone();
        storage.files.clear();
        // Opening takes turns: the checkpoint waits for its own.
        let turn = storage.files.opening().lock().await;
        let of_checkpoint = shard.0.storage.clone();
        rt.spawn(TaskClass::Background, async move {
            checkpointer::write_checkpoint(&of_checkpoint, 0).await.ok();
        });
        rt.sleep(SOON).await;
        let deleting = shard.clone();
        rt.spawn(TaskClass::Background, async move {
            deleting.delete_partition(id(1)).await.unwrap();
        });
        rt.sleep(SOON).await;
        assert!(scene.place_of(300).0.contains("/t-0/"), "not renamed yet");
        drop(turn);
        rt.sleep(SOON).await;
        create(&shard, scene.spec(id(2))).await.unwrap();
        assert!(
            scene
                .disk
                .list()
                .iter()
                .any(|(path, _)| path.contains("-delete/"))
        );
    });
}

#[test]
fn a_quota_that_is_used_up_is_no_failure() {
    let mut scene = Scene::new();
    scene.options.write_back_bytes = 4096;
    scene.fails(FaultOn::Write, "/journal/0001", EDQUOT);
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        scene.fails(FaultOn::Names, "/t-0", EDQUOT);
        let refused = log.append(&batch(0), 0).await;
        assert_eq!(refused, Err(AppendError::DiskFull));
        scene.fails(FaultOn::Allocate, "/t-0/", EDQUOT);
        scene.fails(FaultOn::Allocate, "/t-0/", EDQUOT);
        let refused = log.append(&batch(0), 0).await;
        assert_eq!(refused, Err(AppendError::DiskFull));
        // The journal's files are prepared behind, and tried again after a while.
        rt.sleep(40 * SOON).await;
        scene.fails(FaultOn::Write, "/t-0/", EDQUOT);
        fill(&log, 90).await;
        while log.marks().segment_durable < Offset(700) {
            rt.sleep(SOON).await;
        }
        assert_eq!(shard.offline_reason(), None);
    });
}

#[test]
fn a_deletion_needs_no_room() {
    let scene = Scene::new();
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 5).await;
        drop(log);
        // The renaming, behind looks at both names.
        scene.fails_behind(2, FaultOn::Names, "/t-0", ENOSPC);
        shard.delete_partition(id(1)).await.unwrap();
        let left = rt.read_dir(Path::new(DATA_DIR)).await.unwrap();
        let is_of_topic = |name: &str| name.starts_with("t-0");
        assert!(!left.iter().any(|entry| is_of_topic(&entry.name)));
        assert!(shard.offline_reason().is_none());
    });
}

#[test]
fn what_a_first_append_left_unfinished_is_discarded() {
    let scene = Scene::new();
    scene.live(async |rt, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        // The directory and its mark are there; the segment in it cannot be made.
        scene.fails(FaultOn::Names, "/t-0/00000000000000000000.log", ENOSPC);
        log.append(&batch(0), 0).await.unwrap_err();
        let is_there = async || {
            let left = rt.read_dir(Path::new(DATA_DIR)).await.unwrap();
            left.iter().any(|entry| entry.name == "t-0")
        };
        assert!(is_there().await);
        shard.delete_partition(id(1)).await.unwrap();
        shard.discard_unfinished(TOPIC, id(1)).await.unwrap();
        assert!(!is_there().await);
    });
}

/// Room in the checkpoint comes first: one that has to grow on a full disk would hold up the journal,
/// and with it everybody.
#[test]
fn what_checkpoints_have_no_room_for_is_not_made() {
    let mut scene = Scene::new();
    let made = scene.live(async |_, shard| {
        scene.disk.inject(Fault {
            on: FaultOn::Allocate,
            path: "/checkpoint-".into(),
            skip: 0,
            times: u32::MAX,
            errno: ENOSPC,
        });
        let mut made = 0;
        let refused = loop {
            assert!(made < 1_000, "the slots have 256 KiB");
            let spec = PartitionSpec {
                topic: format!("{}{made}", "x".repeat(200)),
                ..scene.spec(id(made + 1))
            };
            match create(&shard, spec).await {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, StorageError::DiskFull);
        assert_eq!(shard.offline_reason(), None);
        for topic in 1..=made {
            fill(&shard.partition(id(topic)).unwrap(), 1).await;
        }
        shard.checkpoint().await.unwrap();
        shard.delete_partition(id(1)).await.unwrap();
        shard.close().await.unwrap();
        made
    });
    for number in 1..made {
        scene.known.push(KnownPartition {
            id: id(number + 1),
            topic: format!("{}{number}", "x".repeat(200)),
            shard: ShardIndex(0),
            former_shard: ShardIndex(0),
            owner_epoch: OwnerEpoch::default(),
            next_owner_epoch: OwnerEpoch::default(),
        });
    }
    scene.live(async |_, shard| assert_eq!(shard.partitions().len() as u128, made - 1));
}
