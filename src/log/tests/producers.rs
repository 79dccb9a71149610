//! What a shard knows of idempotent producers, for how long, and what it may take of memory.

use std::time::Duration;

use super::*;
use crate::log::partition::producers::ProducerStates;
use crate::model::batch::BatchFields;
use crate::model::{ProducerEpoch, ProducerId};

/// One record of a producer.
fn batch_of(producer: i64, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(b"value"), &[]).unwrap();
    let fields = BatchFields {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: sequence,
        ..builder.fields().unwrap()
    };
    let mut bytes = Vec::new();
    fields.append(builder.records(), &mut bytes).unwrap();
    bytes
}

async fn append(log: &Log, producer: i64, sequence: i32) {
    let batch = batch_of(producer, sequence);
    let appended = log.append(&batch, 0).await.unwrap();
    log.wait_durable(appended.end_offset).await.unwrap();
}

fn taken(logs: &[Log]) -> usize {
    let bytes = |log: &Log| log.producers().memory_bytes();
    logs.iter().map(bytes).sum()
}

#[test]
fn those_silent_for_long_make_room_for_others() {
    let mut scene = Scene::new();
    scene.options.producer_bytes = 20 << 10;
    scene.live(async |rt, shard| {
        let mut logs = Vec::new();
        for topic in 1..4 {
            logs.push(create(&shard, scene.spec(id(topic))).await.unwrap());
        }
        for producer in 0..600 {
            let log = &logs[producer as usize % 3];
            rt.sleep(Duration::from_millis(1)).await;
            append(log, producer, 0).await;
            // One that goes on writing.
            if producer % 20 == 0 {
                append(&logs[0], 1_000, producer as i32 / 20).await;
            }
            let taken = taken(&logs);
            assert_eq!(taken, logs[0].producer_memory().taken());
            assert!(taken <= scene.options.producer_bytes, "{taken} bytes");
        }
        let known: Vec<_> = logs.iter().map(Log::producers).collect();
        let count: usize = known.iter().map(ProducerStates::len).sum();
        assert!(count > 150, "{count} are known");
        assert!(
            known[0].get(ProducerId(1_000)).is_some(),
            "who writes stays"
        );
        let old = (0..100).filter(|id| known[*id as usize % 3].get(ProducerId(*id)).is_some());
        assert!(old.count() < 10, "the oldest go first");
        for id in 590..600 {
            assert!(known[id as usize % 3].get(ProducerId(id)).is_some());
        }
    });
}

#[test]
fn the_next_life_counts_what_the_last_one_knew() {
    let mut scene = Scene::new();
    scene.live(async |_, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        for producer in 0..30 {
            append(&log, producer, 0).await;
        }
        shard.checkpoint().await.unwrap();
        append(&log, 7, 1).await;
    });
    scene.knows(id(1));
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        assert_eq!(log.producers().len(), 30);
        let counted = log.producer_memory().taken();
        assert_eq!(counted, log.producers().memory_bytes());
        assert!(counted > 0);
        let expiration_ms = scene.config.producer_id_expiration_ms as u64;
        rt.sleep(Duration::from_millis(expiration_ms)).await;
        log.enforce_retention(rt.wall_clock_ms()).await.unwrap();
        assert_eq!(
            log.producer_memory().taken(),
            0,
            "who expires is not charged"
        );
    });
}

/// Whoever has appended within the node's last day is known, whatever the wall clock says and said, in
/// this life and the next, replayed or checkpointed.
#[test]
fn no_clock_makes_a_shard_forget_a_producer() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
    for wrong_ms in [WEEK_MS, -WEEK_MS] {
        let mut scene = Scene::new();
        let begun_ms = 2 * WEEK_MS;
        // Retention goes by another clock, which may be as wrong.
        let is_known = async |rt: &SimRuntime, log: &Log, producer: i64, now_ms: i64| {
            rt.set_wall_clock_ms(now_ms);
            log.enforce_retention(now_ms).await.unwrap();
            log.producers().get(ProducerId(producer)).is_some()
        };
        scene.live(async |rt, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            rt.set_wall_clock_ms(begun_ms);
            append_at(&log, 1, begun_ms).await;
            assert!(is_known(&rt, &log, 1, begun_ms).await);
            rt.sleep(20 * HOUR).await;
            rt.set_wall_clock_ms(begun_ms + wrong_ms);
            append_at(&log, 2, begun_ms + wrong_ms).await;
            assert!(is_known(&rt, &log, 1, begun_ms + wrong_ms).await);
            assert!(is_known(&rt, &log, 2, begun_ms).await);
            shard.checkpoint().await.unwrap();
            rt.set_wall_clock_ms(begun_ms - wrong_ms);
            append_at(&log, 3, begun_ms - wrong_ms).await;
        });
        scene.knows(id(1));
        scene.live(async |rt, shard| {
            let log = shard.partition(id(1)).unwrap();
            rt.sleep(3 * HOUR).await;
            for (producer, now_ms) in [(1, wrong_ms), (2, 0), (3, wrong_ms), (3, -wrong_ms)] {
                let known = is_known(&rt, &log, producer, begun_ms + now_ms).await;
                assert!(known, "{producer}");
            }
            rt.sleep(HOUR).await;
            assert!(!is_known(&rt, &log, 1, begun_ms).await, "24 hours");
            for producer in [2, 3] {
                assert!(is_known(&rt, &log, producer, begun_ms).await, "4 hours");
            }
            rt.sleep(20 * HOUR).await;
            for producer in [2, 3] {
                assert!(!is_known(&rt, &log, producer, begun_ms).await, "24 hours");
            }
        });
    }
}

async fn append_at(log: &Log, producer: i64, now_ms: i64) {
    let appended = log.append(&batch_of(producer, 0), now_ms).await.unwrap();
    log.wait_durable(appended.end_offset).await.unwrap();
}
