//! What a log has promised, and whether it has kept it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::log::Rewritten;
use crate::log::options::KnownPartition;
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::producers::{ProducerBatch, ProducerStates};
use crate::log::partition::snapshot::Snapshot;
use crate::log::recovery::RecoveredPartition;
use crate::log::segment::facts::SegmentFacts;
use crate::model::batch::{BatchView, stamp};
use crate::model::{LeaderEpoch, Offset, OwnerEpoch, PartitionId, ShardIndex};

/// A batch as it must be read back; none when a rewrite has dropped it.
pub type Stored = Option<Vec<u8>>;

/// A batch that the log has accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub base_offset: Offset,
    pub end_offset: Offset,
    /// As it was accepted.
    pub bytes: Vec<u8>,
    /// As it is now, unless a rewrite is under way.
    pub stored: Stored,
    /// As it was before a swap, by its number: who began to read before may still see it.
    earlier: Vec<(u64, Stored)>,
}

/// A rewrite of which nobody knows yet whether its segments are those of the log.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The offsets of its segments.
    pub range: Range<Offset>,
    /// The generation that it makes.
    pub generation: u32,
    /// What it has made of batches, by their base offset.
    pub stored: BTreeMap<Offset, Stored>,
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
    /// Who owns it by the metadata, once a run has begun with it, and since which owner epoch.
    pub owner: (Option<ShardIndex>, OwnerEpoch),
    /// Batches that were handed in and perhaps accepted, by producer: to be retried after a crash.
    pub unanswered: BTreeMap<i64, Vec<Vec<u8>>>,
    /// The next sequence of each producer.
    pub next_sequence: BTreeMap<i64, i32>,
    /// The rewrite that is under way.
    pub rewrite: Option<Rewrite>,
    /// How many have swapped.
    pub swaps: u64,
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
            owner: (None, OwnerEpoch::default()),
            unanswered: BTreeMap::new(),
            next_sequence: BTreeMap::new(),
            rewrite: None,
            swaps: 0,
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
            stored: Some(bytes.clone()),
            bytes,
            earlier: Vec::new(),
        });
        Ok(())
    }

    /// The rewrite that is under way reads a batch, and makes something of it.
    pub fn rewrites(&mut self, before: &[u8], becomes: &Rewritten) -> Result<(), String> {
        let view = BatchView::first(before).map_err(|error| error.to_string())?;
        let base = view.base_offset();
        let known = self.batches.iter().find(|batch| batch.base_offset == base);
        if known.and_then(|batch| batch.stored.as_deref()) != Some(before) {
            return Err(format!("a rewrite reads the batch at {base} differently"));
        }
        if let Some(rewrite) = &mut self.rewrite {
            let stored = match becomes {
                Rewritten::Same => Some(before.to_vec()),
                Rewritten::Dropped => None,
                Rewritten::As(bytes) => Some(bytes.clone()),
            };
            rewrite.stored.insert(base, stored);
        }
        Ok(())
    }

    /// The rewrite that was under way has swapped its segments, or never will.
    pub fn settle(&mut self, has_swapped: bool) {
        let Some(mut rewrite) = self.rewrite.take().filter(|_| has_swapped) else {
            return;
        };
        self.swaps += 1;
        for batch in &mut self.batches {
            if let Some(stored) = rewrite.stored.remove(&batch.base_offset) {
                let before = std::mem::replace(&mut batch.stored, stored);
                batch.earlier.push((self.swaps, before));
            }
        }
    }

    /// What may be read of a batch by somebody who began when there had been so many swaps.
    pub fn readable<'a>(
        &'a self,
        batch: &'a Accepted,
        since: u64,
    ) -> impl Iterator<Item = &'a Stored> + Clone {
        let rewrite = self.rewrite.as_ref();
        let next = rewrite.and_then(|rewrite| rewrite.stored.get(&batch.base_offset));
        let earlier = batch.earlier.iter().filter(move |(swap, _)| *swap > since);
        let earlier = earlier.map(|(_, stored)| stored);
        [&batch.stored].into_iter().chain(next).chain(earlier)
    }

    /// Whether nothing needs to be left of the batches that lie between two offsets.
    pub fn may_be_gone(&self, from: Offset, end: Offset, since: u64) -> bool {
        let lies_there = |batch: &&Accepted| batch.end_offset > from && batch.end_offset <= end;
        let is_gone = |batch: &Accepted| self.readable(batch, since).any(|stored| stored.is_none());
        self.batches.iter().filter(lies_there).all(is_gone)
    }

    /// A start has found the segments of one side of a rewrite.
    fn settle_as(&mut self, found: &Snapshot) -> Result<(), String> {
        let Some(rewrite) = &self.rewrite else {
            return Ok(());
        };
        let lies_there = |facts: &&SegmentFacts| {
            facts.base_offset >= rewrite.range.start && facts.end_offset <= rewrite.range.end
        };
        let lying = found.complete().iter().filter(lies_there);
        let generations: BTreeSet<u32> = lying.map(|facts| facts.generation).collect();
        let is_new = generations.contains(&rewrite.generation);
        if is_new && generations.len() > 1 {
            return Err(format!("half swapped: {:?}", found.complete()));
        }
        self.settle(is_new);
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
        self.settle_as(found)?;
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

    /// Bytes that were read from `from` on, by somebody who began when there had been so many swaps,
    /// must be exactly the batches there; returns where the next ones begin.
    pub fn check_read(&self, from: Offset, bytes: &[u8], since: u64) -> Result<Offset, String> {
        let first = self
            .batches
            .partition_point(|batch| batch.end_offset <= from);
        let mut rest = bytes;
        let mut next = from;
        for batch in &self.batches[first..] {
            if rest.is_empty() {
                break;
            }
            let readable = self.readable(batch, since);
            let behind = readable
                .clone()
                .flatten()
                .find_map(|stored| rest.strip_prefix(stored.as_slice()));
            match behind {
                Some(behind) => (rest, next) = (behind, batch.end_offset),
                None if readable.clone().any(Option::is_none) => {}
                None => {
                    let base = batch.base_offset;
                    return Err(format!("the batch at {base} reads differently"));
                }
            }
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
        let known = |(number, (id, truth)): (usize, (&PartitionId, &PartitionTruth))| {
            let shard = ShardIndex((number % usize::from(shards)) as u16);
            let (owner, owner_epoch) = truth.owner;
            let is_moved = owner.is_some_and(|owner| owner != shard);
            KnownPartition {
                id: *id,
                topic: truth.topic.clone(),
                shard,
                former_shard: owner.unwrap_or(shard),
                owner_epoch,
                next_owner_epoch: OwnerEpoch(owner_epoch.0 + u32::from(is_moved)),
            }
        };
        // Names are in no order that ids have: recovery must not count on one.
        self.partitions
            .iter()
            .enumerate()
            .map(known)
            .rev()
            .collect()
    }

    /// The metadata has who owns what from the start on of which these were told.
    pub fn owned(&mut self, known: &[KnownPartition]) {
        for known in known {
            if let Some(truth) = self.partitions.get_mut(&known.id) {
                truth.owner = (Some(known.shard), known.next_owner_epoch);
            }
        }
    }

    /// How many rewrites have swapped segments, in the partitions that there are.
    pub fn swap_count(&self) -> u64 {
        self.partitions.values().map(|known| known.swaps).sum()
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
