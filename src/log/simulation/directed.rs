//! Lives that lead straight to where chance hardly ever comes.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::log::files::record_log::{RecordLog, RecordLogError, Reserve};
use crate::log::options::Durability;
use crate::model::PartitionId;
use crate::model::batch::BatchBuilder;
use crate::rt::{DurableWrites, Runtime};
use crate::sim::{Cut, DiskModel, Rng, Sim, SimDisk, SimRuntime};

use super::caught;
use super::life::{self, Node, Plan};
use super::truth::Truth;
use super::work::{create_named, retention, send};

/// Longer than a recovery takes here, shorter than a start waits for locks.
const LATE: Duration = Duration::from_millis(500);
/// Longer than anything takes that is not late.
pub const SOON: Duration = Duration::from_millis(20);
/// After how much journal a checkpoint lets everything go to its segments.
pub const ALWAYS: u64 = 1;
pub const SELDOM: u64 = 1 << 20;

/// A killed process leaves a write in flight, to its journal or to a segment by turns, which lands
/// only after its successor would have written to the same place.
///
/// # Errors
/// The promise that was broken.
pub fn late_write(seed: u64) -> Result<(), String> {
    let (path, checkpoint_bytes) = match seed % 2 {
        0 => ("/journal/", SELDOM),
        _ => (".log", ALWAYS),
    };
    caught(|| {
        let scene = Scene::new(seed, checkpoint_bytes);
        scene.life(async |node, rng| {
            let id = create_named(node, "t", rng).await?;
            scene.disk.stall_writes(path, LATE);
            append(node, id, rng).await
        })?;
        scene.life(async |node, rng| {
            let id = scene.partition()?;
            append(node, id, rng).await?;
            node.runtimes[0].sleep(LATE).await;
            Ok(())
        })?;
        scene.life(async |_, _| Ok(()))
    })
}

/// One of several flushed journal writes rots: what it held is missed, never taken for a write that
/// power loss has torn.
///
/// # Errors
/// The promise that was broken.
pub fn rotten_journal(seed: u64) -> Result<(), String> {
    const JOURNAL: &str = "/data/shard-0/journal/0000";
    const BLOCK: u64 = 4096;
    caught(|| {
        let scene = Scene::new(seed, SELDOM);
        scene.life(async |node, rng| {
            let id = create_named(node, "t", rng).await?;
            for _ in 0..3 {
                append(node, id, rng).await?;
                node.runtimes[0].sleep(SOON).await;
            }
            Ok(())
        })?;
        // Each of the three had a block of its own.
        let rotten = scene.disk.corrupt(JOURNAL, BLOCK..2 * BLOCK);
        rotten.map_err(|error| error.to_string())?;
        let mut sim = Sim::new(seed, &scene.disk);
        let rt = sim.runtime(0);
        let recovery = life::recover_unchecked(&rt, &scene.plan, &scene.truth);
        let recovered = uncut(sim.run(recovery))??;
        let mut truth = scene.truth.borrow_mut();
        for partition in recovered.shards.iter().flatten() {
            if let (None, Some(known)) = (
                partition.offline(),
                truth.partitions.get_mut(&partition.id()),
            ) {
                known.recovered(partition)?;
            }
        }
        Ok(())
    })
}

/// Power is lost behind records of the cluster metadata.
///
/// # Errors
/// The promise that was broken.
pub fn lost_metadata(seed: u64) -> Result<(), String> {
    const RECORDS: usize = 3;
    let dir = Path::new("/metadata");
    caught(|| {
        let disk = SimDisk::new(DiskModel::any(seed));
        let mut sim = Sim::new(seed, &disk);
        sim.set_durable_writes(DurableWrites::ALL[seed as usize % 2]);
        let rt = sim.runtime(0);
        let written: Result<(), RecordLogError> = uncut(sim.run(async {
            let (mut log, _) = RecordLog::open(&rt, dir).await?;
            for _ in 0..RECORDS {
                log.append(b"record", Reserve::Keep).await?;
            }
            Ok(())
        }))?;
        written.map_err(|error| error.to_string())?;
        sim.power_cut();
        let mut sim = Sim::new(seed, &disk);
        let rt = sim.runtime(0);
        let opened = uncut(sim.run(RecordLog::open(&rt, dir)))?;
        let (_, records) = opened.map_err(|error| error.to_string())?;
        match records.len() {
            RECORDS => Ok(()),
            found => Err(format!("lost: {found} records of {RECORDS}")),
        }
    })
}

/// Retention empties a partition behind a checkpoint, which was made in the middle of a batch or not,
/// and the process is killed.
///
/// # Errors
/// The promise that was broken.
pub fn emptied(seed: u64) -> Result<(), String> {
    const BLOCK: u64 = 4096;
    caught(|| {
        let mut scene = Scene::new(seed, [SELDOM, ALWAYS][(seed % 2) as usize]);
        scene.plan.config.retention_bytes = 0;
        scene.plan.config.segment_bytes = 100 << 10;
        scene.plan.options.write_back_bytes = BLOCK;
        scene.life(async |node, rng| {
            let id = create_named(node, "t", rng).await?;
            for _ in 0..20 {
                append(node, id, rng).await?;
            }
            node.runtimes[0].sleep(SOON).await;
            let (shard, log) = (&node.shards[0], node.partition(id).ok_or("no partition")?);
            let checkpoint = shard.checkpoint().await;
            checkpoint.map_err(|error| error.to_string())?;
            // The first time begins the next segment, the second removes the one before.
            for _ in 0..2 {
                retention(node, &log).await?;
                node.runtimes[0].sleep(SOON).await;
            }
            match scene.disk.read_file("/data/t-0/00000000000000000000.log") {
                Some(_) => Err("the segment is still there".into()),
                None => Ok(()),
            }
        })?;
        scene.life(async |node, rng| append(node, scene.partition()?, rng).await)?;
        scene.life(async |_, _| Ok(()))
    })
}

/// A process is killed with a log start on its way to the journal, and the power goes while the next
/// one recovers: what that has seen of it, and removed segments for, must not go with the power.
///
/// # Errors
/// The promise that was broken.
pub fn unflushed_log_start(seed: u64) -> Result<(), String> {
    const ATTEMPTS: u64 = 8;
    (0..ATTEMPTS).try_for_each(|attempt| caught(|| unflushed_once(seed * ATTEMPTS + attempt)))
}

fn unflushed_once(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(!seed);
    let mut scene = Scene::new(seed, ALWAYS);
    scene.plan.config.segment_bytes = 1000;
    scene.plan.config.retention_bytes = -1;
    scene.life(async |node, rng| {
        let id = create_named(node, "t", rng).await?;
        for _ in 0..6 {
            append(node, id, rng).await?;
            node.runtimes[0].sleep(SOON).await;
        }
        Ok(())
    })?;
    let mut sim = Sim::new(rng.next_u64(), &scene.disk);
    let rt = sim.runtime(0);
    let opened: Result<_, String> = uncut(sim.run(async {
        let recovered = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth).await?;
        life::open(
            vec![rt.clone()],
            recovered,
            &scene.plan,
            scene.truth.clone(),
        )
        .await
    }))?;
    let node = opened?;
    let log = node.partition(scene.partition()?).ok_or("no partition")?;
    let before = log.marks().durable;
    if let Some(known) = scene.truth.borrow_mut().partitions.get_mut(&log.id()) {
        known.asked_log_starts.insert(before);
    }
    sim.cut_at_io(sim.io_count() + 1 + rng.below(4));
    let _ = sim.run(log.delete_records(before));
    sim.process_kill();
    let mut sim = Sim::new(rng.next_u64(), &scene.disk);
    let rt = sim.runtime(0);
    // A whole recovery has about 120 steps here; the segments go in the last quarter of them.
    sim.cut_at_io(90 + rng.below(30));
    let _ = sim.run(life::recover_unchecked(&rt, &scene.plan, &scene.truth));
    sim.power_cut();
    scene.life(async |_, _| Ok(()))
}

/// More comes at once than the journal holds, while a checkpoint that was begun before is slow: what has
/// filled the journal meanwhile is let go as well, and everyone gets room.
///
/// # Errors
/// The promise that was broken.
pub fn full_journal(seed: u64) -> Result<(), String> {
    const BATCHES: usize = 60;
    const VALUE_BYTES: usize = 16 << 10;
    caught(|| {
        let mut scene = Scene::new(seed, SELDOM);
        scene.plan.config.segment_bytes = 4 << 20;
        scene.plan.options.tail_bytes = 8 << 20;
        scene.life(async |node, rng| {
            let id = create_named(node, "t", rng).await?;
            append(node, id, rng).await?;
            // Nothing is left for the checkpoint that the burst will ask for.
            let checkpoint = node.shards[0].checkpoint().await;
            checkpoint.map_err(|error| error.to_string())?;
            append(node, id, rng).await?;
            node.runtimes[0].sleep(SOON).await;
            scene.disk.stall_writes("/checkpoint", LATE);
            let batches = (0..BATCHES).map(|_| append_value(node, id, VALUE_BYTES, rng));
            let batches: Vec<_> = batches.collect::<Result<_, _>>()?;
            let all = futures_util::future::join_all(batches).await;
            all.into_iter().collect::<Result<(), String>>()?;
            let log = node.partition(id).ok_or("no partition")?;
            let durable = log.wait_durable(log.marks().log_end).await;
            durable.map_err(|error| error.to_string())
        })?;
        scene.life(async |_, _| Ok(()))
    })
}

/// Segments end under load, one after the other, and the life ends at each of its I/O steps in turn: by a
/// kill, or by a power cut.
///
/// # Errors
/// The promise that was broken.
pub fn rolls_cut_at_each_step(seed: u64) -> Result<u64, String> {
    let mut step = 1;
    while caught(|| rolls_cut_at(seed, step)).map_err(|what| format!("step {step}: {what}"))? {
        step += 1;
    }
    Ok(step)
}

/// Whether the life was cut.
fn rolls_cut_at(seed: u64, step: u64) -> Result<bool, String> {
    let mut scene = Scene::new(seed, [SELDOM, ALWAYS][(seed % 2) as usize]);
    scene.plan.config.segment_bytes = 1000;
    scene.plan.config.retention_bytes = -1;
    scene.life(async |node, rng| create_named(node, "t", rng).await.map(|_| ()))?;
    let mut sim = Sim::new(seed, &scene.disk);
    let rt = sim.runtime(0);
    let opened: Result<_, String> = uncut(sim.run(async {
        let recovered = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth).await?;
        let (runtimes, truth) = (vec![rt.clone()], scene.truth.clone());
        life::open(runtimes, recovered, &scene.plan, truth).await
    }))?;
    let (node, id) = (opened?, scene.partition()?);
    sim.cut_at_io(sim.io_count() + step);
    let mut rng = Rng::new(seed);
    let worked = sim.run(async {
        for _ in 0..6 {
            append(&node, id, &mut rng).await?;
        }
        rt.sleep(SOON).await;
        Ok::<_, String>(())
    });
    match seed / 2 % 2 {
        0 => sim.power_cut(),
        _ => sim.process_kill(),
    }
    let is_cut = worked.map_or(Ok(true), |worked| worked.map(|()| false))?;
    for _ in 0..2 {
        scene.life(async |node, rng| append(node, id, rng).await)?;
    }
    Ok(is_cut)
}

/// How long recovery takes of so many partitions with a batch each, where every operation of the
/// disk takes a tenth of a millisecond.
///
/// # Errors
/// The promise that was broken.
pub fn recovery_time(partitions: usize) -> Result<Duration, String> {
    const OPERATION: Duration = Duration::from_micros(100);
    caught(|| {
        let mut scene = Scene::new(1, SELDOM);
        scene.disk = SimDisk::new(DiskModel {
            latency: OPERATION..OPERATION + Duration::from_nanos(1),
            slow_one_in: 0,
            ..DiskModel::default()
        });
        scene.plan.options.tail_bytes = 64 << 20;
        scene.plan.options.journal_bytes = 64 << 20;
        scene.plan.options.journal_file_bytes = 16 << 20;
        scene.life(async |node, rng| {
            for number in 0..partitions {
                let id = create_named(node, &format!("t{number}"), rng).await?;
                append(node, id, rng).await?;
            }
            Ok(())
        })?;
        let mut sim = Sim::new(1, &scene.disk);
        let rt = sim.runtime(0);
        let recovery = life::recover_all(&scene.disk, &rt, &scene.plan, &scene.truth);
        Ok(uncut(sim.run(recovery))??.report.elapsed)
    })
}

pub fn uncut<T>(ended: Result<T, Cut>) -> Result<T, String> {
    ended.map_err(|cut| cut.to_string())
}

/// A small node on a disk of even speed, whose lives all end by a kill.
pub struct Scene {
    pub disk: SimDisk,
    pub truth: Rc<RefCell<Truth>>,
    pub plan: Plan,
    rng: RefCell<Rng>,
}

impl Scene {
    pub fn new(seed: u64, checkpoint_bytes: u64) -> Self {
        let mut rng = Rng::new(seed);
        let model = DiskModel {
            slow_one_in: 0,
            ..DiskModel::default()
        };
        let mut plan = Plan::any(&mut rng, Durability::Fsync);
        plan.options.checkpoint_bytes = checkpoint_bytes;
        Self {
            disk: SimDisk::new(model),
            truth: Rc::default(),
            plan: Plan {
                shards: 1,
                spare_bytes: None,
                ..plan
            },
            rng: RefCell::new(rng),
        }
    }

    pub fn life(
        &self,
        work: impl AsyncFnOnce(&Rc<Node>, &mut Rng) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut rng = self.rng.borrow_mut();
        let mut sim = Sim::new(rng.next_u64(), &self.disk);
        sim.set_durable_writes(DurableWrites::ALL[rng.index(2)]);
        // What was left behind is on its way by now.
        self.disk.clear_stall();
        let rt = sim.runtime(0);
        let lived = sim.run(async {
            let recovered = life::recover_all(&self.disk, &rt, &self.plan, &self.truth).await?;
            let runtimes: Vec<SimRuntime> = vec![rt.clone()];
            let node = life::open(runtimes, recovered, &self.plan, self.truth.clone()).await?;
            work(&node, &mut rng).await?;
            rt.sleep(SOON).await;
            Ok(())
        });
        uncut::<Result<(), String>>(lived)??;
        sim.process_kill();
        match self.truth.borrow_mut().broken.take() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    pub fn partition(&self) -> Result<PartitionId, String> {
        let truth = self.truth.borrow();
        let id = truth.partitions.keys().next().copied();
        id.ok_or_else(|| "no partition".into())
    }
}

/// Appends a batch of less than a block; its acknowledgement is noted when it comes.
pub async fn append(node: &Rc<Node>, id: PartitionId, rng: &mut Rng) -> Result<(), String> {
    append_up_to(500, node, id, rng).await
}

/// The same, with a record of up to so many bytes.
pub async fn append_up_to(
    most: usize,
    node: &Rc<Node>,
    id: PartitionId,
    rng: &mut Rng,
) -> Result<(), String> {
    let value_bytes = 1 + rng.index(most);
    append_value(node, id, value_bytes, rng)?.await
}

/// Makes a batch of one record; it is appended as the future says.
pub fn append_value(
    node: &Rc<Node>,
    id: PartitionId,
    value_bytes: usize,
    rng: &mut Rng,
) -> Result<impl Future<Output = Result<(), String>> + use<>, String> {
    let mut value = vec![0; value_bytes];
    rng.fill(&mut value);
    let mut builder = BatchBuilder::new();
    let mut batch = Vec::new();
    builder
        .append(1_700_000_000_000, None, Some(&value), &[])
        .and_then(|()| builder.append_batch(&mut batch))
        .map_err(|error| error.to_string())?;
    let log = node.partition(id).ok_or("no partition")?;
    let node = node.clone();
    Ok(async move { send(&node, &log, batch).await })
}
