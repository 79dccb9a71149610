//! What a recovery begins from: the checkpoints of the committed run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::RecoveryError;
use super::journals::journal_dir;
use crate::log::files::checkpoint_slots::CheckpointSlots;
use crate::log::files::run::RunId;
use crate::log::journal::{JournalScan, JournalStart};
use crate::log::options::{KnownPartition, shard_dir};
use crate::log::partition::checkpoint_content::Content;
use crate::log::partition::snapshot::Snapshot;
use crate::log::segment::facts::SegmentFacts;
use crate::model::{PartitionId, ShardIndex};
use crate::rt::Runtime;

/// What a checkpoint says of any topic of that name.
pub fn take_namesake(
    contents: &mut BTreeMap<PartitionId, Snapshot>,
    known: &KnownPartition,
) -> Option<Snapshot> {
    let is_namesake = |(id, snapshot): &(&PartitionId, &Snapshot)| {
        (snapshot.topic(), id.index) == (known.topic.as_str(), known.id.index)
    };
    let id = contents.iter().find(is_namesake).map(|(id, _)| *id)?;
    Some(contents.remove(&id)?.renamed(known.id))
}

/// How late it was, by what the checkpoints say, when something was last written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastTimes {
    /// By the producers' time, in milliseconds; see
    /// [`ProducerStates::apply`](crate::log::partition::producers::ProducerStates::apply).
    pub producers_ms: i64,
    /// By records, or segments where they have no times, in Unix milliseconds, and no later than the wall
    /// clock says; none where there are none.
    pub written_ms: Option<i64>,
}

impl LastTimes {
    /// Takes in what a checkpoint says, at a start at which the wall clock says `wall_clock_ms`.
    pub fn checkpointed(&mut self, snapshot: &Snapshot, wall_clock_ms: i64) {
        let appended = snapshot.producers().iter();
        let appended = appended.map(|(_, entry)| entry.last_append_ms());
        self.producers_ms = appended.fold(self.producers_ms, i64::max);
        // Where records have no times of their own, that of their segment. Others were begun by a clock that
        // may have been wrong in the last run as it is now: it must not vouch for itself.
        let untimed = |facts: &&SegmentFacts| facts.size_bytes > 0 && facts.max_timestamp_ms < 0;
        for facts in snapshot.segments().filter(untimed) {
            self.written(facts.created_ms, wall_clock_ms);
        }
        self.replayed(snapshot, wall_clock_ms);
    }

    /// Takes in the records that are there. (Segments may have been made by this start.)
    pub fn replayed(&mut self, snapshot: &Snapshot, wall_clock_ms: i64) {
        for facts in snapshot.segments() {
            self.written(facts.max_timestamp_ms, wall_clock_ms);
        }
    }

    /// Takes in what another shard has found.
    pub fn merge(&mut self, other: Self) {
        self.producers_ms = self.producers_ms.max(other.producers_ms);
        self.written_ms = self.written_ms.max(other.written_ms);
    }

    fn written(&mut self, ms: i64, wall_clock_ms: i64) {
        if (0..=wall_clock_ms).contains(&ms) {
            self.written_ms = self.written_ms.max(Some(ms));
        }
    }
}

/// A journal of the committed run: nobody writes to it any more.
#[derive(Clone, Debug)]
pub struct CommittedJournal {
    /// Whose journal.
    pub shard: ShardIndex,
    /// Where its files are.
    pub dir: PathBuf,
    /// Where its replay begins.
    pub start: JournalStart,
    /// A checkpoint that is not whole: it may have been the newest one.
    pub damaged: Option<PathBuf>,
}

/// What the newest whole checkpoint of a run says of one shard, and its journal, settled.
pub async fn load_checkpoint<R: Runtime>(
    rt: &R,
    data_dir: &Path,
    shard: ShardIndex,
    run: RunId,
) -> Result<(CommittedJournal, Vec<Snapshot>), RecoveryError> {
    let dir = &shard_dir(data_dir, shard);
    let failed = |reason: String| RecoveryError::Checkpoint {
        dir: dir.to_owned(),
        run,
        reason,
    };
    let slots = CheckpointSlots::open(rt, dir)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let found = slots
        .load(run)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let checkpoint = found.ok_or_else(|| failed("both slots are damaged or missing".into()))?;
    let changes = checkpoint.changes.iter().map(Vec::as_slice);
    let content = Content::decode_all(&checkpoint.content, changes)
        .map_err(|error| failed(error.to_string()))?;
    let start = content.journal_start;
    let journal_dir = journal_dir(rt, data_dir, shard, start.run).await?;
    JournalScan::settle(rt, &journal_dir, start).await?;
    let journaled = CommittedJournal {
        shard,
        dir: journal_dir,
        start,
        damaged: slots.damaged().map(Path::to_owned),
    };
    Ok((journaled, content.partitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PartitionIndex, TopicId};

    /// A segment without records was begun at 9,000 by a clock that was ahead; it still is at the start.
    #[test]
    fn a_clock_does_not_vouch_for_itself() {
        let id = PartitionId {
            topic: TopicId::ZERO,
            index: PartitionIndex(0),
        };
        let mut times = LastTimes::default();
        times.checkpointed(&Snapshot::empty(id, "t", 9_000), 10_000);
        assert_eq!(times.written_ms, None);
        times.written(4_000, 10_000);
        times.written(11_000, 10_000);
        assert_eq!(times.written_ms, Some(4_000));
    }
}
