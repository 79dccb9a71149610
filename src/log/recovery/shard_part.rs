//! What one shard recovers, on its own core: the partitions that it owns from now on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::barrier::make_durable;
use super::error::RecoveryError;
use super::finish;
use super::journals::{kept_name, make_journal};
use super::load::{CommittedJournal, LastTimes};
use super::partition::{ListedDir, PARTITIONS_AT_A_TIME, RecoveringPartition};
use super::place::{judge_files, look_at_files, place};
use super::{RecoveredPartition, RecoveryReport};
use crate::log::error::StorageError;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::run::{Run, RunId};
use crate::log::journal::{JournalScan, LostWrites, ScanEnd, Scanned, ScannedEntry};
use crate::log::options::{KnownPartition, RecoveryOptions, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::snapshot::Snapshot;
use crate::log::segment::position::Position;
use crate::model::{OwnerEpoch, PartitionId, ShardIndex};
use crate::rt::Runtime;

/// What a shard has to recover: plain data, so that it may go to its thread.
#[derive(Clone, Debug)]
pub struct ShardPart {
    shard: ShardIndex,
    data_dir: PathBuf,
    options: RecoveryOptions,
    committed: Option<Run>,
    /// The producers' time of what is replayed.
    producers_ms: i64,
    partitions: Vec<PlacedPartition>,
    /// Whose journals its partitions need.
    needed: BTreeSet<ShardIndex>,
    journals: Vec<PartJournal>,
}

/// A partition that the shard owns from now on.
#[derive(Clone, Debug)]
struct PlacedPartition {
    known: KnownPartition,
    /// What the newest checkpoint says of it.
    content: Option<Snapshot>,
    listed: ListedDir,
}

/// A journal that the shard reads.
#[derive(Clone, Debug)]
struct PartJournal {
    of: CommittedJournal,
    /// It is this shard that tells of it: how long it is, how it ends, what is damaged.
    tells: bool,
}

/// What a shard has done of its part.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// The journals that it tells of end with the record of a clean stop.
    pub clean: bool,
    /// What its partitions say of the time.
    pub last_times: LastTimes,
    /// The journals have something that nothing else has.
    pub needs_journals: bool,
    /// What happened. (How long it took is known in the end.)
    pub report: RecoveryReport,
}

impl ShardPart {
    /// Nothing yet.
    pub(super) fn new(
        shard: ShardIndex,
        data_dir: &Path,
        options: &RecoveryOptions,
        committed: Option<Run>,
        last_times: &LastTimes,
    ) -> Self {
        Self {
            shard,
            data_dir: data_dir.to_owned(),
            options: options.clone(),
            committed,
            producers_ms: last_times.producers_ms,
            partitions: Vec::new(),
            needed: BTreeSet::new(),
            journals: Vec::new(),
        }
    }

    pub(super) fn add_partition(
        &mut self,
        known: KnownPartition,
        content: Option<Snapshot>,
        listed: ListedDir,
    ) {
        self.needed.insert(known.former_shard);
        self.partitions.push(PlacedPartition {
            known,
            content,
            listed,
        });
    }

    /// Adds a journal if the shard `tells` of it, or needs it.
    pub(super) fn add_journal(&mut self, journal: &CommittedJournal, tells: bool) {
        if tells || self.needed.contains(&journal.shard) {
            let of = journal.clone();
            self.journals.push(PartJournal { of, tells });
        }
    }
}

/// Which pass over the journals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    /// For partitions that lack files.
    Later,
}

/// A shard's part of a recovery, on its core.
pub struct ShardRecovery<R: Runtime> {
    rt: R,
    shard: ShardIndex,
    data_dir: PathBuf,
    options: RecoveryOptions,
    committed: Option<Run>,
    journals: Vec<PartJournal>,
    partitions: BTreeMap<PartitionId, RecoveringPartition<R>>,
    recovered: Vec<RecoveredPartition>,
    /// Bytes of the journal since all partitions were flushed: no more of them wait.
    taken_bytes: usize,
    clean: bool,
    report: RecoveryReport,
}

impl<R: Runtime> ShardRecovery<R> {
    /// Replays the journals, and makes the shard's segments durable: no power cut takes what is reported.
    pub async fn replay(rt: R, part: ShardPart) -> Result<(Self, ShardReport), RecoveryError> {
        let (data_dir, producers_ms) = (&part.data_dir, part.producers_ms);
        let recovering = |placed: PlacedPartition| {
            let PlacedPartition {
                known,
                content,
                listed,
            } = placed;
            let partition =
                RecoveringPartition::new(&rt, data_dir, &known, content, producers_ms, listed);
            (known.id, partition)
        };
        let mut recovery = Self {
            partitions: part.partitions.into_iter().map(recovering).collect(),
            rt,
            shard: part.shard,
            data_dir: part.data_dir,
            options: part.options,
            committed: part.committed,
            journals: part.journals,
            recovered: Vec::new(),
            taken_bytes: 0,
            clean: true,
            report: RecoveryReport::default(),
        };
        recovery.place_all().await?;
        recovery.read_journals().await?;
        let report = recovery.finish().await?;
        Ok((recovery, report))
    }

    async fn place_all(&mut self) -> Result<(), RecoveryError> {
        let data_dir = &self.data_dir;
        let places = self.partitions.values_mut().map(async |partition| {
            place(data_dir, partition).await?;
            look_at_files(partition).await
        });
        let placed = stream::iter(places).buffer_unordered(PARTITIONS_AT_A_TIME);
        placed.try_collect::<()>().await
    }

    /// One pass over the journals, in their order. Which segments may be gone hangs on where the logs
    /// start in the end, so files are judged behind it; what the journal has of partitions that lack
    /// some is laid over the rest only then, in a pass for them alone.
    async fn read_journals(&mut self) -> Result<(), RecoveryError> {
        let journals = std::mem::take(&mut self.journals);
        for journal in &journals {
            let end = self.read(journal, Pass::First).await?;
            if journal.tells {
                self.clean &= end.clean;
                self.report.journal_bytes_replayed += end.bytes;
            }
        }
        let mut any_later = false;
        for partition in self.partitions.values_mut() {
            judge_files(partition).await?;
            any_later |= partition.is_later;
        }
        for journal in journals.iter().filter(|_| any_later) {
            self.read(journal, Pass::Later).await?;
        }
        Ok(())
    }

    async fn read(&mut self, journal: &PartJournal, pass: Pass) -> Result<ScanEnd, RecoveryError> {
        let of = &journal.of;
        let node = self.options.node;
        let mut scan = JournalScan::open(&self.rt, &of.dir, node, of.shard, of.start).await?;
        while let Some(found) = scan.next().await? {
            self.take(journal, found, pass).await?;
        }
        Ok(scan.outcome())
    }

    async fn take(
        &mut self,
        journal: &PartJournal,
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
            let Some(partition) = self.concerned(journal, entry.owner()) else {
                continue;
            };
            match entry {
                // One that was taken before does nothing.
                ScannedEntry::Event { event, .. } => partition.take_event(&event),
                ScannedEntry::Data {
                    segment_base,
                    position,
                    payload,
                    ..
                } => {
                    let at = Position::new(segment_base, position);
                    if partition.is_later == (pass == Pass::Later) {
                        partition.replay(at, &payload).await?;
                        self.taken_bytes += payload.iter().map(|piece| piece.len()).sum::<usize>();
                    }
                }
            }
        }
        self.flush_when_much().await
    }

    /// The partition of which a journal has something, if that is this shard's, and if it counts.
    fn concerned(
        &mut self,
        journal: &PartJournal,
        (id, epoch): (PartitionId, OwnerEpoch),
    ) -> Option<&mut RecoveringPartition<R>> {
        let partition = self.partitions.get_mut(&id)?;
        let counts = partition.ownership.counts(journal.of.shard, epoch);
        counts.then_some(partition)
    }

    /// Rot: what was flushed cannot be read. Partitions that nothing continues go offline.
    fn take_loss(&mut self, journal: &PartJournal, lost: &LostWrites, pass: Pass) {
        let (reason, undone) = reason_of(&journal.of, lost);
        if pass == Pass::First && journal.tells {
            self.report.warnings.push(format!("{reason}{undone}"));
        }
        let suspect = |partition: &mut RecoveringPartition<R>| {
            if partition.is_later == (pass == Pass::Later) {
                partition.suspect = Some(reason.clone());
            }
        };
        let Some(kept) = &lost.kept else {
            let partitions = self.partitions.values_mut();
            let concerned = partitions.filter(|one| one.ownership.reads(journal.of.shard));
            concerned.for_each(suspect);
            return;
        };
        for (id, epoch, event) in &kept.events {
            if let Some(partition) = self.concerned(journal, (*id, *epoch)) {
                partition.take_event(event);
            }
        }
        for owner in &kept.partitions {
            self.concerned(journal, *owner)
                .into_iter()
                .for_each(suspect);
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

    async fn finish(&mut self) -> Result<ShardReport, RecoveryError> {
        let kept = self
            .committed
            .map_or(String::new(), |run| kept_name(run.id));
        let partitions = self.partitions.values_mut();
        let finishing = partitions.map(|partition| finish::finish(partition, &kept));
        self.recovered = stream::iter(finishing)
            .buffered(PARTITIONS_AT_A_TIME)
            .try_collect()
            .await?;
        let by_file = self.options.syncs_by_file;
        make_durable(&self.rt, &self.data_dir, self.partitions.values(), by_file).await?;
        let (mut last_times, wall_clock_ms) = (LastTimes::default(), self.rt.wall_clock_ms());
        for partition in &self.recovered {
            last_times.replayed(partition.snapshot(), wall_clock_ms);
            match partition.offline() {
                Some(reason) => self
                    .report
                    .offline
                    .push((partition.id(), reason.to_owned())),
                None => self.report.partitions += 1,
            }
        }
        Ok(ShardReport {
            clean: self.clean,
            last_times,
            needs_journals: self.partitions.values().any(|one| one.needs_journal),
            report: std::mem::take(&mut self.report),
        })
    }

    /// Writes the shard's checkpoint of `run`, which is not committed yet, beside the newest of the run that
    /// is; and makes the files of its journal.
    pub async fn write_checkpoint(&mut self, run: RunId) -> Result<(), RecoveryError> {
        let (rt, data_dir, journal) = (&self.rt, &self.data_dir, self.options.journal());
        let dir = shard_dir(data_dir, self.shard);
        rt.create_dir(&dir).await?;
        rt.sync_dir(data_dir).await?;
        let contents = self.partitions.values();
        let content = Content {
            journal_start: journal.first_start(run),
            partitions: contents.map(|one| one.snapshot.clone()).collect(),
        };
        let slots = CheckpointSlots::open(rt, &dir).await;
        let mut slots = slots.map_err(StorageError::from)?;
        let before = self.committed.map(|run| run.id);
        let written = slots.write_next(before, run, &content.encode()).await;
        written.map_err(StorageError::from)?;
        make_journal(rt, data_dir, self.shard, &journal).await
    }

    /// Removes the files of segments that others have replaced, and gives the partitions. Only once the run
    /// is committed: until the checkpoints that say so are, the next start would find the old ones in its
    /// checkpoint again, and if the event had rotted meanwhile, they would be all that there is.
    pub async fn end(mut self) -> Result<Vec<RecoveredPartition>, RecoveryError> {
        let removals = self.partitions.values_mut().map(finish::remove_replaced);
        let removed = stream::iter(removals).buffer_unordered(PARTITIONS_AT_A_TIME);
        removed.try_collect::<()>().await?;
        Ok(self.recovered)
    }
}

/// Why partitions may lack something, and what an operator is told beside.
fn reason_of(journal: &CommittedJournal, lost: &LostWrites) -> (String, &'static str) {
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
    (reason, undone)
}
