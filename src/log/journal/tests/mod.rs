//! The journal on a simulated disk.

mod basics;
mod power;
mod room;
mod rot;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use std::vec::Drain;

use super::*;
use crate::log::files::run::RunId;
use crate::model::{
    LeaderEpoch, NodeId, Offset, OwnerEpoch, PartitionId, PartitionIndex, ShardIndex, TopicId,
};
use crate::rt::BLOCK_BYTES;
use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime};

const DIR: &str = "/journal";
const NODE: NodeId = NodeId(7);
const SHARD: ShardIndex = ShardIndex(1);

fn run_id(number: u64) -> RunId {
    RunId {
        number,
        id: u128::from(number) * 77,
    }
}

fn identity(number: u64) -> JournalIdentity {
    JournalIdentity {
        node: NODE,
        shard: SHARD,
        run: run_id(number),
    }
}

/// A ring of three small files.
fn small() -> JournalOptions {
    JournalOptions {
        file_bytes: 32 * BLOCK_BYTES as u64,
        file_count: 3,
        max_write_bytes: 8 * BLOCK_BYTES,
        max_in_flight: 4,
        close_after: Duration::from_millis(2),
        ready_bytes: 0,
        ..JournalOptions::default()
    }
}

fn log_start(number: u64, offset: i64) -> PartitionEvent {
    PartitionEvent {
        number,
        change: EventChange::LogStart(Offset(offset)),
    }
}

fn replaced(number: u64, bytes: usize) -> PartitionEvent {
    let bytes: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    PartitionEvent {
        number,
        change: EventChange::SegmentsReplaced(bytes.into()),
    }
}

fn partition(index: i32) -> PartitionId {
    PartitionId {
        topic: TopicId(uuid::Uuid::from_u128(5)),
        index: PartitionIndex(index),
    }
}

/// What a partition has in a range of positions, in each run something else.
fn content(run: u64, index: i32, positions: std::ops::Range<u64>) -> Vec<u8> {
    let words = positions.start / 8..positions.end.div_ceil(8);
    let word = |number: u64| {
        let salt = run << 40 | (index as u64) << 32;
        let mixed = (number ^ salt)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .to_le_bytes()
    };
    let bytes: Vec<u8> = words.flat_map(word).collect();
    let from = (positions.start % 8) as usize;
    bytes[from..from + (positions.end - positions.start) as usize].to_vec()
}

/// Bytes of a partition, cut from a buffer whose blocks are those of the segment, as they are in
/// a partition's tail.
fn payload(rt: &SimRuntime, run: u64, index: i32, position: u64, len: usize) -> Pieces {
    let into_block = position as usize % BLOCK_BYTES;
    let mut buf = rt.arena().alloc(into_block + len).unwrap();
    buf.extend_zeroed(into_block);
    buf.extend_from_slice(&content(run, index, position..position + len as u64));
    let whole = buf.slice(into_block..into_block + len);
    // In two pieces where a block boundary allows, as where one chunk ends.
    let cut = (BLOCK_BYTES - into_block) % BLOCK_BYTES;
    if cut == 0 || cut >= len {
        return Pieces::from_iter([whole]);
    }
    Pieces::from_iter([whole.slice(0..cut), whole.slice(cut..len)])
}

fn data<T>(rt: &SimRuntime, run: u64, index: i32, position: u64, len: usize, token: T) -> Entry<T> {
    Entry::Data {
        partition: partition(index),
        owner_epoch: OwnerEpoch(6),
        leader_epoch: LeaderEpoch(3),
        segment_base: Offset(0),
        position,
        payload: payload(rt, run, index, position, len),
        token,
    }
}

/// Everything a scan from `start` gives.
struct Found {
    writes: Vec<ScannedWrite>,
    lost: Vec<LostWrites>,
    end: ScanEnd,
}

async fn scan(rt: &SimRuntime, start: JournalStart) -> Result<Found, ScanError> {
    let mut scan = JournalScan::open(rt, Path::new(DIR), NODE, SHARD, start).await?;
    let (mut writes, mut lost) = (Vec::new(), Vec::new());
    while let Some(scanned) = scan.next().await? {
        match scanned {
            Scanned::Write(write) => writes.push(write),
            Scanned::Lost(range) => lost.push(range),
        }
    }
    let end = scan.outcome();
    Ok(Found { writes, lost, end })
}

impl Found {
    fn entries(&self) -> impl Iterator<Item = &ScannedEntry> {
        self.writes.iter().flat_map(|write| &write.entries)
    }

    fn entry_count(&self) -> usize {
        self.entries().count()
    }
}

async fn create<T: 'static>(
    rt: &SimRuntime,
    run: u64,
    options: JournalOptions,
    on_completed: impl Fn(Sequence, Drain<'_, T>) + 'static,
) -> Journal<SimRuntime, T> {
    Journal::create(
        rt.clone(),
        Path::new(DIR),
        identity(run),
        options,
        on_completed,
    )
    .await
    .unwrap()
}

type Tokens<T> = Rc<RefCell<Vec<T>>>;

/// Tokens in the order in which they came back.
fn collect<T: 'static>() -> (Tokens<T>, impl Fn(Sequence, Drain<'_, T>) + 'static) {
    let tokens = Rc::new(RefCell::new(Vec::new()));
    let to = tokens.clone();
    let take = move |_, durable: Drain<'_, T>| to.borrow_mut().extend(durable);
    (tokens, take)
}
