//! Bringing a data directory back to a state in which every acknowledged byte is in a segment.
//!
//! Segments are written, journals never. Two passes over the journals of the committed run: first
//! the final marks, then the data. New checkpoints go beside the committed run's newest, and the
//! file `run` commits everything in the end. Interrupted anywhere before, recovery starts again to
//! the same result.
//!
//! | file | what |
//! |---|---|
//! | `error` | why a node cannot start |
//! | `load` | the checkpoints to begin from |
//! | `place` | directories of partitions |
//! | `part` | a partition on its way: its checkpoint, the journal's bytes on top |
//! | `overlay` | where an entry goes, pure |
//! | `plan`, `verify` | which bytes are walked, and the walk |
//! | `finish` | what holds stays, other files go |
//! | `journals` | the journals of the run that begins |

mod error;
mod finish;
mod journals;
mod load;
mod overlay;
mod part;
mod place;
mod plan;
mod strangers;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::partition_dirs::{take_off_name, topic_of};
use crate::log::files::partition_files::{PartitionDir, is_shard_dir, partition_dir};
use crate::log::files::run::{RUN_FILE, Run, RunFile, RunId};
use crate::log::journal::{JournalScan, LostWrites, Scanned, ScannedEntry};
use crate::log::options::{KnownPartition, RecoveryOptions, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::producers::ProducerStates;
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::{Boundary, Position};
use crate::model::{Offset, PartitionId, ShardIndex};
use crate::rt::Runtime;
pub use error::RecoveryError;
use journals::{journal_dir, keep_journals, kept_name, make_journal};
use load::{Journaled, load_checkpoint, take_namesake};
use part::Part;
use place::{check_files, place};
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
    /// First offset that may be read.
    pub log_start: Offset,
    /// The log end, and where it is.
    pub end: Boundary,
    /// Everything below is in segment files: the end, unless the partition is offline.
    pub(super) segment_durable: Boundary,
    /// First byte that is not in a segment file.
    pub(super) moved: Position,
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
    /// It is offline for what its files lack: the next start looks again.
    pub(super) looks_again: bool,
    /// The active segment's index, of what was walked of it.
    pub(super) index: SegmentIndex,
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
    let recovered = recovery.finish(committed).await?;
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
    journals: Vec<Journaled>,
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
        let mut journals = Vec::new();
        for shard in (0..committed.map_or(0, |run| run.shards)).map(ShardIndex) {
            let run = committed.map(|run| run.id).unwrap_or_default();
            let (journal, partitions) = load_checkpoint(rt, data_dir, shard, run).await?;
            journals.push(journal);
            contents.extend(partitions.into_iter().map(|p| (p.id, p)));
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
            journals,
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
                take_off_name(&self.rt, &self.data_dir, topic, index, owner).await?;
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
        for journal in self.journals.clone() {
            let mut scan = self.scan(&journal).await?;
            while let Some(found) = scan.next().await? {
                self.take_marks(found);
            }
            let outcome = scan.outcome();
            self.clean &= outcome.clean;
            self.report.journal_bytes_replayed += outcome.bytes;
        }
        // Which segments may be gone hangs on where the logs start.
        stream::iter(self.parts.values_mut().map(check_files))
            .buffer_unordered(PARTS_AT_A_TIME)
            .try_collect::<()>()
            .await?;
        for journal in self.journals.clone() {
            let mut scan = self.scan(&journal).await?;
            while let Some(found) = scan.next().await? {
                self.take_data(&journal, found).await?;
            }
        }
        Ok(())
    }

    async fn scan(&self, journal: &Journaled) -> Result<JournalScan<R>, RecoveryError> {
        let (shard, start) = (journal.shard, journal.start);
        let dir = journal_dir(&self.rt, &self.data_dir, shard, start.run).await?;
        Ok(JournalScan::open(&self.rt, &dir, self.options.node, shard, start).await?)
    }

    fn take_marks(&mut self, found: Scanned) {
        let write = match found {
            Scanned::Write(write) => write,
            Scanned::Lost(lost) => {
                for (id, log_start) in lost.kept.into_iter().flat_map(|kept| kept.log_starts) {
                    self.raise_log_start(id, log_start);
                }
                return;
            }
        };
        for entry in write.entries {
            if let ScannedEntry::LogStart {
                partition,
                log_start,
            } = entry
            {
                self.raise_log_start(partition, log_start);
            }
        }
    }

    fn raise_log_start(&mut self, id: PartitionId, log_start: Offset) {
        if let Some(part) = self.parts.get_mut(&id) {
            part.content.log_start = part.content.log_start.max(log_start);
        }
    }

    async fn take_data(
        &mut self,
        journal: &Journaled,
        found: Scanned,
    ) -> Result<(), RecoveryError> {
        let write = match found {
            Scanned::Write(write) => write,
            Scanned::Lost(lost) => {
                self.take_loss(journal, &lost);
                return Ok(());
            }
        };
        for entry in write.entries {
            if let ScannedEntry::Data {
                partition,
                segment_base,
                position,
                payload,
                ..
            } = entry
                && let Some(part) = self.parts.get_mut(&partition)
            {
                let at = Position::new(segment_base, position);
                part.replay(at, &payload).await?;
            }
        }
        self.flush_when_much().await
    }

    /// Rot: what was flushed cannot be read. Partitions that nothing continues go offline.
    fn take_loss(&mut self, journal: &Journaled, lost: &LostWrites) {
        let (first, last) = (lost.first.0, lost.end.0.saturating_sub(1));
        let shard = journal.shard;
        let reason = match &journal.damaged {
            Some(path) if lost.first == journal.start.sequence => format!(
                "{} is damaged, and the journal of shard {shard} no longer reaches back to the \
                 checkpoint before it: writes {first} to {last} are gone",
                path.display()
            ),
            _ => format!("journal writes {first} to {last} of shard {shard} are damaged"),
        };
        let undone = match lost.kept {
            Some(_) => "",
            None => ": DeleteRecords that was answered since the last checkpoint may be undone",
        };
        self.report.warnings.push(format!("{reason}{undone}"));
        let concerned: Vec<PartitionId> = match &lost.kept {
            Some(kept) => kept.partitions.clone(),
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

    async fn finish(
        &mut self,
        committed: Option<Run>,
    ) -> Result<Vec<RecoveredPartition>, RecoveryError> {
        self.parts.retain(|_, part| {
            if part.is_unmade {
                let text = "no disk space to make it; it is made when there is";
                let warning = format!("{}: {text}", part.dir.display());
                self.report.warnings.push(warning);
            }
            !part.is_unmade
        });
        let kept = committed.map_or(String::new(), |run| kept_name(run.id));
        let parts = self.parts.values_mut();
        let finishing = parts.map(|part| finish::finish(part, &kept));
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
        if let Some(run) = committed
            && self.parts.values().any(|part| part.needs_journal)
        {
            keep_journals(&self.rt, &self.data_dir, run).await?;
            let text = "what could not be recovered is in shard-*/";
            let warning = format!("{text}{kept}: remove them when nobody needs it any more");
            self.report.warnings.push(warning);
        }
        Ok(recovered)
    }

    /// New checkpoints, of a run that is not committed yet, beside the newest of the one that is; and
    /// the files of its journals.
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
            make_journal(&self.rt, &self.data_dir, shard, &self.options.journal()).await?;
        }
        Ok(())
    }
}
