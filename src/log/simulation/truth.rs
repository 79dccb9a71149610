//! What a log has promised, and whether it has kept it.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::options::KnownPartition;
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::producers::{ProducerBatch, ProducerStates};
use crate::log::recovery::RecoveredPartition;
use crate::model::batch::{BatchView, stamp};
use crate::model::{LeaderEpoch, Offset, PartitionId, ShardIndex};

/// A batch that the log has accepted, as it must be read back.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub bytes: Vec<u8>,
}

/// One partition as its user knows it.
#[derive(Clone, Debug)]
pub struct PartitionTruth {
    pub topic: String,
    /// Its directory was promised.
    pub is_created: bool,
    /// In order of their offsets, without gaps.
    pub batches: Vec<Accepted>,
    /// Everything below was acknowledged.
    pub acknowledged: Offset,
    /// Where the first of `batches` begins to matter.
    pub log_start: Offset,
    /// Log starts that were asked for since and not answered.
    pub asked_log_starts: BTreeSet<Offset>,
    pub leader_epoch: LeaderEpoch,
    /// Batches that were handed in and perhaps accepted, by producer: to be retried after a crash.
    pub unanswered: BTreeMap<i64, Vec<Vec<u8>>>,
    /// The next sequence of each producer.
    pub next_sequence: BTreeMap<i64, i32>,
}

impl PartitionTruth {
    pub fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            is_created: false,
            batches: Vec::new(),
            acknowledged: Offset::ZERO,
            log_start: Offset::ZERO,
            asked_log_starts: BTreeSet::new(),
            leader_epoch: LeaderEpoch(0),
            unanswered: BTreeMap::new(),
            next_sequence: BTreeMap::new(),
        }
    }

    pub fn log_end(&self) -> Offset {
        self.batches
            .last()
            .map_or(Offset::ZERO, |batch| batch.end_offset)
    }

    /// A batch was accepted at `base_offset` in `epoch`.
    pub fn accept(
        &mut self,
        sent: &[u8],
        base_offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), String> {
        if base_offset != self.log_end() {
            return Err(format!(
                "offset {base_offset} assigned, {} is next",
                self.log_end()
            ));
        }
        let mut bytes = sent.to_vec();
        stamp(&mut bytes, base_offset, epoch);
        let view = BatchView::first(&bytes).map_err(|error| error.to_string())?;
        let end_offset = view.end_offset();
        self.batches.push(Accepted {
            base_offset,
            end_offset,
            bytes,
        });
        Ok(())
    }

    /// Compares what a recovery says with what was promised, and takes over which of the
    /// unacknowledged batches have survived.
    pub fn recovered(&mut self, found: &RecoveredPartition) -> Result<(), String> {
        if let Some(reason) = found.offline() {
            return Err(format!("offline: {reason}"));
        }
        let found = found.snapshot();
        let (end, log_start) = (found.end().offset, found.log_start());
        if end < self.acknowledged {
            return Err(format!(
                "lost: ends at {end}, acknowledged to {}",
                self.acknowledged
            ));
        }
        let kept = self
            .batches
            .partition_point(|batch| batch.end_offset <= end);
        let kept_end = kept
            .checked_sub(1)
            .map_or(Offset::ZERO, |last| self.batches[last].end_offset);
        if kept_end != end {
            return Err(format!("ends at {end}, which is no end of a batch"));
        }
        let asked = self.asked_log_starts.contains(&log_start);
        if log_start < self.log_start || (log_start > self.log_start && !asked) {
            return Err(format!(
                "starts at {log_start}, promised {}",
                self.log_start
            ));
        }
        self.batches.truncate(kept);
        self.acknowledged = end;
        self.log_start = log_start;
        self.asked_log_starts.clear();
        self.check_epochs(found.epochs())?;
        self.check_producers(found.producers())
    }

    /// Every epoch that a batch was accepted in is known to begin there.
    fn check_epochs(&self, found: &EpochCache) -> Result<(), String> {
        for batch in &self.batches {
            let view = BatchView::first(&batch.bytes).map_err(|error| error.to_string())?;
            let (epoch, base) = (view.leader_epoch(), batch.base_offset);
            let known = found.epoch_at(base);
            if base >= self.log_start && known != Some(epoch) {
                return Err(format!(
                    "leader epoch {known:?} at {base}, accepted in {epoch}"
                ));
            }
        }
        Ok(())
    }

    fn check_producers(&self, found: &ProducerStates) -> Result<(), String> {
        let mut expected = ProducerStates::default();
        for batch in &self.batches {
            let view = BatchView::first(&batch.bytes).map_err(|error| error.to_string())?;
            if let Some(producer) = ProducerBatch::of(&view) {
                expected.apply(&producer, batch.base_offset, 0);
            }
        }
        let facts = |states: &ProducerStates| {
            let entry = |(id, entry): (_, &crate::log::partition::producers::ProducerEntry)| {
                (
                    id,
                    entry.epoch(),
                    entry.batches().copied().collect::<Vec<_>>(),
                    entry.last_timestamp_ms(),
                )
            };
            states.iter().map(entry).collect::<Vec<_>>()
        };
        match facts(&expected) == facts(found) {
            true => Ok(()),
            false => Err(format!(
                "producers differ: {:?}, expected {:?}",
                facts(found),
                facts(&expected)
            )),
        }
    }

    /// Bytes that were read from `from` on must be exactly the batches there; returns where the
    /// next ones begin.
    pub fn check_read(&self, from: Offset, bytes: &[u8]) -> Result<Offset, String> {
        let first = self
            .batches
            .partition_point(|batch| batch.end_offset <= from);
        let mut rest = bytes;
        let mut next = from;
        for batch in &self.batches[first..] {
            if rest.is_empty() {
                break;
            }
            rest = rest
                .strip_prefix(batch.bytes.as_slice())
                .ok_or_else(|| format!("the batch at {} reads differently", batch.base_offset))?;
            next = batch.end_offset;
        }
        match rest.is_empty() {
            true => Ok(next),
            false => Err(format!(
                "{} bytes behind offset {next} were never written",
                rest.len()
            )),
        }
    }
}

/// All partitions, and what the cluster metadata says of them. It is taken to be durable at once:
/// the log directory is what is being tested.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub partitions: BTreeMap<PartitionId, PartitionTruth>,
    /// Batches acknowledged in all.
    pub acknowledged_count: u64,
    /// The first promise that was broken.
    pub broken: Option<String>,
}

impl Truth {
    /// The known partitions, spread over the shards of a run.
    pub fn known(&self, shards: u16) -> Vec<KnownPartition> {
        let known =
            |(number, (id, truth)): (usize, (&PartitionId, &PartitionTruth))| KnownPartition {
                id: *id,
                topic: truth.topic.clone(),
                shard: ShardIndex((number % usize::from(shards)) as u16),
            };
        // Names are in no order that ids have: recovery must not count on one.
        self.partitions
            .iter()
            .enumerate()
            .map(known)
            .rev()
            .collect()
    }

    /// Notes a broken promise.
    pub fn note(&mut self, id: PartitionId, result: Result<(), String>) {
        if let Err(what) = result {
            let topic = self.partitions.get(&id).map_or("?", |p| p.topic.as_str());
            let what = format!("{topic}-{}: {what}", id.index);
            self.broken.get_or_insert(what);
        }
    }
}
