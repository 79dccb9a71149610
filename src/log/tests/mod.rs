//! Single cases of a shard's log on a simulated disk, life after life.

mod checkpoints;
mod descriptors;
mod disk_errors;
mod indexes;
mod log_starts;
mod producers;
mod reads;
mod rewrites;
mod room;

use std::path::Path;
use std::rc::Rc;

use super::simulation::recover;
use super::*;
use crate::model::batch::{BatchBuilder, BatchView};
use crate::model::{
    LeaderEpoch, NodeId, Offset, OwnerEpoch, PartitionId, PartitionIndex, ShardIndex, TopicId,
};
use crate::rt::Runtime;
use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime};

const DATA_DIR: &str = "/data";
const TOPIC: &str = "t";
const RECORDS_PER_BATCH: i64 = 10;

type Log = PartitionLog<SimRuntime>;

/// Creates a partition, with the room that it needs.
async fn create(shard: &ShardLog<SimRuntime>, spec: PartitionSpec) -> Result<Log, StorageError> {
    let mut room = shard.reserve_partitions([(&*spec.topic, 1)]).await?;
    shard.create_partition(spec, &mut room)
}

/// A node of one shard, and what every life of it has.
struct Scene {
    disk: SimDisk,
    options: LogOptions,
    config: LogConfig,
    /// Partitions that the metadata knows.
    known: Vec<KnownPartition>,
}

impl Scene {
    fn new() -> Self {
        let options = LogOptions {
            journal_bytes: 1 << 20,
            journal_file_bytes: 256 << 10,
            journal_ready_bytes: 0,
            ..LogOptions::new(DATA_DIR.into(), NodeId(1), ShardIndex(0))
        };
        Self {
            disk: SimDisk::new(DiskModel::default()),
            options,
            config: LogConfig {
                segment_bytes: 16 << 10,
                index_interval_bytes: 1000,
                ..LogConfig::default()
            },
            known: Vec::new(),
        }
    }

    /// A life that ends by a kill, unless the work closes the log.
    fn live<T>(&self, work: impl AsyncFnOnce(SimRuntime, ShardLog<SimRuntime>) -> T) -> T {
        let mut sim = Sim::new(7, &self.disk);
        let rt = sim.runtime(0);
        let lived = sim.run(async {
            let data_dir = Path::new(DATA_DIR);
            rt.create_dir(data_dir).await.unwrap();
            rt.sync_dir(Path::new("/")).await.unwrap();
            let options = RecoveryOptions::new(&self.options, 1);
            let recovered = recover(&rt, data_dir, options, &self.known).await.unwrap();
            let partitions = recovered.shards.into_iter().next().unwrap_or_default();
            let config = Rc::new(self.config.clone());
            let options = LogOptions {
                producers_ms: recovered.last_times.producers_ms,
                ..self.options.clone()
            };
            let told = |_| ToldPartition {
                leader_epoch: LeaderEpoch(3),
                config: config.clone(),
            };
            let shard = ShardLog::open(rt.clone(), options, recovered.run, partitions, told);
            work(rt.clone(), shard.await.unwrap()).await
        });
        let ended = lived.unwrap();
        sim.process_kill();
        ended
    }

    fn spec(&self, id: PartitionId) -> PartitionSpec {
        PartitionSpec {
            id,
            topic: TOPIC.into(),
            leader_epoch: LeaderEpoch(3),
            owner_epoch: OwnerEpoch::default(),
            config: Rc::new(self.config.clone()),
        }
    }

    /// A partition of so many batches, all in segment files and none in memory: the life in which
    /// they were accepted has ended.
    fn with_batches(count: i64) -> Self {
        let mut scene = Self::new();
        scene.live(async |_, shard| {
            let log = create(&shard, scene.spec(id(1))).await.unwrap();
            fill(&log, count).await;
            shard.close().await.unwrap();
        });
        scene.knows(id(1));
        scene
    }

    fn knows(&mut self, id: PartitionId) {
        self.known.push(KnownPartition {
            id,
            topic: TOPIC.into(),
            shard: ShardIndex(0),
            former_shard: ShardIndex(0),
            owner_epoch: OwnerEpoch::default(),
            next_owner_epoch: OwnerEpoch::default(),
        });
    }

    /// Path and byte of the batch that begins at `base`.
    fn place_of(&self, base: i64) -> (String, u64) {
        let segments = self.disk.list().into_iter().map(|(path, _)| path);
        for path in segments.filter(|path| path.ends_with(".log") && path.contains("/t-0/")) {
            let bytes = self.disk.read_file(&path).unwrap();
            let mut at = 0;
            while let Ok(view) = BatchView::first(&bytes[at..]) {
                if view.base_offset() == Offset(base) {
                    return (path, at as u64);
                }
                at += view.bytes().len();
            }
        }
        panic!("no batch at {base}");
    }

    /// Flips bits of one byte of the batch that begins at `base`.
    fn flip(&self, base: i64, byte: u64, bits: u8) {
        let (path, at) = self.place_of(base);
        let was = self.disk.read_file(&path).unwrap()[(at + byte) as usize];
        self.disk.edit(&path, at + byte, &[was ^ bits]).unwrap();
    }
}

fn id(topic: u128) -> PartitionId {
    PartitionId {
        topic: TopicId(uuid::Uuid::from_u128(topic)),
        index: PartitionIndex(0),
    }
}

/// A batch of ten records, one millisecond apart, some 500 bytes together.
fn batch(first_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for record in 0..RECORDS_PER_BATCH {
        let value = [record as u8; 40];
        let time_ms = first_ms + record;
        builder.append(time_ms, None, Some(&value), &[]).unwrap();
    }
    let mut bytes = Vec::new();
    builder.append_batch(&mut bytes).unwrap();
    bytes
}

/// Appends batches whose timestamps are their offsets, and waits until they are durable.
async fn fill(log: &Log, batches: i64) {
    for _ in 0..batches {
        let end = log.marks().log_end;
        let appended = log.append(&batch(end.0), 0).await.unwrap();
        log.wait_durable(appended.end_offset).await.unwrap();
    }
}

/// Reads about `max_bytes` from an offset on: where it goes on, and each batch's base offset.
async fn read(log: &Log, from: i64, max_bytes: usize) -> Result<(i64, Vec<i64>), ReadError> {
    let ask = ReadAsk {
        from: Offset(from),
        end: log.marks().durable,
        max_bytes,
        whole_first: true,
    };
    let read = log.read(ask).await?;
    let mut bases = Vec::new();
    for piece in &read.pieces {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            let view = BatchView::first_verified(rest).unwrap();
            assert_eq!(view.leader_epoch(), LeaderEpoch(3));
            bases.push(view.base_offset().0);
            rest = &rest[view.bytes().len()..];
        }
    }
    Ok((read.next_offset.0, bases))
}

/// Nobody else is concerned, and the process goes on.
#[test]
fn marks_out_of_order_take_one_partition_offline() {
    let scene = Scene::new();
    scene.live(async |_, shard| {
        let spec = |number: u128, topic: &str| PartitionSpec {
            topic: topic.into(),
            ..scene.spec(id(number))
        };
        let broken = create(&shard, spec(1, "broken")).await.unwrap();
        let other = create(&shard, spec(2, "other")).await.unwrap();
        fill(&broken, 2).await;
        broken.0.state.borrow_mut().plant_durable(Offset(1_000));
        let appended = broken.append(&batch(0), 0).await;
        let acknowledged = match appended {
            Ok(appended) => broken.wait_durable(appended.end_offset).await,
            Err(_) => panic!("accepted, and then noticed"),
        };
        let is_told = |error: StorageError| match error {
            StorageError::PartitionOffline(why) => why.contains("durable beyond log end"),
            _ => false,
        };
        assert!(is_told(acknowledged.unwrap_err()));
        assert!(is_told(broken.failure().unwrap()));
        broken.append(&batch(0), 0).await.unwrap_err();
        fill(&other, 2).await;
        assert_eq!(shard.offline_reason(), None);
        shard.delete_partition(id(1)).await.unwrap();
        shard.close().await.unwrap();
    });
}

fn is_corrupt(error: &ReadError, says: &str) -> bool {
    matches!(error, ReadError::Storage(StorageError::Corrupt(why)) if why.contains(says))
}
