//! What a shard knows of idempotent producers, and what it may take of memory.

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

async fn append(log: &Log, producer: i64, sequence: i32, now_ms: i64) {
    let batch = batch_of(producer, sequence);
    let appended = log.append(&batch, now_ms).await.unwrap();
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
    scene.live(async |_, shard| {
        let mut logs = Vec::new();
        for topic in 1..4 {
            logs.push(create(&shard, scene.spec(id(topic))).await.unwrap());
        }
        for producer in 0..600 {
            let log = &logs[producer as usize % 3];
            append(log, producer, 0, producer).await;
            // One that goes on writing.
            if producer % 20 == 0 {
                append(&logs[0], 1_000, producer as i32 / 20, producer).await;
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
            append(&log, producer, 0, 1000).await;
        }
        shard.checkpoint().await.unwrap();
        append(&log, 7, 1, 2000).await;
    });
    scene.knows(id(1));
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        assert_eq!(log.producers().len(), 30);
        let counted = log.producer_memory().taken();
        assert_eq!(counted, log.producers().memory_bytes());
        assert!(counted > 0);
        let expiration_ms = scene.config.producer_id_expiration_ms;
        log.enforce_retention(rt.wall_clock_ms() + 2 * expiration_ms)
            .await
            .unwrap();
        assert_eq!(
            log.producer_memory().taken(),
            0,
            "who expires is not charged"
        );
    });
}
