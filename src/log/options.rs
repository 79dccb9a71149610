//! What a log is told from outside: the node's settings, a topic's values, which partitions exist.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::log::journal::JournalOptions;
use crate::model::{LeaderEpoch, NodeId, OwnerEpoch, PartitionId, ShardIndex};
use crate::rt::WriteMode;

/// When a batch counts as safe (`corelane.durability`); one for the whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The journal write is durable, in the way of the runtime's durable writes: survives power loss.
    Fsync,
    /// The direct journal write has completed: survives the end of process and kernel.
    Written,
    /// The batch is in the shard's memory, and is written within the flush interval.
    Memory,
}

/// Settings of one shard's log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The one entry of `log.dirs`.
    pub data_dir: PathBuf,
    /// `node.id`.
    pub node: NodeId,
    pub shard: ShardIndex,
    /// `corelane.durability`.
    pub durability: Durability,
    /// `corelane.flush.ms`: how long level `memory` may keep a batch unwritten.
    pub flush_interval: Duration,
    /// `corelane.journal.bytes`: size of the journal.
    pub journal_bytes: u64,
    /// Size of one journal file.
    pub journal_file_bytes: u64,
    /// Journal space that is prepared before the log opens; the rest follows behind.
    pub journal_ready_bytes: u64,
    /// Largest journal write.
    pub journal_write_bytes: usize,
    /// Most journal writes in flight.
    pub journal_writes_in_flight: usize,
    /// A checkpoint is written after so much journal.
    pub checkpoint_bytes: u64,
    /// Memory of the tail.
    pub tail_bytes: usize,
    /// Memory for what is known of idempotent producers.
    pub producer_bytes: usize,
    /// Where its producers' time goes on, in milliseconds: one for the shards of a node.
    pub producers_ms: i64,
    /// Memory for indexes of sealed segments.
    pub index_bytes: usize,
    /// Largest piece of a partition's tail.
    pub chunk_bytes: usize,
    /// Bytes that a partition gathers before they are written back to its segment.
    pub write_back_bytes: u64,
    /// Most write-backs in flight.
    pub write_backs_in_flight: usize,
    /// First step in which a segment's space is reserved; doubles with each.
    pub reserve_bytes: u64,
    /// Last step in which a segment's space is reserved.
    pub reserve_max_bytes: u64,
    /// Most files kept open.
    pub open_files: usize,
    /// More segments than these, or directories than a quarter of them, are made durable with their whole
    /// file system, where that is possible: each takes three syncs.
    pub syncs_by_file: usize,
    /// Most cold reads in flight.
    pub cold_reads: usize,
}

impl LogOptions {
    /// The defaults for a shard.
    pub fn new(data_dir: PathBuf, node: NodeId, shard: ShardIndex) -> Self {
        Self {
            data_dir,
            node,
            shard,
            durability: Durability::Fsync,
            flush_interval: Duration::from_millis(100),
            journal_bytes: 512 << 20,
            journal_file_bytes: 64 << 20,
            journal_ready_bytes: 32 << 20,
            journal_write_bytes: 1 << 20,
            journal_writes_in_flight: 4,
            checkpoint_bytes: 256 << 20,
            tail_bytes: 256 << 20,
            producer_bytes: 16 << 20,
            producers_ms: 0,
            index_bytes: 16 << 20,
            chunk_bytes: 1 << 20,
            write_back_bytes: 512 << 10,
            write_backs_in_flight: 4,
            reserve_bytes: 256 << 10,
            reserve_max_bytes: 64 << 20,
            open_files: 4096,
            syncs_by_file: SYNCS_BY_FILE,
            cold_reads: 4,
        }
    }
}

/// One topic's values that its logs need, under Kafka's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `retention.ms`; −1 keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; −1 sets no bound.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
}

/// Kafka's defaults.
impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: DAY_MS,
        }
    }
}

/// A partition to be created.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    /// Its key.
    pub id: PartitionId,
    /// Its topic's name.
    pub topic: String,
    /// Epoch under which it is led from now on.
    pub leader_epoch: LeaderEpoch,
    /// The owner epoch of the metadata.
    pub owner_epoch: OwnerEpoch,
    /// Its topic's values.
    pub config: Rc<LogConfig>,
}

/// What the cluster metadata says of a partition that a shard opens.
#[derive(Clone, Debug)]
pub struct ToldPartition {
    /// Epoch under which it is led in this run: durable in the metadata, raised after an unclean stop.
    pub leader_epoch: LeaderEpoch,
    /// Its topic's values.
    pub config: Rc<LogConfig>,
}

/// A partition that the cluster metadata knows, before a start.
#[derive(Clone, Debug)]
pub struct KnownPartition {
    /// Its key.
    pub id: PartitionId,
    /// Its topic's name.
    pub topic: String,
    /// The shard that owns it in the run that begins.
    pub shard: ShardIndex,
    /// The shard that owns it by the metadata: what its newest owner has said of it is in the journal of that
    /// one.
    pub former_shard: ShardIndex,
    /// The owner epoch of the metadata.
    pub owner_epoch: OwnerEpoch,
    /// The owner epoch of the run that begins: a greater one if another shard owns it then.
    pub next_owner_epoch: OwnerEpoch,
}

/// Settings of a recovery.
#[derive(Clone, Debug)]
pub struct RecoveryOptions {
    /// `node.id`.
    pub node: NodeId,
    /// Number of shards of the run that begins.
    pub shards: u16,
    /// Size of the journal of each shard, in this run.
    pub journal_bytes: u64,
    /// Size of one journal file.
    pub journal_file_bytes: u64,
    /// Memory of each shard for bytes on their way from journals to segments.
    pub memory_bytes: usize,
    /// Up to so many files and directories are synced each by itself; more by a sync of their file
    /// system, where that can be relied on.
    pub syncs_by_file: usize,
}

/// A start with few files to sync leaves alone what other programs have written to the same disk.
pub const SYNCS_BY_FILE: usize = 256;

impl RecoveryOptions {
    /// What goes with shards that open with these settings.
    pub fn new(options: &LogOptions, shards: u16) -> Self {
        Self {
            node: options.node,
            shards,
            journal_bytes: options.journal_bytes,
            journal_file_bytes: options.journal_file_bytes,
            memory_bytes: 64 << 20,
            syncs_by_file: SYNCS_BY_FILE,
        }
    }

    /// The shape of each shard's journal in the run that begins.
    pub(super) fn journal(&self) -> JournalOptions {
        journal_shape(self.journal_bytes, self.journal_file_bytes, 0)
    }
}

impl LogOptions {
    /// The journal's shape and pace.
    pub(super) fn journal(&self) -> JournalOptions {
        let (write_mode, gather_for) = match self.durability {
            Durability::Fsync => (WriteMode::Durable, None),
            Durability::Written => (WriteMode::Plain, None),
            Durability::Memory => (WriteMode::Plain, Some(self.flush_interval)),
        };
        let shape = journal_shape(
            self.journal_bytes,
            self.journal_file_bytes,
            self.journal_write_bytes,
        );
        JournalOptions {
            max_in_flight: self.journal_writes_in_flight,
            ready_bytes: self.journal_ready_bytes,
            write_mode,
            gather_for,
            ..shape
        }
    }

    /// Where the shard keeps its journal and checkpoints.
    pub(super) fn shard_dir(&self) -> PathBuf {
        shard_dir(&self.data_dir, self.shard)
    }
}

/// Recovery must come to the same files as the shard that opens: writes are at most a quarter of
/// one, so that they never decide about its length.
fn journal_shape(bytes: u64, file_bytes: u64, max_write_bytes: usize) -> JournalOptions {
    let file_bytes = file_bytes.max(1);
    let max_write_bytes = max_write_bytes.min((file_bytes / 4) as usize);
    JournalOptions {
        file_bytes,
        file_count: u32::try_from(bytes.div_ceil(file_bytes)).unwrap_or(u32::MAX),
        max_write_bytes,
        ..JournalOptions::default()
    }
}

/// A shard's own directory within the data directory.
pub(super) fn shard_dir(data_dir: &Path, shard: ShardIndex) -> PathBuf {
    data_dir.join(format!("shard-{shard}"))
}

/// A shard's journal directory within its own.
pub(super) const JOURNAL_DIR: &str = "journal";
