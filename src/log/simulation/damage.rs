//! Lives behind which files are damaged or gone: nothing intact is thrown away for that.

use std::path::Path;
use std::rc::Rc;

use crate::log::recovery::RecoveryReport;
use crate::log::{ShardLog, ToldPartition};
use crate::model::{LeaderEpoch, Offset, PartitionId, PartitionIndex, TopicId};
use crate::rt::Runtime;
use crate::sim::Sim;

use super::caught;
use super::directed::{ALWAYS, SELDOM, SOON, Scene, append, uncut};
use super::life;
use super::recovery::RecoveredShards;
use super::truth::PartitionTruth;
use super::work::create_named;

const BLOCK: u64 = 4096;
pub const JOURNAL: &str = "/data/shard-0/journal/0000";
/// Where the journal of the first life is kept.
const KEPT: &str = "/data/shard-0/journal.run-1/0000";

/// One of several journal writes rots: who may have lost something goes offline with all that is
/// whole in its segment, and the journal is kept.
///
/// # Errors
/// The promise that was broken.
pub fn offline_keeps_all(seed: u64) -> Result<(), String> {
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        let ids = three_topics(&scene)?;
        let acknowledged: Vec<_> = ids.iter().map(|id| first_batch(&scene, *id)).collect();
        let whole = scene.disk.read_file(JOURNAL).ok_or("no journal")?;
        corrupt(&scene, JOURNAL, BLOCK)?;
        let before = scene.disk.read_file(JOURNAL);
        for start in 0..2 {
            let recovered = recover(&scene)?;
            let offline: Vec<_> = recovered.shards[0]
                .iter()
                .filter_map(|found| {
                    let reason = found.offline()?.to_owned();
                    Some((found.id(), reason, found.snapshot().end().offset))
                })
                .collect();
            if offline.len() != 2 || offline.iter().any(|(id, ..)| *id == ids[2]) {
                return Err(format!("start {start}: offline: {offline:?}"));
            }
            for (id, reason, end) in offline {
                // The batch of the first lies before the rot, that of the second was hit.
                let expected = Offset(i64::from(id == ids[0]));
                if end != expected || !reason.contains("journal.run-1") {
                    return Err(format!("{id:?} ends at {end}: {reason}"));
                }
            }
            let segment = scene.disk.read_file("/data/a-0/00000000000000000000.log");
            if !segment.is_some_and(|bytes| bytes.starts_with(&acknowledged[0])) {
                return Err("what was whole is not in the segment".into());
            }
            if scene
                .disk
                .read_file(KEPT)
                .map(|kept| kept[..whole.len()] == before.as_deref().unwrap_or_default()[..])
                != Some(true)
            {
                return Err("the journal is not kept as it was".into());
            }
        }
        Ok(())
    })
}

/// The directory of a partition is not there for one start: that one is refused, and nothing is
/// lost.
///
/// # Errors
/// The promise that was broken.
pub fn missing_dir(seed: u64) -> Result<(), String> {
    let (dir, aside) = (Path::new("/data/a-0"), Path::new("/data/elsewhere"));
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        three_topics(&scene)?;
        scene.life(async |_, _| Ok(()))?;
        rename(&scene, dir, aside)?;
        match recover(&scene) {
            Err(reason) if reason.contains("/data/a-0 is missing") => {}
            other => return Err(format!("recovered: {:?}", other.map(|found| found.report))),
        }
        rename(&scene, aside, dir)?;
        let mark = "/data/b-0/partition.metadata";
        let text = scene.disk.read_file(mark).ok_or("no mark")?;
        scene
            .disk
            .write_file(mark, b"?")
            .map_err(|error| error.to_string())?;
        match recover(&scene) {
            Err(reason) if reason.contains("printf") => {}
            other => return Err(format!("recovered: {:?}", other.map(|found| found.report))),
        }
        scene
            .disk
            .write_file(mark, &text)
            .map_err(|error| error.to_string())?;
        scene.life(async |_, _| Ok(()))
    })
}

/// The journal write of a log start rots, and later records follow it.
///
/// # Errors
/// The promise that was broken.
pub fn rotten_log_start(seed: u64) -> Result<(), String> {
    let log_start = Offset(2);
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        scene.life(async |node, rng| {
            let id = create_named(node, "a", rng).await?;
            let log = node.partition(id).ok_or("no partition")?;
            for number in 0..4 {
                if number == 3 {
                    let deleted = log.delete_records(log_start).await;
                    deleted.map_err(|error| error.to_string())?;
                }
                append(node, id, rng).await?;
                let durable = log.wait_durable(log.marks().log_end).await;
                durable.map_err(|error| error.to_string())?;
            }
            node.runtimes[0].sleep(SOON * 10).await;
            Ok(())
        })?;
        // Each write has a block; those of three batches come first.
        corrupt(&scene, JOURNAL, 3 * BLOCK)?;
        let found = recover(&scene)?.shards.remove(0).remove(0);
        match (found.offline(), found.snapshot().log_start()) {
            (None, found) if found == log_start => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

/// The file of a segment is cut or missing for one start. Where records would be written behind the
/// hole there is none; otherwise the partition is offline, until the file is there again.
///
/// # Errors
/// The promise that was broken.
pub fn missing_segment(seed: u64) -> Result<(), String> {
    let path = |base: Offset| format!("/data/a-0/{:020}.log", base.0);
    caught(|| {
        let mut scene = Scene::new(seed, ALWAYS);
        scene.plan.config.segment_bytes = 1000;
        scene.plan.config.retention_bytes = -1;
        scene.life(async |node, rng| {
            let id = create_named(node, "a", rng).await?;
            for _ in 0..8 {
                append(node, id, rng).await?;
                node.runtimes[0].sleep(SOON).await;
            }
            Ok(())
        })?;
        let found = recover(&scene)?.shards.remove(0).remove(0);
        let active = path(found.snapshot().active().base_offset);
        let whole = scene.disk.read_file(&active).ok_or("no active segment")?;
        let bytes = found.snapshot().end().at.byte as usize;
        for cut in [&whole[..0], &whole[..bytes - 1]] {
            put(&scene, &active, cut)?;
            match recover(&scene) {
                Err(reason) if reason.contains(&active) => {}
                other => return Err(format!("recovered: {:?}", other.map(|found| found.report))),
            }
        }
        put(&scene, &active, &whole)?;
        let sealed = path(
            found
                .snapshot()
                .complete()
                .front()
                .ok_or("nothing sealed")?
                .base_offset,
        );
        let whole = scene.disk.read_file(&sealed).ok_or("no sealed segment")?;
        let removed = scene.disk.remove_file(&sealed);
        removed.map_err(|error| error.to_string())?;
        for start in 0..2 {
            let found = serve(&scene)?;
            match &found.offline[..] {
                [(_, reason)] if reason.contains(&sealed) => {}
                other => return Err(format!("start {start}: {other:?}")),
            }
        }
        put(&scene, &sealed, &whole)?;
        scene.life(async |_, _| Ok(()))
    })
}

/// The disk is full, and metadata has a partition to which nothing was appended: it needs no room, and
/// is there for its first record when there is some.
///
/// # Errors
/// The promise that was broken.
pub fn full_disk(seed: u64) -> Result<(), String> {
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        three_topics(&scene)?;
        let id = PartitionId {
            topic: TopicId(uuid::Uuid::from_u128(u128::from(seed) + 1)),
            index: PartitionIndex(0),
        };
        let known = PartitionTruth::new("late");
        scene.truth.borrow_mut().partitions.insert(id, known);
        scene.disk.set_capacity(Some(scene.disk.used_bytes()));
        let found = recover(&scene)?;
        scene.disk.set_capacity(None);
        let is_there = found.shards[0].iter().any(|found| found.id() == id);
        if !is_there
            || scene
                .disk
                .list()
                .iter()
                .any(|(path, _)| path.contains("/late-0"))
        {
            return Err(format!("{:?}", found.report));
        }
        scene.life(async |node, rng| append(node, id, rng).await)
    })
}

/// The newest checkpoint rots, and the journal no longer has what the one before begins with.
///
/// # Errors
/// The promise that was broken.
pub fn rotten_checkpoint(seed: u64) -> Result<(), String> {
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        three_topics(&scene)?;
        let slots = ["/data/shard-0/checkpoint-0", "/data/shard-0/checkpoint-1"];
        let sequence = |slot: &str| {
            scene
                .disk
                .read_file(slot)
                .map(|bytes| bytes[32..40].to_vec())
        };
        let newest = usize::from(sequence(slots[0]) < sequence(slots[1]));
        corrupt(&scene, slots[newest], 0)?;
        for block in 0..2 {
            corrupt(&scene, JOURNAL, block * BLOCK)?;
        }
        let recovered = recover(&scene)?;
        let told = |(_, reason): &(PartitionId, String)| reason.contains(slots[newest]);
        match recovered.report.offline.iter().any(told) {
            true => Ok(()),
            false => Err(format!("{:?}", recovered.report)),
        }
    })
}

/// A life in which three partitions get a batch each, in journal writes of a block, and then the
/// last one another, behind a checkpoint.
pub fn three_topics(scene: &Scene) -> Result<Vec<PartitionId>, String> {
    let mut ids = Vec::new();
    scene.life(async |node, rng| {
        for topic in ["a", "b", "c"] {
            ids.push(create_named(node, topic, rng).await?);
        }
        // Checkpoints know them from here on.
        let checkpoint = node.shards[0].checkpoint().await;
        checkpoint.map_err(|error| error.to_string())?;
        for id in [0, 1, 2, 2] {
            append(node, ids[id], rng).await?;
            let log = node.partition(ids[id]).ok_or("no partition")?;
            let durable = log.wait_durable(log.marks().log_end).await;
            durable.map_err(|error| error.to_string())?;
        }
        node.runtimes[0].sleep(SOON * 10).await;
        Ok(())
    })?;
    Ok(ids)
}

fn first_batch(scene: &Scene, id: PartitionId) -> Vec<u8> {
    let truth = scene.truth.borrow();
    let known = truth
        .partitions
        .get(&id)
        .and_then(|known| known.batches.first());
    known.map(|batch| batch.bytes.clone()).unwrap_or_default()
}

/// Rot of one block.
pub fn corrupt(scene: &Scene, path: &str, at: u64) -> Result<(), String> {
    let rotten = scene.disk.corrupt(path, at..at + BLOCK);
    rotten.map_err(|error| error.to_string())
}

fn rename(scene: &Scene, from: &Path, to: &Path) -> Result<(), String> {
    let mut sim = Sim::new(1, &scene.disk);
    let rt = sim.runtime(0);
    let renamed = uncut(sim.run(rt.rename(from, to)))?;
    sim.process_kill();
    renamed.map_err(|error| error.to_string())
}

fn put(scene: &Scene, path: &str, bytes: &[u8]) -> Result<(), String> {
    let written = scene.disk.write_file(path, bytes);
    written.map_err(|error| error.to_string())
}

/// A start, a checkpoint, and a kill.
fn serve(scene: &Scene) -> Result<RecoveryReport, String> {
    let mut sim = Sim::new(1, &scene.disk);
    let rt = sim.runtime(0);
    let served = uncut(sim.run(async {
        let mut recovered = life::recover_unchecked(&rt, &scene.plan, &scene.truth).await?;
        let (options, partitions) = (scene.plan.options.clone(), recovered.shards.remove(0));
        let config = Rc::new(scene.plan.config.clone());
        let told = |_| ToldPartition {
            leader_epoch: LeaderEpoch(0),
            config: config.clone(),
        };
        let opened = ShardLog::open(rt.clone(), options, recovered.run, partitions, told);
        let shard = opened.await.map_err(|error| error.to_string())?;
        let checkpoint = shard.checkpoint().await;
        checkpoint.map_err(|error| error.to_string())?;
        Ok(recovered.report)
    }))?;
    sim.process_kill();
    served
}

/// A start, as far as its recovery; the process is killed then.
pub fn recover(scene: &Scene) -> Result<RecoveredShards, String> {
    let mut sim = Sim::new(1, &scene.disk);
    let rt = sim.runtime(0);
    let recovery = life::recover_unchecked(&rt, &scene.plan, &scene.truth);
    let recovered = uncut(sim.run(recovery))?;
    sim.process_kill();
    recovered
}
