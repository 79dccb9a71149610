//! Bringing a data directory back to a state in which every acknowledged byte is in a segment.
//!
//! Segments are written, journals never. Two passes over the journals of the committed run: first
//! the final marks, then the data. New checkpoints go beside the committed run's newest, and the
//! file `run` commits everything in the end. Interrupted anywhere before, recovery starts again to
//! the same result.
//!
//! | file | what |
//! |---|---|
//! | `load` | the checkpoints to begin from |
//! | `part` | a partition on its way: its checkpoint, the journal's bytes on top |
//! | `overlay` | where an entry goes, pure |
//! | `plan`, `verify` | which bytes are walked, and the walk |
//! | `finish` | what holds stays, other files go |

mod error;
mod finish;
mod load;
mod overlay;
mod part;
mod plan;
mod strangers;
mod verify;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::checkpoint::CheckpointSlots;
use crate::log::checkpoint::content::Content;
use crate::log::epochs::EpochCache;
use crate::log::error::StorageError;
use crate::log::index::SegmentIndex;
use crate::log::journal::{JournalScan, JournalStart, LostWrites, Scanned, ScannedEntry};
use crate::log::marks::{Boundary, Position};
use crate::log::options::{JOURNAL_DIR, KnownPartition, RecoveryOptions, shard_dir};
use crate::log::partition_dirs::{make_dir, put_aside_stranger, rename_durably, topic_of};
use crate::log::partition_files::{
    PartitionDir, SegmentFile, deleted_dir, is_shard_dir, partition_dir, segment_path,
};
use crate::log::producers::ProducerStates;
use crate::log::rules::{Rule, holds};
use crate::log::run::{RUN_FILE, Run, RunFile, RunId};
use crate::log::segment::SegmentFacts;
use crate::model::{LeaderEpoch, Offset, PartitionId, RESERVED_TOPIC_NAME, ShardIndex};
use crate::rt::{Create, File, OpenMode, Runtime};
pub use error::RecoveryError;
use load::{load_checkpoint, take_namesake};
use part::Part;
pub use strangers::refuse_strangers;

/// Partitions whose files are worked on at the same time: each is a few small operations, one after
/// the other.
const PARTS_AT_A_TIME: usize = 16;

/// What recovery found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Bytes of journal that were replayed.
    pub journal_bytes_replayed: u64,
    /// Partitions that are usable.
    pub partitions: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// Partitions that are not, and why.
    pub offline: Vec<(PartitionId, String)>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A data directory that is ready for its shards to open.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The run that was committed.
    pub run: RunId,
    /// The last run was stopped cleanly (or there was none). Otherwise leader epochs must be raised.
    pub clean: bool,
    /// Each shard's partitions.
    pub shards: Vec<Vec<RecoveredPartition>>,
    /// What happened.
    pub report: RecoveryReport,
}

/// One partition, ready to be opened: plain data, so that it may go to its shard's thread.
#[derive(Clone, Debug)]
pub struct RecoveredPartition {
    /// Its key.
    pub id: PartitionId,
    /// Its topic's name.
    pub topic: String,
    /// The highest leader epoch seen; −1 when none was.
    pub leader_epoch: LeaderEpoch,
    /// First offset that may be read.
    pub log_start: Offset,
    /// The log end, and where it is.
    pub end: Boundary,
    /// Segments that are complete, oldest first.
    pub sealed: Vec<SegmentFacts>,
    /// The segment that is appended to.
    pub active: SegmentFacts,
    /// Where leader epochs begin.
    pub epochs: EpochCache,
    /// Its idempotent producers.
    pub producers: ProducerStates,
    /// Why it cannot be used, if so.
    pub offline: Option<String>,
    /// The active segment's index.
    pub(super) index: SegmentIndex,
    /// How many of its entries the files have.
    pub(super) indexed: (usize, usize),
}

/// Recovers the whole data directory before any shard opens: replays the journals of the committed
/// run, makes the segments durable, writes new checkpoints, and commits a new run. `partitions` is
/// what the cluster metadata knows; directories of anything else are put aside.
pub async fn recover<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    options: RecoveryOptions,
    partitions: &[KnownPartition],
) -> Result<Recovered, RecoveryError> {
    let began = rt.now();
    let mut run_file = RunFile::open(rt, data_dir).await?;
    let committed = run_file.committed();
    if committed.is_none() && !partitions.is_empty() {
        let path = data_dir.join(RUN_FILE);
        return Err(RecoveryError::NoRun { path });
    }
    let mut recovery = Recovery::load(rt, data_dir, options, committed, partitions).await?;
    recovery.put_aside_strangers(partitions).await?;
    recovery.replay().await?;
    let recovered = recovery.finish().await?;
    let run = committed.map_or_else(|| RunId::default().next(rt), |run| run.id.next(rt));
    let next = Run {
        id: run,
        shards: recovery.options.shards,
    };
    if !holds(Rule::RecoveryCommitsRunLast) {
        run_file.commit(next).await?;
    }
    recovery
        .write_checkpoints(committed, run, partitions)
        .await?;
    if holds(Rule::RecoveryCommitsRunLast) {
        run_file.commit(next).await?;
    }
    let owners: BTreeMap<_, _> = partitions
        .iter()
        .map(|known| (known.id, known.shard))
        .collect();
    let mut shards = vec![Vec::new(); usize::from(recovery.options.shards)];
    for partition in recovered {
        let owner = owners.get(&partition.id).map(|shard| usize::from(shard.0));
        if let Some(shard) = owner.and_then(|owner| shards.get_mut(owner)) {
            shard.push(partition);
        }
    }
    recovery.report.elapsed = rt.now() - began;
    Ok(Recovered {
        run,
        clean: recovery.clean,
        shards,
        report: recovery.report,
    })
}

struct Recovery<R: Runtime> {
    rt: R,
    data_dir: PathBuf,
    options: RecoveryOptions,
    /// Where each journal of the committed run begins.
    starts: Vec<(ShardIndex, JournalStart)>,
    parts: BTreeMap<PartitionId, Part<R>>,
    clean: bool,
    report: RecoveryReport,
}

impl<R: Runtime> Recovery<R> {
    async fn load(
        rt: &R,
        data_dir: &Path,
        options: RecoveryOptions,
        committed: Option<Run>,
        partitions: &[KnownPartition],
    ) -> Result<Self, RecoveryError> {
        let mut contents = BTreeMap::new();
        let mut starts = Vec::new();
        for shard in (0..committed.map_or(0, |run| run.shards)).map(ShardIndex) {
            let run = committed.map(|run| run.id).unwrap_or_default();
            let content = load_checkpoint(rt, &shard_dir(data_dir, shard), run).await?;
            starts.push((shard, content.journal_start));
            contents.extend(content.partitions.into_iter().map(|p| (p.id, p)));
        }
        let part = |known: &KnownPartition| {
            let content = match holds(Rule::TopicIdCheck) {
                true => contents.remove(&known.id),
                false => take_namesake(&mut contents, known),
            };
            (known.id, Part::new(rt, data_dir, known, content))
        };
        Ok(Self {
            parts: partitions.iter().map(part).collect(),
            rt: rt.clone(),
            data_dir: data_dir.to_owned(),
            options,
            starts,
            clean: true,
            report: RecoveryReport::default(),
        })
    }

    /// Renames directories of topics that are no more, and makes those that were never finished.
    async fn put_aside_strangers(&mut self, known: &[KnownPartition]) -> Result<(), RecoveryError> {
        let names: BTreeMap<String, PartitionId> = known
            .iter()
            .map(|known| (partition_dir(&known.topic, known.id.index), known.id))
            .collect();
        for entry in self.rt.read_dir(&self.data_dir).await? {
            let Some(PartitionDir::Live { topic, index }) = PartitionDir::parse(&entry.name) else {
                continue;
            };
            if !entry.is_dir || names.contains_key(&entry.name) || is_shard_dir(&entry.name) {
                continue;
            }
            let dir = self.data_dir.join(&entry.name);
            if let Some(owner) = topic_of(&self.rt, &dir).await? {
                let aside = self.data_dir.join(deleted_dir(topic, index, owner));
                rename_durably(&self.rt, &self.data_dir, &dir, &aside).await?;
            }
        }
        let data_dir = &self.data_dir;
        let places = self.parts.values_mut().map(|part| place(data_dir, part));
        let made: Vec<bool> = stream::iter(places)
            .buffer_unordered(PARTS_AT_A_TIME)
            .try_collect()
            .await?;
        if made.contains(&true) {
            self.rt.sync_dir(&self.data_dir).await?;
        }
        Ok(())
    }

    async fn replay(&mut self) -> Result<(), RecoveryError> {
        for (shard, start) in self.starts.clone() {
            let mut scan = self.scan(shard, start).await?;
            while let Some(found) = scan.next().await? {
                self.take_marks(found);
            }
            let outcome = scan.outcome();
            self.clean &= outcome.clean;
            self.report.journal_bytes_replayed += outcome.bytes;
        }
        for (shard, start) in self.starts.clone() {
            let mut scan = self.scan(shard, start).await?;
            while let Some(found) = scan.next().await? {
                self.take_data(shard, found).await?;
            }
        }
        Ok(())
    }

    async fn scan(
        &self,
        shard: ShardIndex,
        start: JournalStart,
    ) -> Result<JournalScan<R>, RecoveryError> {
        let dir = shard_dir(&self.data_dir, shard).join(JOURNAL_DIR);
        Ok(JournalScan::open(&self.rt, &dir, self.options.node, shard, start).await?)
    }

    fn take_marks(&mut self, found: Scanned) {
        let Scanned::Write(write) = found else {
            return;
        };
        for entry in write.entries {
            if let ScannedEntry::LogStart {
                partition,
                log_start,
            } = entry
                && let Some(part) = self.parts.get_mut(&partition)
            {
                part.content.log_start = part.content.log_start.max(log_start);
            }
        }
    }

    async fn take_data(&mut self, shard: ShardIndex, found: Scanned) -> Result<(), RecoveryError> {
        let write = match found {
            Scanned::Write(write) => write,
            Scanned::Lost(lost) => {
                self.take_loss(shard, &lost);
                return Ok(());
            }
        };
        for entry in write.entries {
            if let ScannedEntry::Data {
                partition,
                leader_epoch,
                segment_base,
                position,
                payload,
            } = entry
                && let Some(part) = self.parts.get_mut(&partition)
            {
                let at = Position::new(segment_base, position);
                part.replay(at, leader_epoch, &payload).await?;
            }
        }
        self.flush_when_much().await
    }

    /// Rot: what was flushed cannot be read. Partitions that nothing continues go offline.
    fn take_loss(&mut self, shard: ShardIndex, lost: &LostWrites) {
        let reason = format!(
            "journal writes {} to {} of shard {shard} are damaged",
            lost.first.0,
            lost.end.0.saturating_sub(1),
        );
        self.report.warnings.push(reason.clone());
        let concerned: Vec<PartitionId> = match &lost.partitions {
            Some(some) => some.clone(),
            None => self.parts.keys().copied().collect(),
        };
        for id in concerned {
            if let Some(part) = self.parts.get_mut(&id) {
                part.suspect = Some(reason.clone());
            }
        }
    }

    async fn flush_when_much(&mut self) -> Result<(), RecoveryError> {
        let waiting: usize = self.parts.values().map(Part::waiting_bytes).sum();
        if waiting > self.options.memory_bytes {
            for part in self.parts.values_mut() {
                part.flush(false).await?;
                // There may be more partitions than files that can be open.
                part.close();
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Vec<RecoveredPartition>, RecoveryError> {
        let finishing = self.parts.values_mut().map(finish::finish);
        let recovered: Vec<RecoveredPartition> = stream::iter(finishing)
            .buffered(PARTS_AT_A_TIME)
            .try_collect()
            .await?;
        for partition in &recovered {
            match &partition.offline {
                Some(reason) => self.report.offline.push((partition.id, reason.clone())),
                None => self.report.partitions += 1,
            }
        }
        Ok(recovered)
    }

    /// New checkpoints, of a run that is not committed yet, beside the newest of the one that is.
    async fn write_checkpoints(
        &mut self,
        committed: Option<Run>,
        run: RunId,
        partitions: &[KnownPartition],
    ) -> Result<(), RecoveryError> {
        for shard in (0..self.options.shards).map(ShardIndex) {
            let dir = shard_dir(&self.data_dir, shard);
            self.rt.create_dir(&dir).await?;
            self.rt.sync_dir(&self.data_dir).await?;
            let owned = partitions.iter().filter(|known| known.shard == shard);
            let contents = owned.filter_map(|known| self.parts.get(&known.id));
            let content = Content {
                journal_start: self.options.journal().first_start(run),
                partitions: contents.map(|part| part.content.clone()).collect(),
            };
            let failed = |error| StorageError::from(error);
            let mut slots = CheckpointSlots::open(&self.rt, &dir)
                .await
                .map_err(failed)?;
            let before = committed.map(|run| run.id);
            slots
                .write_next(before, run, &content.encode())
                .await
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// Gives a partition the directory of its name; tells whether one was made.
async fn place<R: Runtime>(data_dir: &Path, part: &mut Part<R>) -> Result<bool, StorageError> {
    let (rt, id) = (&part.rt, part.content.id);
    if part.content.topic == RESERVED_TOPIC_NAME {
        part.take_offline("a topic of this name would share directories with shards".to_owned());
        return Ok(false);
    }
    put_aside_stranger(rt, data_dir, &part.content.topic, id.index, id.topic).await?;
    if part.is_new {
        make_dir(rt, &part.dir, id.topic).await?;
        create_first_segment(rt, &part.dir).await?;
    } else if topic_of(rt, &part.dir).await?.is_none() {
        part.take_offline(format!("{} is missing", part.dir.display()));
    }
    Ok(part.is_new)
}

async fn create_first_segment<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let mode = OpenMode {
        direct: true,
        create: Create::IfMissing,
    };
    let file = rt
        .open(&segment_path(dir, Offset::ZERO, SegmentFile::Log), mode)
        .await?;
    file.size()?;
    rt.sync_dir(dir).await
}
