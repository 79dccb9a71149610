//! Bringing a data directory back to a state in which every acknowledged byte is in a segment.
//!
//! Segments are written, journals never. One ordered pass over a journal of the committed run lays
//! data over segments and applies events. New checkpoints go beside the committed run's newest, and the
//! file `run` commits everything in the end. Interrupted anywhere before, recovery starts again to
//! the same result.
//!
//! Every shard recovers its own partitions, on its own core and in its own memory; shard 0 leads. They share
//! nothing: what is said between them is plain data. A step begins when all have ended the one before.
//!
//! | step | shard 0 | every shard |
//! |---|---|---|
//! | 1 | [`Recovery::prepare`]: `run`, checkpoints, journals settled, directories; a [`ShardPart`] for each | |
//! | 2 | | [`ShardRecovery::replay`]: replays, verifies, flushes; a [`ShardReport`] |
//! | 3 | [`Recovery::gather`]: keeps the journals where something needs them; the next run's id | |
//! | 4 | | [`ShardRecovery::write_checkpoint`], and the files of its next journal |
//! | 5 | [`Recovery::commit`]: `run` | |
//! | 6 | | [`ShardRecovery::end`]: removes what was replaced; its partitions, to open |
//!
//! An example. The last run had two shards, this one has three, and partition 1 goes from shard 1 to shard 2.
//! What there is of it is in journal 1: shard 2 reads that, passing over what is of the partitions of others,
//! and so does shard 1, which also tells of its damage, if there is any, and whether it was closed. Were there
//! fewer shards than journals, each journal would still be told of by one.
//!
//! | file | what |
//! |---|---|
//! | `error` | why a node cannot start |
//! | `found_dirs` | directories that are there, and those that no topic accounts for |
//! | `load` | the checkpoints to begin from |
//! | `shard_part` | what one shard does |
//! | `place` | directories of partitions |
//! | `partition` | a partition on its way: its checkpoint, the journal's bytes on top |
//! | `overlay` | where an entry goes, pure |
//! | `ownership` | whose checkpoint and whose entries count, pure |
//! | `plan`, `verify` | which bytes are walked, and the walk |
//! | `finish` | what holds stays, other files go |
//! | `barrier` | the flush before anything tells of it |
//! | `journals` | the journals of the run that begins |

mod barrier;
mod error;
mod finish;
mod found_dirs;
mod journals;
mod load;
mod overlay;
mod ownership;
mod partition;
mod place;
mod plan;
mod shard_part;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::log::files::run::{RUN_FILE, Run, RunFile, RunId};
use crate::log::options::{KnownPartition, RecoveryOptions};
use crate::log::partition::effects::Restored;
use crate::log::partition::snapshot::Snapshot;
use crate::log::rules::{Rule, holds};
use crate::model::{PartitionId, ShardIndex};
use crate::rt::Runtime;
pub use error::RecoveryError;
pub use found_dirs::FoundDirs;
use journals::{keep_journals, kept_name};
pub use load::LastTimes;
use load::{CommittedJournal, load_checkpoint, take_namesake};
use ownership::keep_newest;
pub use shard_part::{ShardPart, ShardRecovery, ShardReport};

/// What recovery found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Bytes of journal that were replayed: each journal counts once, however many shards have read it.
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

impl RecoveryReport {
    /// Takes in what a shard reports of its part.
    fn add(&mut self, part: Self) {
        self.journal_bytes_replayed += part.journal_bytes_replayed;
        self.partitions += part.partitions;
        self.offline.extend(part.offline);
        self.warnings.extend(part.warnings);
    }
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
    /// What happened.
    pub report: RecoveryReport,
}

/// One partition, ready to be opened.
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

/// The recovery of a data directory, as shard 0 leads it.
pub struct Recovery<R: Runtime> {
    rt: R,
    data_dir: PathBuf,
    began: Duration,
    run_file: RunFile<R>,
    committed: Option<Run>,
    next: Run,
    clean: bool,
    last_times: LastTimes,
    report: RecoveryReport,
}

impl<R: Runtime> Recovery<R> {
    /// Finds out what there is, before any shard opens, and who has to do what about it: a part for every
    /// shard, in order. `partitions` is what the cluster metadata knows; directories of anything else are put
    /// aside.
    pub async fn prepare(
        mut dirs: FoundDirs<R>,
        options: RecoveryOptions,
        partitions: &[KnownPartition],
    ) -> Result<(Self, Vec<ShardPart>), RecoveryError> {
        let (rt, data_dir) = (dirs.rt.clone(), dirs.data_dir.clone());
        let began = rt.now();
        let run_file = RunFile::open(&rt, &data_dir).await?;
        let committed = run_file.committed();
        if committed.is_none() && !partitions.is_empty() {
            let path = data_dir.join(RUN_FILE);
            return Err(RecoveryError::NoRun { path });
        }
        let run = committed.map(|run| run.id).unwrap_or_default();
        let shards = (0..committed.map_or(0, |run| run.shards)).map(ShardIndex);
        let loads = shards.map(|shard| load_checkpoint(&rt, &data_dir, shard, run));
        let (mut contents, mut journals) = (BTreeMap::new(), Vec::new());
        for (journal, partitions) in try_join_all(loads).await? {
            journals.push(journal);
            for content in partitions {
                keep_newest(&mut contents, content);
            }
        }
        dirs.put_aside_unknown(partitions).await?;
        let mut last_times = LastTimes::default();
        for content in contents.values() {
            last_times.checkpointed(content, rt.wall_clock_ms());
        }
        let next = Run {
            id: run.next(&rt),
            shards: options.shards,
        };
        let part = |shard| ShardPart::new(shard, &data_dir, &options, committed, &last_times);
        let mut parts: Vec<ShardPart> = (0..options.shards).map(ShardIndex).map(part).collect();
        for known in partitions {
            let content = match holds(Rule::TopicIdCheck) {
                true => contents.remove(&known.id),
                false => take_namesake(&mut contents, known),
            };
            if let Some(part) = parts.get_mut(usize::from(known.shard.0)) {
                part.add_partition(known.clone(), content, dirs.listed(known));
            }
        }
        hand_out_journals(&journals, &mut parts);
        let recovery = Self {
            rt,
            data_dir,
            began,
            run_file,
            committed,
            next,
            clean: true,
            last_times,
            report: RecoveryReport::default(),
        };
        Ok((recovery, parts))
    }

    /// Takes in what all shards report, whose partitions are recovered and durable. Gives the run for which
    /// each of them writes its checkpoint.
    pub async fn gather(
        &mut self,
        reports: impl IntoIterator<Item = ShardReport>,
    ) -> Result<RunId, RecoveryError> {
        let mut needs_journals = false;
        for part in reports {
            self.clean &= part.clean;
            self.last_times.merge(part.last_times);
            self.report.add(part.report);
            needs_journals |= part.needs_journals;
        }
        if let Some(run) = self.committed
            && needs_journals
        {
            keep_journals(&self.rt, &self.data_dir, run).await?;
            let kept = kept_name(run.id);
            let text = "what could not be recovered is in shard-*/";
            let warning = format!("{text}{kept}: remove them when nobody needs it any more");
            self.report.warnings.push(warning);
        }
        if !holds(Rule::RecoveryCommitsRunLast) {
            self.run_file.commit(self.next).await?;
        }
        Ok(self.next.id)
    }

    /// Commits the run, for which every shard has written its checkpoint.
    pub async fn commit(mut self) -> Result<Recovered, RecoveryError> {
        if holds(Rule::RecoveryCommitsRunLast) {
            self.run_file.commit(self.next).await?;
        }
        self.report.elapsed = self.rt.now() - self.began;
        Ok(Recovered {
            run: self.next.id,
            clean: self.clean,
            last_times: self.last_times,
            report: self.report,
        })
    }
}

/// Gives the journals to who needs them. Each is read and told of by one shard, even if nobody needs it: its
/// end says whether the last run was stopped cleanly.
fn hand_out_journals(journals: &[CommittedJournal], parts: &mut [ShardPart]) {
    let shards = parts.len();
    for journal in journals {
        for (shard, part) in parts.iter_mut().enumerate() {
            let tells = shard == usize::from(journal.shard.0) % shards;
            part.add_journal(journal, tells);
        }
    }
}
