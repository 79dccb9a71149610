//! Rewrites of sealed segments: batches and records are dropped on purpose, others are compressed.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::compress::{Codecs, Level};
use crate::log::error::{ReadError, ReplaceError, StorageError};
use crate::log::files::partition_files::SegmentId;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::replacement::Replacement;
use crate::log::{PartitionLog, Rewritten};
use crate::model::batch::{BatchFields, BatchView, Records};
use crate::model::{Codec, Offset, PartitionId};
use crate::rt::{Runtime, TaskClass};
use crate::sim::{Rng, Sim, SimRuntime};

use super::caught;
use super::directed::{ALWAYS, SOON, Scene, append, uncut};
use super::life::{self, Node};
use super::truth::{Rewrite, Stored};
use super::work::create_named;

/// Longest plain records of a batch here.
const RECORDS_BYTES: usize = 1 << 20;

/// Rewrites some of a partition's sealed segments, beside whatever else happens to it.
pub fn begin(node: &Rc<Node>, log: &PartitionLog<SimRuntime>, rng: &mut Rng) {
    let sealed = log.sealed_segments();
    if sealed.is_empty() {
        return;
    }
    let first = rng.index(sealed.len());
    let count = 1 + rng.index((sealed.len() - first).min(4));
    let inputs = sealed[first..first + count].to_vec();
    let (node, log, rng) = (node.clone(), log.clone(), rng.fork());
    let rt = node.runtimes[0].clone();
    rt.spawn(TaskClass::Background, async move {
        let id = log.id();
        let ended = rewrite(&node, &log, &inputs, rng).await;
        node.truth.borrow_mut().note(id, ended);
    });
}

/// Rewrites these segments, unless another rewrite of the partition is under way.
pub async fn rewrite(
    node: &Rc<Node>,
    log: &PartitionLog<SimRuntime>,
    inputs: &[SegmentFacts],
    mut rng: Rng,
) -> Result<(), String> {
    let id = log.id();
    let ids: Vec<SegmentId> = inputs.iter().map(SegmentFacts::id).collect();
    if !expect_rewrite(node, id, inputs) {
        return Ok(());
    }
    let keeps_one_in = [1, 2, 20][rng.index(3)];
    let mut wrong = None;
    let become_what = |batch: &BatchView<'_>| {
        let becomes = rewritten(batch, keeps_one_in, &mut rng);
        let mut truth = node.truth.borrow_mut();
        if let Some(known) = truth.partitions.get_mut(&id)
            && let Err(what) = known.rewrites(batch.bytes(), &becomes)
        {
            wrong.get_or_insert(what);
        }
        becomes
    };
    let ended = log.replace_segments(&ids, become_what).await;
    let mut truth = node.truth.borrow_mut();
    let Some(known) = truth.partitions.get_mut(&id) else {
        return Ok(());
    };
    if let Some(what) = wrong {
        return Err(what);
    }
    match &ended {
        Ok(_) => known.settle(true),
        // Whether it has swapped is seen at the next start.
        Err(ReplaceError::Unknown(_)) => {}
        Err(
            ReplaceError::NotThere
            | ReplaceError::Storage(_)
            | ReplaceError::Read(ReadError::OutOfRange | ReadError::Storage(_)),
        ) if !is_corrupt(&ended) => known.settle(false),
        Err(error) => return Err(format!("rewrite: {error}")),
    }
    Ok(())
}

fn is_corrupt(ended: &Result<Replacement, ReplaceError>) -> bool {
    let Err(ReplaceError::Read(ReadError::Storage(error))) = ended else {
        return false;
    };
    matches!(error, StorageError::Corrupt(_))
}

/// Notes that a rewrite begins; false while there is another.
fn expect_rewrite(node: &Node, id: PartitionId, inputs: &[SegmentFacts]) -> bool {
    let mut truth = node.truth.borrow_mut();
    let (Some(known), Some(first), Some(last)) =
        (truth.partitions.get_mut(&id), inputs.first(), inputs.last())
    else {
        return false;
    };
    if known.rewrite.is_some() {
        return false;
    }
    let highest = inputs.iter().map(|facts| facts.generation).max();
    known.rewrite = Some(Rewrite {
        range: first.base_offset..last.end_offset,
        generation: highest.unwrap_or_default() + 1,
        stored: BTreeMap::new(),
    });
    true
}

/// What becomes of a batch: gone, as it is, compressed, or with fewer records, under the offsets that it
/// had.
fn rewritten(batch: &BatchView<'_>, keeps_one_in: u64, rng: &mut Rng) -> Rewritten {
    if !rng.one_in(keeps_one_in) {
        return Rewritten::Dropped;
    }
    match rng.index(3) {
        0 => Rewritten::Same,
        1 => with_records(batch, |_| true, Codec::Lz4),
        _ => with_records(batch, |_| rng.coin(), Codec::None),
    }
}

fn with_records(
    batch: &BatchView<'_>,
    mut keeps: impl FnMut(usize) -> bool,
    compression: Codec,
) -> Rewritten {
    let plain = plain_records(batch);
    let (mut kept, mut count, mut max_timestamp_ms) = (Vec::new(), 0, -1);
    let mut rest = plain.as_slice();
    let records = Records::new(&plain, batch.record_count());
    for (number, record) in records.flatten().enumerate() {
        let (raw, behind) = rest.split_at(record_bytes(rest).min(rest.len()));
        rest = behind;
        if keeps(number) {
            kept.extend_from_slice(raw);
            count += 1;
            max_timestamp_ms = max_timestamp_ms.max(batch.timestamp_ms_of(&record));
        }
    }
    if count == 0 {
        return Rewritten::Dropped;
    }
    let fields = BatchFields {
        compression,
        record_count: count,
        max_timestamp_ms,
        ..BatchFields::of(batch)
    };
    let mut out = Vec::new();
    BatchFields::reserve(&mut out);
    let compressed = Codecs::new().compress(Level::default_of(compression), &kept, &mut out);
    match compressed.is_ok() && fields.seal(&mut out).is_ok() {
        true => Rewritten::As(out),
        false => Rewritten::Same,
    }
}

/// A batch's records, decompressed.
pub fn plain_records(batch: &BatchView<'_>) -> Vec<u8> {
    let mut plain = Vec::new();
    let (codec, records) = (batch.compression(), batch.records());
    let _ = Codecs::new().decompress(codec, records, &mut plain, RECORDS_BYTES);
    plain
}

/// The length of the first record, with the varint that says how long the rest of it is.
fn record_bytes(records: &[u8]) -> usize {
    let (mut value, mut bytes) = (0_usize, 0);
    for byte in records {
        value |= usize::from(byte & 0x7f) << (7 * bytes);
        bytes += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Zigzag, and never negative.
    bytes + value / 2
}

/// A rewrite is cut at every I/O step of it, by a power cut and by a kill: a start finds all of the old
/// segments or all of the new ones, and removes the files of the others.
///
/// # Errors
/// The promise that was broken.
pub fn swap_cut_at_every_step(seed: u64) -> Result<(), String> {
    for loses_power in [true, false] {
        let mut step = 0;
        loop {
            step += 1;
            let cut = caught(|| swap_cut_at(seed, step, loses_power));
            match cut.map_err(|what| format!("step {step}, power lost: {loses_power}: {what}"))? {
                true => {}
                false => break,
            }
        }
        if step < 10 {
            return Err(format!("a swap of {step} steps"));
        }
    }
    Ok(())
}

/// Whether the swap had that many steps.
fn swap_cut_at(seed: u64, step: u64, loses_power: bool) -> Result<bool, String> {
    let scene = sealed_segments(seed)?;
    let mut sim = Sim::new(seed, &scene.disk);
    let rt = sim.runtime(0);
    let (node, log) = uncut(sim.run(start(&scene, &rt)))??;
    let sealed = log.sealed_segments();
    let inputs = sealed.get(1..3).ok_or("nothing is sealed")?;
    sim.cut_at_io(sim.io_count() + step);
    let ended = sim.run(async {
        // Of half of the batches, something stays.
        rewrite(&node, &log, inputs, Rng::new(1)).await?;
        rt.sleep(SOON * 10).await;
        Ok::<(), String>(())
    });
    let is_cut = ended.is_err();
    ended.unwrap_or(Ok(()))?;
    match loses_power {
        true => sim.power_cut(),
        false => sim.process_kill(),
    }
    scene.life(async |node, rng| append(node, scene.partition()?, rng).await)?;
    scene.life(async |_, _| Ok(()))?;
    Ok(is_cut)
}

/// The base offset of a batch is damaged, so that the segment, which is dense, has a gap before it: that
/// is noticed.
///
/// # Errors
/// What was served instead.
pub fn gap_in_a_dense_segment(seed: u64) -> Result<(), String> {
    caught(|| {
        let scene = sealed_segments(seed)?;
        let path = "/data/t-0/00000000000000000000.log";
        let bytes = scene.disk.read_file(path).ok_or("no segment")?;
        let first = BatchView::first(&bytes).map_err(|error| error.to_string())?;
        let at = first.bytes().len() as u64;
        let second = BatchView::first(&bytes[at as usize..]).map_err(|error| error.to_string())?;
        let wrong = second.base_offset().plus(1).0.to_be_bytes();
        let edited = scene.disk.edit(path, at, &wrong);
        edited.map_err(|error| error.to_string())?;
        let mut sim = Sim::new(seed, &scene.disk);
        let rt = sim.runtime(0);
        match uncut(sim.run(start(&scene, &rt)))? {
            Err(what) if what.contains("record batch has base offset") => Ok(()),
            Err(what) => Err(what),
            Ok(_) => Err("nobody has noticed".into()),
        }
    })
}

/// A start that reads everything.
async fn start(
    scene: &Scene,
    rt: &SimRuntime,
) -> Result<(Rc<Node>, PartitionLog<SimRuntime>), String> {
    let recovered = life::recover_all(&scene.disk, rt, &scene.plan, &scene.truth).await?;
    let runtimes = vec![rt.clone()];
    let node = life::open(runtimes, recovered, &scene.plan, scene.truth.clone()).await?;
    let log = node.partition(scene.partition()?).ok_or("no partition")?;
    Ok((node, log))
}

/// A life that leaves several sealed segments of several batches each.
fn sealed_segments(seed: u64) -> Result<Scene, String> {
    let mut scene = Scene::new(seed, ALWAYS);
    scene.plan.config.segment_bytes = 4_000;
    scene.plan.config.retention_bytes = -1;
    scene.life(async |node, rng| {
        let id = create_named(node, "t", rng).await?;
        for number in 0..60 {
            append(node, id, rng).await?;
            if number % 10 == 9 {
                node.runtimes[0].sleep(SOON).await;
            }
        }
        let checkpoint = node.shards[0].checkpoint().await;
        checkpoint.map_err(|error| error.to_string())
    })?;
    Ok(scene)
}

/// The records of a batch as it is stored: timestamps and offsets.
pub fn records_of(stored: &Stored) -> Vec<(i64, Offset)> {
    let Some(bytes) = stored else {
        return Vec::new();
    };
    let Ok(view) = BatchView::first(bytes) else {
        return Vec::new();
    };
    let plain = plain_records(&view);
    let records = Records::new(&plain, view.record_count()).flatten();
    records
        .map(|record| (view.timestamp_ms_of(&record), view.offset_of(&record)))
        .collect()
}
