//! The index of a segment over a kill, and over the loss of what its files had.

use super::*;

const BATCHES: i64 = 100;
/// Long enough that a part of the segment without entries is worth completing.
const RECORD_BYTES: usize = 60_000;

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.options.journal_bytes = 4 << 20;
    scene.options.journal_file_bytes = 1 << 20;
    scene.config.segment_bytes = 64 << 20;
    scene
}

async fn fill_long(log: &Log, batches: i64) {
    for _ in 0..batches {
        let mut builder = BatchBuilder::new();
        let value = vec![7; RECORD_BYTES];
        let time_ms = log.marks().log_end.0;
        builder.append(time_ms, None, Some(&value), &[]).unwrap();
        let mut bytes = Vec::new();
        builder.append_batch(&mut bytes).unwrap();
        let appended = log.append(&bytes, 0).await.unwrap();
        log.wait_durable(appended.end_offset).await.unwrap();
    }
}

/// A partition that was killed with some batches in its journal alone.
fn killed() -> Scene {
    let mut scene = scene();
    scene.live(async |_, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill_long(&log, BATCHES).await;
        shard.checkpoint().await.unwrap();
        fill_long(&log, 5).await;
    });
    scene.knows(id(1));
    scene
}

fn file(scene: &Scene, base: i64, extension: &str) -> (String, Vec<u8>) {
    let path = format!("{DATA_DIR}/{TOPIC}-0/{base:020}.{extension}");
    let bytes = scene.disk.read_file(&path).unwrap_or_default();
    (path, bytes)
}

/// How far before a batch a read of it would begin, at most, in batches.
fn furthest_floor(log: &Log) -> i64 {
    let state = log.0.state.borrow();
    let index = state.active_index();
    let floor = |offset| offset - index.floor_offset(Offset(offset)).offset.0;
    (0..state.marks().log_end.0).map(floor).max().unwrap()
}

async fn completed(rt: &SimRuntime, log: &Log) {
    for _ in 0..100 {
        if log
            .0
            .state
            .borrow()
            .active_index()
            .starts_behind()
            .is_none()
        {
            return;
        }
        rt.sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the index still begins behind the segment's start");
}

#[test]
fn a_kill_leaves_the_index_of_the_active_segment() {
    let scene = killed();
    let (_, before) = file(&scene, 0, "index");
    assert!(before.len() >= 90 * 8, "{} bytes", before.len());
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        assert!(
            log.0
                .state
                .borrow()
                .active_index()
                .starts_behind()
                .is_some()
        );
        // The first cold read finds it, or what runs behind the start.
        read(&log, 50, 1).await.unwrap();
        completed(&rt, &log).await;
        assert!(furthest_floor(&log) <= 3);
        fill_long(&log, 5).await;
        shard.close().await.unwrap();
    });
    let (_, after) = file(&scene, 0, "index");
    assert!(after.len() >= 100 * 8, "{} bytes", after.len());
    // The start walks from about the eightieth batch on, and has no entry for the one at which it begins.
    assert!(after.starts_with(&before[..75 * 8]), "the entries stay");
}

#[test]
fn what_the_files_lost_is_walked_behind_the_start() {
    for keeps in [0, 8 * 20, 8 * 20 + 3] {
        let scene = killed();
        for extension in ["index", "timeindex"] {
            let (path, bytes) = file(&scene, 0, extension);
            let zeros = vec![0; bytes.len().saturating_sub(keeps)];
            scene.disk.edit(&path, keeps as u64, &zeros).unwrap();
        }
        scene.live(async |rt, shard| {
            let log = shard.partition(id(1)).unwrap();
            completed(&rt, &log).await;
            assert!(furthest_floor(&log) <= 3, "{keeps} bytes were left");
            let found = log.offset_for_timestamp(70, Offset(105)).await.unwrap();
            assert_eq!(found.map(|(ms, offset, _)| (ms, offset.0)), Some((70, 70)));
            shard.checkpoint().await.unwrap();
        });
        let (_, after) = file(&scene, 0, "index");
        assert!(after.len() >= 95 * 8, "{} bytes", after.len());
    }
}

#[test]
fn a_segment_is_sealed_with_a_whole_index() {
    let mut scene = killed();
    scene.config.segment_bytes = 7 << 20;
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        // At once: nothing behind the start has had a chance to run.
        fill_long(&log, 30).await;
        shard.close().await.unwrap();
        assert_eq!(log.0.state.borrow().sealed_count(), 1);
    });
    let (_, sealed) = file(&scene, 0, "index");
    assert!(sealed.len() >= 105 * 8, "{} bytes", sealed.len());
}

#[test]
fn the_index_files_of_a_sealed_segment_are_completed_by_the_first_read() {
    for keeps in [0, 8 * 20] {
        let mut scene = scene();
        scene.config.segment_bytes = 6 << 20;
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            fill_long(&log, 120).await;
            shard.close().await.unwrap();
        });
        scene.knows(id(1));
        let (path, whole) = file(&scene, 0, "index");
        assert!(whole.len() >= 95 * 8, "{} bytes", whole.len());
        let zeros = vec![0; whole.len() - keeps];
        scene.disk.edit(&path, keeps as u64, &zeros).unwrap();
        scene.live(async |_, shard| {
            let log = shard.partition(id(1)).unwrap();
            read(&log, 50, 1).await.unwrap();
        });
        assert_eq!(file(&scene, 0, "index").1.len(), whole.len());
    }
}
