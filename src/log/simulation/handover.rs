//! A partition that goes from one shard to another within a run.

use std::path::Path;
use std::rc::Rc;

use crate::log::ShardLog;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::run::RunId;
use crate::log::options::{LogOptions, ToldPartition, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::effects::Restored;
use crate::log::partition::snapshot::Snapshot;
use crate::log::recovery::RecoveredPartition;
use crate::log::segment::index::SegmentIndex;
use crate::model::{LeaderEpoch, OwnerEpoch, PartitionId, ShardIndex};
use crate::rt::Runtime;
use crate::sim::{Cut, Rng, Sim, SimRuntime};

use super::caught;
use super::directed::{ALWAYS, SELDOM, SOON, Scene, append, append_value, uncut};
use super::life::{self, DATA_DIR, Node};
use super::recovery::RecoveredShards;
use super::work::create_named;

/// A partition changes its shard: all that the first has of it is in its files, as its checkpoint says;
/// then the metadata has the next owner epoch, and another shard goes on. Both shards' checkpoints
/// have the partition when the power goes or the process is killed.
///
/// # Errors
/// The promise that was broken.
pub fn handed_over(seed: u64) -> Result<(), String> {
    let [from, to] = [[0, 1], [1, 0]][(seed % 2) as usize];
    caught(|| {
        let mut scene = Scene::new(seed, [SELDOM, ALWAYS][(seed / 2 % 2) as usize]);
        scene.plan.shards = 2;
        let mut rng = Rng::new(seed);
        let mut sim = Sim::new(seed, &scene.disk);
        let runtimes = [sim.runtime(0), sim.runtime(1)];
        let lived = sim.run(async {
            let rt = &runtimes[0];
            let recovered = life::recover_all(&scene.disk, rt, &scene.plan, &scene.truth).await?;
            let node = open(&scene, &runtimes, &recovered, from, None).await?;
            let id = create_named(&node, "t", &mut rng).await?;
            own(&scene, id, from, OwnerEpoch(0));
            append_some(&node, id, &mut rng).await?;
            let closed = node.shards[0].close().await;
            closed.map_err(|error| error.to_string())?;

            own(&scene, id, to, OwnerEpoch(1));
            let snapshot = checkpointed(rt, from, recovered.run, id).await?;
            let taken = snapshot.owned_by(OwnerEpoch(1));
            let node = open(&scene, &runtimes, &recovered, to, Some(taken)).await?;
            append_some(&node, id, &mut rng).await?;
            let checkpoint = node.shards[0].checkpoint().await;
            checkpoint.map_err(|error| error.to_string())?;
            append_some(&node, id, &mut rng).await
        });
        uncut::<Result<(), String>>(lived)??;
        match seed % 3 {
            0 => sim.power_cut(),
            _ => sim.process_kill(),
        }
        recover(&scene, seed)
    })
}

/// A partition comes back to the shard that had it first, and nothing more is appended to it. The newest
/// checkpoint of that shard rots, so that its journal is read from the beginning of the run; and so does the
/// last entry there, which the shard wrote when it had the partition for the first time. Nothing is lost.
///
/// # Errors
/// The promise that was broken.
pub fn came_back(seed: u64) -> Result<(), String> {
    let [first, other] = [[0, 1], [1, 0]][(seed % 2) as usize];
    caught(|| {
        let mut scene = Scene::new(seed, SELDOM);
        scene.plan.shards = 2;
        let mut rng = Rng::new(seed);
        let mut sim = Sim::new(seed, &scene.disk);
        let runtimes = [sim.runtime(0), sim.runtime(1)];
        let lived = sim.run(async {
            let rt = &runtimes[0];
            let recovered = life::recover_all(&scene.disk, rt, &scene.plan, &scene.truth).await?;
            let node = open(&scene, &runtimes, &recovered, first, None).await?;
            let id = create_named(&node, "t", &mut rng).await?;
            own(&scene, id, first, OwnerEpoch(0));
            for _ in 0..2 {
                append_value(&node, id, VALUE_BYTES, &mut rng)?.await?;
                node.runtimes[0].sleep(SOON).await;
            }
            close(&node).await?;
            own(&scene, id, other, OwnerEpoch(1));
            let snapshot = checkpointed(rt, first, recovered.run, id).await?;
            let taken = snapshot.owned_by(OwnerEpoch(1));
            let node = open(&scene, &runtimes, &recovered, other, Some(taken)).await?;
            append_some(&node, id, &mut rng).await?;
            close(&node).await?;
            own(&scene, id, first, OwnerEpoch(2));
            Ok(())
        });
        uncut::<Result<(), String>>(lived)??;
        sim.process_kill();
        rot(&scene, first)?;
        recover(&scene, seed)
    })
}

/// A journal write that has it takes a block, and more than half of that are its bytes.
const VALUE_BYTES: usize = 3000;
const BLOCK: u64 = 4096;

/// The newest checkpoint of a shard, and the bytes of the second write of its journal, whose table stays.
fn rot(scene: &Scene, shard: u16) -> Result<(), String> {
    let slots = [0, 1].map(|slot| format!("{DATA_DIR}/shard-{shard}/checkpoint-{slot}"));
    let sequence = |slot: &String| Some(scene.disk.read_file(slot)?.get(32..40)?.to_vec());
    let newest = slots.iter().max_by_key(|slot| sequence(slot));
    let journal = format!("{DATA_DIR}/shard-{shard}/journal/0000");
    let bytes = BLOCK + BLOCK / 2..BLOCK + BLOCK / 2 + 8;
    for (path, bytes) in [(newest.ok_or("no slot")?, 0..BLOCK), (&journal, bytes)] {
        let rotten = scene.disk.corrupt(path, bytes);
        rotten.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Everything is in files, as the checkpoint says.
async fn close(node: &Rc<Node>) -> Result<(), String> {
    node.runtimes[0].sleep(SOON).await;
    let closed = node.shards[0].close().await;
    closed.map_err(|error| error.to_string())
}

/// A start, as far as its recovery.
fn recover(scene: &Scene, seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed + 1, &scene.disk);
    let rt = sim.runtime(0);
    let recovery = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth);
    let found: Result<Result<RecoveredShards, String>, Cut> = sim.run(recovery);
    uncut(found)?.map(|_| ())
}

fn own(scene: &Scene, id: PartitionId, shard: u16, epoch: OwnerEpoch) {
    if let Some(known) = scene.truth.borrow_mut().partitions.get_mut(&id) {
        known.owner = (Some(ShardIndex(shard)), epoch);
    }
}

/// A node of which one shard is up, which has at most this partition.
async fn open(
    scene: &Scene,
    runtimes: &[SimRuntime],
    recovered: &RecoveredShards,
    shard: u16,
    taken: Option<Snapshot>,
) -> Result<Rc<Node>, String> {
    let options = LogOptions {
        shard: ShardIndex(shard),
        ..scene.plan.options.clone()
    };
    let config = Rc::new(scene.plan.config.clone());
    let told = |_| ToldPartition {
        leader_epoch: LeaderEpoch(0),
        config: config.clone(),
    };
    let partition = |snapshot: Snapshot| RecoveredPartition {
        log: Restored {
            index: SegmentIndex::new(snapshot.active().base_offset),
            snapshot,
        },
        lacks: None,
        has_dir: true,
        is_elsewhere: false,
    };
    let rt = runtimes[usize::from(shard)].clone();
    let partitions = taken.into_iter().map(partition).collect();
    let opened = ShardLog::open(rt.clone(), options, recovered.run, partitions, told).await;
    Ok(Rc::new(Node {
        runtimes: vec![rt],
        shards: vec![opened.map_err(|error| error.to_string())?],
        config,
        truth: scene.truth.clone(),
    }))
}

async fn append_some(node: &Rc<Node>, id: PartitionId, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..1 + rng.index(8) {
        append(node, id, rng).await?;
    }
    node.runtimes[0].sleep(SOON).await;
    Ok(())
}

/// What the checkpoint of a shard says of a partition.
async fn checkpointed(
    rt: &SimRuntime,
    shard: u16,
    run: RunId,
    id: PartitionId,
) -> Result<Snapshot, String> {
    let dir = shard_dir(Path::new(DATA_DIR), ShardIndex(shard));
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let slots = CheckpointSlots::open(rt, &dir).await;
    let found = slots.map_err(|error| failed(&error))?.load(run).await;
    let checkpoint = found
        .map_err(|error| failed(&error))?
        .ok_or("no checkpoint")?;
    let changes = checkpoint.changes.iter().map(Vec::as_slice);
    let content = Content::decode_all(&checkpoint.content, changes);
    let partitions = content.map_err(|error| failed(&error))?.partitions;
    let found = partitions.into_iter().find(|found| found.id() == id);
    found.ok_or_else(|| "the checkpoint does not have it".into())
}
