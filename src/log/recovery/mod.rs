//! Bringing a data directory back to a state in which every acknowledged byte is in a segment.
//!
//! Segments are written, journals never. One ordered pass over the journals of the committed run lays
//! data over segments and applies events. New checkpoints go beside the committed run's newest, and the
//! file `run` commits everything in the end. Interrupted anywhere before, recovery starts again to
//! the same result.
//!
//! | file | what |
//! |---|---|
//! | `error` | why a node cannot start |
//! | `load` | the checkpoints to begin from |
//! | `place` | directories of partitions |
//! | `partition` | a partition on its way: its checkpoint, the journal's bytes on top |
//! | `overlay` | where an entry goes, pure |
//! | `ownership` | whose checkpoint and whose entries count, pure |
//! | `plan`, `verify` | which bytes are walked, and the walk |
//! | `finish` | what holds stays, other files go |
//! | `barrier` | the flush before anything tells of it |
//! | `unknown_dirs` | directories that no topic accounts for |
//! | `journals` | the journals of the run that begins |

mod barrier;
mod error;
mod finish;
mod journals;
mod load;
mod overlay;
mod ownership;
mod partition;
mod place;
mod plan;
mod unknown_dirs;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::partition_dirs::{take_off_name, topic_of};
use crate::log::files::partition_files::{PartitionDir, is_shard_dir, partition_dir};
use crate::log::files::run::{RUN_FILE, Run, RunFile, RunId};
use crate::log::journal::{JournalScan, LostWrites, PartitionEvent, Scanned, ScannedEntry};
use crate::log::options::{KnownPartition, RecoveryOptions, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::effects::Restored;
use crate::log::partition::snapshot::Snapshot;
use crate::log::rules::{Rule, holds};
use crate::log::segment::position::Position;
use crate::model::{OwnerEpoch, PartitionId, ShardIndex};
use crate::rt::Runtime;
use barrier::make_durable;
pub use error::RecoveryError;
use journals::{journal_dir, keep_journals, kept_name, make_journal};
pub use load::LastTimes;
use load::{CommittedJournal, load_checkpoint, take_namesake};
use ownership::keep_newest;
use partition::{PARTITIONS_AT_A_TIME, RecoveringPartition};
use place::{judge_files, look_at_files, place};
pub use unknown_dirs::{put_aside_unmarked, refuse_unknown_dirs};

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
    /// What is on the disk says so of the time.
    pub last_times: LastTimes,
    /// Each shard's partitions.
    pub shards: Vec<Vec<RecoveredPartition>>,
    /// What happened.
    pub report: RecoveryReport,
}

/// One partition, ready to be opened: plain data, so that it may go to its shard's thread.
#[derive(Clone, Debug)]
pub struct RecoveredPartition {
    pub(super) log: Restored,
    /// What its files lack: it is offline for this run, and the next start looks again.
    pub(super) lacks: Option<String>,
    /// It has a directory, durably. Nothing was appended yet to one that has none.
    pub(super) has_dir: bool,
    /// Its directory may be a link to another file system.
    pub(super) is_elsewhere: bool,
}

impl RecoveredPartition {
    /// Its key.
    pub fn id(&self) -> PartitionId {
        self.log.snapshot.id()
    }

    /// Where it stands: everything up to its end is in segment files, unless it is offline.
    pub fn snapshot(&self) -> &Snapshot {
        &self.log.snapshot
    }

    /// Why it cannot be used, if so.
    pub fn offline(&self) -> Option<&str> {
        self.log.snapshot.offline().or(self.lacks.as_deref())
    }
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
    recovery.put_aside_unknown_dirs(partitions).await?;
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
    recovery.remove_replaced().await?;
    let owners: BTreeMap<_, _> = partitions
        .iter()
        .map(|known| (known.id, known.shard))
        .collect();
    let mut shards = vec![Vec::new(); usize::from(recovery.options.shards)];
    for partition in recovered {
        let owner = owners
            .get(&partition.id())
            .map(|shard| usize::from(shard.0));
        if let Some(shard) = owner.and_then(|owner| shards.get_mut(owner)) {
            shard.push(partition);
        }
    }
    recovery.report.elapsed = rt.now() - began;
    Ok(Recovered {
        run,
        clean: recovery.clean,
        last_times: recovery.last_times,
        shards,
        report: recovery.report,
    })
}

/// Which pass over the journals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    /// For partitions that lack files.
    Later,
}

struct Recovery<R: Runtime> {
    rt: R,
    data_dir: PathBuf,
    options: RecoveryOptions,
    /// Where each journal of the committed run begins.
    journals: Vec<CommittedJournal>,
    partitions: BTreeMap<PartitionId, RecoveringPartition<R>>,
    /// Bytes of the journal since all partitions were flushed: no more of them wait.
    taken_bytes: usize,
    clean: bool,
    last_times: LastTimes,
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
            for content in partitions {
                keep_newest(&mut contents, content);
            }
        }
        let (mut last_times, wall_clock_ms) = (LastTimes::default(), rt.wall_clock_ms());
        for content in contents.values() {
            last_times.checkpointed(content, wall_clock_ms);
        }
        let recovering = |known: &KnownPartition| {
            let content = match holds(Rule::TopicIdCheck) {
                true => contents.remove(&known.id),
                false => take_namesake(&mut contents, known),
            };
            let partition =
                RecoveringPartition::new(rt, data_dir, known, content, last_times.producers_ms);
            (known.id, partition)
        };
        Ok(Self {
            partitions: partitions.iter().map(recovering).collect(),
            rt: rt.clone(),
            data_dir: data_dir.to_owned(),
            options,
            journals,
            taken_bytes: 0,
            clean: true,
            last_times,
            report: RecoveryReport::default(),
        })
    }

    /// Renames directories of topics that are no more, and looks at those of the others.
    async fn put_aside_unknown_dirs(
        &mut self,
        known: &[KnownPartition],
    ) -> Result<(), RecoveryError> {
        let names: BTreeMap<String, PartitionId> = known
            .iter()
            .map(|known| (partition_dir(&known.topic, known.id.index), known.id))
            .collect();
        let entries = self.rt.read_dir(&self.data_dir).await?;
        for entry in &entries {
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
        let listed: BTreeSet<PartitionId> = entries
            .iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| names.get(&entry.name).copied())
            .collect();
        let data_dir = &self.data_dir;
        let places = self
            .partitions
            .iter_mut()
            .map(|(id, partition)| place(data_dir, partition, listed.contains(id)));
        let placed = stream::iter(places).buffer_unordered(PARTITIONS_AT_A_TIME);
        placed.try_collect::<()>().await
    }

    /// One pass over the journals, in their order. Which segments may be gone hangs on where the logs
    /// start in the end, so files are judged behind it; what the journal has of partitions that lack
    /// some is laid over the rest only then, in a pass for them alone.
    async fn replay(&mut self) -> Result<(), RecoveryError> {
        let partitions = self.partitions.values_mut();
        stream::iter(partitions.map(look_at_files))
            .buffer_unordered(PARTITIONS_AT_A_TIME)
            .try_collect::<()>()
            .await?;
        for journal in self.journals.clone() {
            let mut scan = self.scan(&journal).await?;
            while let Some(found) = scan.next().await? {
                self.take(&journal, found, Pass::First).await?;
            }
            let outcome = scan.outcome();
            self.clean &= outcome.clean;
            self.report.journal_bytes_replayed += outcome.bytes;
        }
        let mut any_later = false;
        for partition in self.partitions.values_mut() {
            judge_files(partition).await?;
            any_later |= partition.is_later;
        }
        for journal in self.journals.clone() {
            if !any_later {
                break;
            }
            let mut scan = self.scan(&journal).await?;
            while let Some(found) = scan.next().await? {
                self.take(&journal, found, Pass::Later).await?;
            }
        }
        Ok(())
    }

    async fn scan(&self, journal: &CommittedJournal) -> Result<JournalScan<R>, RecoveryError> {
        let (shard, start) = (journal.shard, journal.start);
        let dir = journal_dir(&self.rt, &self.data_dir, shard, start.run).await?;
        Ok(JournalScan::open(&self.rt, &dir, self.options.node, shard, start).await?)
    }

    async fn take(
        &mut self,
        journal: &CommittedJournal,
        found: Scanned,
        pass: Pass,
    ) -> Result<(), RecoveryError> {
        let write = match found {
            Scanned::Write(write) => write,
            Scanned::Lost(lost) => {
                self.take_loss(journal, &lost, pass);
                return Ok(());
            }
        };
        for entry in write.entries {
            if !self.is_of_owner(entry.owner()) {
                continue;
            }
            match entry {
                ScannedEntry::Event {
                    partition, event, ..
                } => self.take_event(partition, &event),
                ScannedEntry::Data {
                    partition,
                    segment_base,
                    position,
                    payload,
                    ..
                } => {
                    let at = Position::new(segment_base, position);
                    if let Some(partition) = self.partitions.get_mut(&partition)
                        && partition.is_later == (pass == Pass::Later)
                    {
                        self.taken_bytes += payload.iter().map(|piece| piece.len()).sum::<usize>();
                        partition.replay(at, &payload).await?;
                    }
                }
            }
        }
        self.flush_when_much().await
    }

    /// Whether something that the journal has of a partition counts.
    fn is_of_owner(&self, (id, epoch): (PartitionId, OwnerEpoch)) -> bool {
        let partition = self.partitions.get(&id);
        partition.is_some_and(|partition| partition.ownership.counts(epoch))
    }

    /// One that was taken before does nothing.
    fn take_event(&mut self, id: PartitionId, event: &PartitionEvent) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.take_event(event);
        }
    }

    /// Rot: what was flushed cannot be read. Partitions that nothing continues go offline.
    fn take_loss(&mut self, journal: &CommittedJournal, lost: &LostWrites, pass: Pass) {
        for (id, epoch, event) in lost.kept.iter().flat_map(|kept| &kept.events) {
            if self.is_of_owner((*id, *epoch)) {
                self.take_event(*id, event);
            }
        }
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
        if pass == Pass::First {
            self.report.warnings.push(format!("{reason}{undone}"));
        }
        let concerned: Vec<PartitionId> = match &lost.kept {
            Some(kept) => {
                let counts = |(id, epoch): &(_, _)| self.is_of_owner((*id, *epoch)).then_some(*id);
                kept.partitions.iter().filter_map(counts).collect()
            }
            None => self.partitions.keys().copied().collect(),
        };
        for id in concerned {
            if let Some(partition) = self.partitions.get_mut(&id)
                && partition.is_later == (pass == Pass::Later)
            {
                partition.suspect = Some(reason.clone());
            }
        }
    }

    async fn flush_when_much(&mut self) -> Result<(), RecoveryError> {
        if self.taken_bytes > self.options.memory_bytes {
            self.taken_bytes = 0;
            for partition in self.partitions.values_mut() {
                partition.flush(false).await?;
                // There may be more partitions than files that can be open.
                partition.close();
            }
        }
        Ok(())
    }

    async fn finish(
        &mut self,
        committed: Option<Run>,
    ) -> Result<Vec<RecoveredPartition>, RecoveryError> {
        let kept = committed.map_or(String::new(), |run| kept_name(run.id));
        let partitions = self.partitions.values_mut();
        let finishing = partitions.map(|partition| finish::finish(partition, &kept));
        let recovered: Vec<RecoveredPartition> = stream::iter(finishing)
            .buffered(PARTITIONS_AT_A_TIME)
            .try_collect()
            .await?;
        let by_file = self.options.syncs_by_file;
        make_durable(&self.rt, &self.data_dir, self.partitions.values(), by_file).await?;
        let wall_clock_ms = self.rt.wall_clock_ms();
        for partition in &recovered {
            self.last_times
                .replayed(partition.snapshot(), wall_clock_ms);
            match partition.offline() {
                Some(reason) => self
                    .report
                    .offline
                    .push((partition.id(), reason.to_owned())),
                None => self.report.partitions += 1,
            }
        }
        if let Some(run) = committed
            && self.partitions.values().any(|one| one.needs_journal)
        {
            keep_journals(&self.rt, &self.data_dir, run).await?;
            let text = "what could not be recovered is in shard-*/";
            let warning = format!("{text}{kept}: remove them when nobody needs it any more");
            self.report.warnings.push(warning);
        }
        Ok(recovered)
    }

    /// Removes the files of segments that others have replaced. Only now: until the checkpoints that say
    /// so are committed, the next start would find the old ones in its checkpoint again, and if the event
    /// had rotted meanwhile, they would be all that there is.
    async fn remove_replaced(&mut self) -> Result<(), RecoveryError> {
        let removals = self.partitions.values_mut().map(finish::remove_replaced);
        let removed = stream::iter(removals).buffer_unordered(PARTITIONS_AT_A_TIME);
        Ok(removed.try_collect::<()>().await?)
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
            let contents = owned.filter_map(|known| self.partitions.get(&known.id));
            let content = Content {
                journal_start: self.options.journal().first_start(run),
                partitions: contents.map(|one| one.snapshot.clone()).collect(),
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
