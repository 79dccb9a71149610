//! One life of a node, stage by stage: recover, check everything, work.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::log::files::partition_files::{
    PARTITION_METADATA, PartitionDir, SegmentFile, decode_partition_metadata, partition_dir,
};
use crate::log::options::{Durability, LogConfig, LogOptions, RecoveryOptions};
use crate::log::recovery::RecoveredPartition;
use crate::log::{PartitionLog, ReadAsk, ShardLog, ToldPartition};
use crate::model::{LeaderEpoch, NodeId, Offset, PartitionId, ShardIndex};
use crate::rt::{Runtime, TaskClass};
use crate::sim::{Rng, SimDisk, SimRuntime};

use super::recovery::{RecoveredShards, recover};
use super::truth::Truth;
use super::work;

/// Where everything is.
pub const DATA_DIR: &str = "/data";

/// What a life is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: u16,
    pub config: LogConfig,
    pub options: LogOptions,
    pub partitions: usize,
    pub operations: usize,
    pub seed: u64,
    /// For a while the disk has no more room than this.
    pub spare_bytes: Option<u64>,
}

impl Plan {
    /// Some plan; sizes are small, so that everything happens often.
    pub fn any(rng: &mut Rng, durability: Durability) -> Self {
        let config = LogConfig {
            segment_bytes: [24, 40, 100][rng.index(3)] << 10,
            index_interval_bytes: [200, 2000][rng.index(2)],
            retention_bytes: [-1, 60_000][rng.index(2)],
            file_delete_delay_ms: [0, 5][rng.index(2)],
            ..LogConfig::default()
        };
        let options = LogOptions {
            durability,
            journal_bytes: 512 << 10,
            journal_file_bytes: 128 << 10,
            journal_ready_bytes: [0, 1 << 20][rng.index(2)],
            journal_write_bytes: 32 << 10,
            journal_writes_in_flight: 1 + rng.index(4),
            checkpoint_bytes: [40, 100, 400][rng.index(3)] << 10,
            tail_bytes: [64, 128, 1024][rng.index(3)] << 10,
            chunk_bytes: [4, 16, 64][rng.index(3)] << 10,
            write_back_bytes: [4, 12, 40][rng.index(3)] << 10,
            write_backs_in_flight: 1 + rng.index(4),
            reserve_bytes: [8, 32][rng.index(2)] << 10,
            reserve_max_bytes: 64 << 10,
            open_files: [2, 4, 100][rng.index(3)],
            syncs_by_file: [0, usize::MAX][rng.index(2)],
            cold_reads: 1 + rng.index(2),
            ..LogOptions::new(DATA_DIR.into(), NodeId(1), ShardIndex(0))
        };
        Self {
            shards: 1 + rng.index(3) as u16,
            config,
            options,
            partitions: 1 + rng.index(4),
            operations: 20 + rng.index(150),
            seed: rng.next_u64(),
            spare_bytes: rng.one_in(3).then(|| rng.below(300_000)),
        }
    }
}

/// A node that is up.
pub struct Node {
    pub runtimes: Vec<SimRuntime>,
    pub shards: Vec<ShardLog<SimRuntime>>,
    pub config: Rc<LogConfig>,
    pub truth: Rc<RefCell<Truth>>,
}

impl Node {
    pub fn partition(&self, id: PartitionId) -> Option<PartitionLog<SimRuntime>> {
        self.shards.iter().find_map(|shard| shard.partition(id))
    }

    /// How many rewrites of a partition have swapped segments.
    pub fn swaps(&self, log: &PartitionLog<SimRuntime>) -> u64 {
        let truth = self.truth.borrow();
        truth
            .partitions
            .get(&log.id())
            .map_or(0, |known| known.swaps)
    }
}

/// Recovers the data directory, and checks what was found.
pub async fn recover_all(
    disk: &SimDisk,
    rt: &SimRuntime,
    plan: &Plan,
    truth: &RefCell<Truth>,
) -> Result<RecoveredShards, String> {
    let named = named_segments(disk);
    let recovered = recover_unchecked(rt, plan, truth).await?;
    for partition in recovered.shards.iter().flatten() {
        let mut truth = truth.borrow_mut();
        let known = truth
            .partitions
            .get_mut(&partition.id())
            .ok_or("a strange partition")?;
        let sealed = check_sealed(disk, partition);
        let named = check_named(&named, partition);
        let result = known.recovered(partition).and(sealed).and(named);
        known.is_created = true;
        truth.note(partition.id(), result);
    }
    match &truth.borrow().broken {
        Some(broken) => Err(broken.clone()),
        None => Ok(recovered),
    }
}

/// Segments that have files under their names, and whose they are.
type NamedSegments = Vec<(PartitionId, Offset)>;

fn named_segments(disk: &SimDisk) -> NamedSegments {
    let named = |(path, _): (String, u64)| {
        let path = Path::new(&path);
        let dir = path.parent()?;
        let (id, SegmentFile::Log) = SegmentFile::parse(path.file_name()?.to_str()?)? else {
            return None;
        };
        let PartitionDir::Live { index, .. } = PartitionDir::parse(dir.file_name()?.to_str()?)?
        else {
            return None;
        };
        let mark = disk.read_file(dir.join(PARTITION_METADATA))?;
        let topic = decode_partition_metadata(&mark).ok()?;
        Some((PartitionId { topic, index }, id.base_offset))
    };
    disk.list().into_iter().filter_map(named).collect()
}

/// A file's name tells of everything before it: no file may tell of what the journal did not have.
fn check_named(named: &NamedSegments, found: &RecoveredPartition) -> Result<(), String> {
    let end = found.snapshot().end().offset;
    let beyond = |(id, base): &&(PartitionId, Offset)| *id == found.id() && *base > end;
    match named.iter().find(beyond) {
        None => Ok(()),
        Some((_, base)) => Err(format!(
            "a segment has the name {base}, and the log ends at {end}"
        )),
    }
}

/// Recovers the data directory.
pub async fn recover_unchecked(
    rt: &SimRuntime,
    plan: &Plan,
    truth: &RefCell<Truth>,
) -> Result<RecoveredShards, String> {
    let data_dir = Path::new(DATA_DIR);
    let failed = |error: std::io::Error| error.to_string();
    rt.create_dir(data_dir).await.map_err(failed)?;
    rt.sync_dir(Path::new("/")).await.map_err(failed)?;
    let known = truth.borrow().known(plan.shards);
    let options = RecoveryOptions {
        memory_bytes: 32 << 10,
        // A plan has few partitions; half of them go the way of those with many.
        syncs_by_file: [0, usize::MAX][(plan.seed % 2) as usize],
        ..RecoveryOptions::new(&plan.options, plan.shards)
    };
    let recovered = recover(rt, data_dir, options, &known).await;
    let recovered = recovered.map_err(|error| format!("recovery: {error}"))?;
    truth.borrow_mut().owned(&known);
    Ok(recovered)
}

/// Opens what was recovered, reads all of it, and begins new leader epochs.
pub async fn open(
    runtimes: Vec<SimRuntime>,
    recovered: RecoveredShards,
    plan: &Plan,
    truth: Rc<RefCell<Truth>>,
) -> Result<Rc<Node>, String> {
    let config = Rc::new(plan.config.clone());
    let mut shards = Vec::new();
    for (number, (rt, partitions)) in runtimes.iter().zip(recovered.shards).enumerate() {
        let options = LogOptions {
            shard: ShardIndex(number as u16),
            producers_ms: recovered.last_times.producers_ms,
            ..plan.options.clone()
        };
        let told = |id| ToldPartition {
            leader_epoch: next_epoch(&truth, id),
            config: config.clone(),
        };
        let opened = ShardLog::open(rt.clone(), options, recovered.run, partitions, told).await;
        shards.push(opened.map_err(|error| format!("open: {error}"))?);
    }
    let node = Rc::new(Node {
        runtimes,
        shards,
        config,
        truth,
    });
    check_all(&node).await?;
    Ok(node)
}

/// Works, then stops cleanly.
pub async fn work_and_stop(disk: SimDisk, node: Rc<Node>, plan: Plan) -> Result<(), String> {
    if let Some(spare_bytes) = plan.spare_bytes {
        disk.set_capacity(Some(disk.used_bytes() + spare_bytes));
        let rt = node.runtimes[0].clone();
        node.runtimes[0].spawn(TaskClass::Background, async move {
            rt.sleep(Duration::from_millis(80)).await;
            disk.set_capacity(None);
        });
    }
    work::retry_unanswered(&node).await?;
    work::work(node.clone(), &plan).await?;
    check_all(&node).await?;
    for shard in &node.shards {
        let closed = shard.close().await;
        closed.map_err(|error| format!("close: {error}"))?;
    }
    Ok(())
}

/// Sealed segments have the exact length of their batches: other tools read them, too. There are no
/// other segments.
fn check_sealed(disk: &SimDisk, partition: &RecoveredPartition) -> Result<(), String> {
    let snapshot = partition.snapshot();
    let dir = Path::new(DATA_DIR).join(partition_dir(snapshot.topic(), snapshot.id().index));
    let mut files = Vec::from_iter(disk.list().into_iter().map(|(path, _)| path));
    files.retain(|path| Path::new(path).parent() == Some(&dir) && path.ends_with(".log"));
    for facts in snapshot.segments() {
        let path = dir.join(SegmentFile::Log.name(facts.id()));
        files.retain(|other| Path::new(other) != path);
    }
    if !files.is_empty() {
        return Err(format!("{files:?} are left: {:?}", snapshot.complete()));
    }
    for facts in snapshot.complete() {
        let path = dir.join(SegmentFile::Log.name(facts.id()));
        let bytes = disk.read_file(&path).map_or(0, |bytes| bytes.len() as u64);
        if bytes != facts.size_bytes {
            let (path, size) = (path.display(), facts.size_bytes);
            return Err(format!("{path} has {bytes} bytes, its batches {size}"));
        }
    }
    Ok(())
}

/// Reads every partition from its start to its durable end.
pub async fn check_all(node: &Rc<Node>) -> Result<(), String> {
    let ids: Vec<_> = node.truth.borrow().partitions.keys().copied().collect();
    for id in ids {
        let Some(log) = node.partition(id) else {
            continue;
        };
        let marks = log.marks();
        check_read(node, &log, marks.log_start, marks.durable, 64 << 10)
            .await
            .map_err(|what| format!("{}-{}: {what}", log.topic(), id.index))?;
    }
    Ok(())
}

/// Reads a range, and compares it with what was accepted.
pub async fn check_read(
    node: &Node,
    log: &PartitionLog<SimRuntime>,
    from: Offset,
    end: Offset,
    max_bytes: usize,
) -> Result<(), String> {
    let mut at = from;
    while at < end {
        let ask = ReadAsk {
            from: at,
            end,
            max_bytes,
            whole_first: true,
        };
        let since = node.swaps(log);
        let read = log.read(ask).await;
        let read = match read {
            Ok(read) => read,
            // The front may go while this reads.
            Err(_) if log.marks().log_start > at => return Ok(()),
            Err(error) => return Err(format!("read at {at}: {error}")),
        };
        let bytes: Vec<u8> = read
            .pieces
            .iter()
            .flat_map(|piece| piece.iter().copied())
            .collect();
        let truth = node.truth.borrow();
        let Some(known) = truth.partitions.get(&log.id()) else {
            return Ok(());
        };
        let next = known.check_read(at, &bytes, since)?;
        if bytes.is_empty() && known.may_be_gone(at, end, since) {
            return Ok(());
        }
        if next != read.next_offset || next == at || bytes.len() != read.bytes {
            return Err(format!(
                "read at {at} of {end} goes on at {}, {next} is next",
                read.next_offset
            ));
        }
        at = next;
    }
    Ok(())
}

/// The leader epoch of the run that begins, as metadata gives it out: durable, and never twice.
fn next_epoch(truth: &RefCell<Truth>, id: PartitionId) -> LeaderEpoch {
    let mut truth = truth.borrow_mut();
    let Some(known) = truth.partitions.get_mut(&id) else {
        return LeaderEpoch(0);
    };
    known.leader_epoch = LeaderEpoch(known.leader_epoch.0 + 1);
    known.leader_epoch
}

/// A moment, now and then.
pub async fn pause(rt: &SimRuntime, rng: &mut Rng) {
    match rng.below(12) {
        0 => rt.sleep(Duration::from_micros(rng.below(3_000))).await,
        1 => rt.sleep(Duration::from_micros(rng.below(150_000))).await,
        _ => rt.yield_now().await,
    }
}
