//! Where a partition stands at a boundary: all that its batches and events have made of it.
//!
//! The live state keeps one that is up to date, a checkpoint stores it, recovery begins from it: there
//! is no other durable form. What a batch or an event does to it is written here, once.
//!
//! ```text
//! version u16, then, big-endian:
//!     topic id u128, index i32, topic name (u16 length), owner epoch u32, flags u8 (1: offline reason follows)
//!     [offline reason (u16 length)]
//!     log start i64, last event u64
//!     segment-durable boundary: offset i64, segment i64, byte u64; written back: segment i64, byte u64
//!     end boundary: offset i64, segment i64, byte u64     everything here describes all below it
//!     epochs: count u32, then epoch i32, start offset i64 each
//!     segments, oldest first, the active one last: count u32, then `SegmentFacts::encode` each
//!     producers: length u32, then `ProducerStates::encode_full`
//! ```
//!
//! An example. A segment at 0 has batches up to offset 10, 9,000 bytes of them, and all are in its
//! file; the next one, at 10, has one batch of 700 bytes with offsets 10 and 11, in the journal and in
//! memory alone. Segment-durable is (10, segment 0, byte 9000), written back ends at byte 9000 of
//! segment 0, and the end is (12, segment 10, byte 700). Recovery lays what the journal has of segment
//! 10 over its file, and applies the batches from offset 12 on; those before count already.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::VecDeque;

use bytes::{Buf, BufMut, TryGetError};

use crate::log::files::partition_files::SegmentId;
use crate::log::journal::{EventChange, PartitionEvent};
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::producers::{
    DEFAULT_MAX_PRODUCERS, ProducerBatch, ProducerStates, REMEMBERED_BATCHES,
};
use crate::log::partition::retention::{RetentionLimits, RetentionPlan, plan_retention};
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::position::{Boundary, Position};
use crate::log::segment::replacement::{self, Replacement};
use crate::model::batch::BatchView;
use crate::model::{LeaderEpoch, Offset, OwnerEpoch, PartitionId, PartitionIndex, TopicId};

const VERSION: u16 = 3;
const EPOCH_BYTES: usize = 12;
/// What one more segment takes of a checkpoint.
pub const SEGMENT_BYTES: usize = SegmentFacts::BYTES;
/// What one more producer takes of it, with all the batches that are remembered of it.
pub const PRODUCER_BYTES: usize = 39 + 24 * REMEMBERED_BATCHES;
/// All that is always there, and its length.
const FIXED_BYTES: usize = 196;

/// Why bytes are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end too early.
    #[error("a partition's snapshot is cut short")]
    Truncated,
    /// Written by another build.
    #[error("a partition's snapshot has version {0}, only {VERSION} is known")]
    Version(u16),
    /// The checksum holds and the content makes no sense.
    #[error("a partition's snapshot is malformed: {0}")]
    Malformed(&'static str),
}

impl From<TryGetError> for SnapshotError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// A batch, as far as the partition that it is appended to is concerned.
#[derive(Clone, Copy, Debug)]
pub struct AppliedBatch<'a> {
    /// Offset of its first record: where the log ended.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its length, header included.
    pub size_bytes: u32,
    /// Its largest timestamp, in Unix milliseconds; −1 without one.
    pub max_timestamp_ms: i64,
    /// The epoch under which it was accepted.
    pub leader_epoch: LeaderEpoch,
    /// Its idempotent producer, if it has one.
    pub producer: Option<&'a ProducerBatch>,
    /// Time from which the producer's expiry counts; see [`ProducerStates::apply`].
    pub producers_ms: i64,
}

impl<'a> AppliedBatch<'a> {
    /// A batch as it lies in a segment.
    pub fn stored(
        view: &BatchView<'_>,
        producer: Option<&'a ProducerBatch>,
        producers_ms: i64,
    ) -> AppliedBatch<'a> {
        Self {
            base_offset: view.base_offset(),
            last_offset: view.last_offset(),
            size_bytes: view.bytes().len() as u32,
            max_timestamp_ms: view.max_timestamp_ms(),
            leader_epoch: view.leader_epoch(),
            producer,
            producers_ms,
        }
    }
}

/// A partition at its `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) id: PartitionId,
    pub(super) topic: String,
    /// Who speaks for it: entries of the journal count from this owner epoch on.
    pub(super) owner_epoch: OwnerEpoch,
    /// Why it cannot be used, until it is repaired.
    pub(super) offline: Option<String>,
    pub(super) log_start: Offset,
    pub(super) last_event: u64,
    /// End of the last whole batch in segment files.
    pub(super) segment_durable: Boundary,
    /// First byte that is not in a segment file.
    pub(super) written_back: Position,
    pub(super) end: Boundary,
    pub(super) epochs: EpochCache,
    /// Segments that are no longer appended to, oldest first.
    pub(super) complete: VecDeque<SegmentFacts>,
    pub(super) active: SegmentFacts,
    pub(super) producers: ProducerStates,
}

impl Snapshot {
    /// Of a log that has no records yet and begins at 0.
    pub fn empty(id: PartitionId, topic: &str, now_ms: i64) -> Self {
        Self {
            id,
            topic: topic.to_owned(),
            owner_epoch: OwnerEpoch::default(),
            offline: None,
            log_start: Offset::ZERO,
            last_event: 0,
            segment_durable: Boundary::default(),
            written_back: Position::default(),
            end: Boundary::default(),
            epochs: EpochCache::default(),
            complete: VecDeque::new(),
            active: SegmentFacts::empty(Offset::ZERO, now_ms),
            producers: ProducerStates::default(),
        }
    }

    /// The same under another key, which only a rule that is left out asks for.
    pub fn renamed(self, id: PartitionId) -> Self {
        Self { id, ..self }
    }

    /// The same, of another owner.
    pub fn owned_by(self, owner_epoch: OwnerEpoch) -> Self {
        Self {
            owner_epoch,
            ..self
        }
    }

    /// The owner epoch that stood when it was made.
    pub fn owner_epoch(&self) -> OwnerEpoch {
        self.owner_epoch
    }

    /// Its key.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Why it cannot be used, until it is repaired.
    pub fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// End of the last whole batch in segment files.
    pub fn segment_durable(&self) -> Boundary {
        self.segment_durable
    }

    /// First byte that is not in a segment file.
    pub fn written_back(&self) -> Position {
        self.written_back
    }

    /// The log end, and where it is.
    pub fn end(&self) -> Boundary {
        self.end
    }

    /// Where leader epochs begin.
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    /// Segments that are no longer appended to, oldest first.
    pub fn complete(&self) -> &VecDeque<SegmentFacts> {
        &self.complete
    }

    /// The segment that is appended to.
    pub fn active(&self) -> &SegmentFacts {
        &self.active
    }

    /// All segments, oldest first, the active one last.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &SegmentFacts> {
        self.complete.iter().chain([&self.active])
    }

    /// Its idempotent producers.
    pub fn producers(&self) -> &ProducerStates {
        &self.producers
    }

    /// What a batch at the log end does: it is counted, its epoch and its producer are noted.
    pub fn apply_batch(&mut self, batch: &AppliedBatch<'_>) {
        self.active.count(
            batch.last_offset,
            u64::from(batch.size_bytes),
            batch.max_timestamp_ms,
        );
        self.epochs.observe(batch.leader_epoch, batch.base_offset);
        if let Some(producer) = batch.producer {
            self.producers
                .apply(producer, batch.base_offset, batch.producers_ms);
        }
        self.end.offset = batch.last_offset.plus(1);
        self.end.at.byte += u64::from(batch.size_bytes);
    }

    /// What an event does; one that is included already does nothing. Gives the segments that others
    /// have replaced, and those.
    pub fn apply_event(&mut self, event: &PartitionEvent) -> Option<Replacement> {
        if event.number <= self.last_event {
            return None;
        }
        self.last_event = event.number;
        match &event.change {
            EventChange::LogStart(log_start) => {
                self.raise_log_start(*log_start);
                None
            }
            EventChange::SegmentsReplaced(bytes) => self.replace_segments(bytes),
        }
    }

    /// Where the inputs are no longer there, or not yet, the log stays as it is: it has them.
    fn replace_segments(&mut self, bytes: &[u8]) -> Option<Replacement> {
        let Some(replacement) = Replacement::decode(bytes) else {
            self.take_offline("an event of the journal cannot be read".into());
            return None;
        };
        self.complete = self.after(&replacement)?;
        Some(replacement)
    }

    /// What the complete segments are when these have been replaced; none where they are not there.
    pub(super) fn after(&self, replacement: &Replacement) -> Option<VecDeque<SegmentFacts>> {
        let mut segments = self.complete.clone();
        let is_applied = replacement.apply(&mut segments, self.sealed_end());
        is_applied.then_some(segments)
    }

    /// What retention no longer keeps of what is durable.
    pub(super) fn plan_retention(
        &self,
        durable: Offset,
        limits: &RetentionLimits,
        now_ms: i64,
    ) -> RetentionPlan {
        let segments = Vec::from_iter(self.segments().map(SegmentFacts::for_retention));
        plan_retention(&segments, self.log_start, durable, limits, now_ms)
    }

    /// Where the last sealed segment ends: what lies before is in segment files that nothing is written
    /// to any more.
    pub fn sealed_end(&self) -> Offset {
        self.written_back.segment
    }

    /// The facts of these sealed segments, one behind the other; none where they are no longer that.
    pub fn sealed(&self, ids: &[SegmentId]) -> Option<Vec<SegmentFacts>> {
        let place = replacement::find(ids, &self.complete, self.sealed_end())?;
        Some(self.complete.range(place).copied().collect())
    }

    /// Goes on in a new segment, named by the log end.
    pub fn begin_segment(&mut self, now_ms: i64) {
        let end = self.end.offset;
        let next = SegmentFacts::empty(end, now_ms);
        self.complete
            .push_back(std::mem::replace(&mut self.active, next));
        self.end.at = Position::new(end, 0);
    }

    /// Takes it out of use until it is repaired; the first reason stays.
    pub fn take_offline(&mut self, reason: String) {
        self.offline.get_or_insert(reason);
    }

    /// Everything up to the end is in segment files.
    pub fn all_written_back(&mut self) {
        self.segment_durable = self.end;
        self.written_back = self.end.at;
    }

    /// Everything that the journal has is applied: the log starts within it, and segments before its
    /// start are no longer part of it.
    pub fn end_replay(&mut self) {
        self.log_start = self.log_start.min(self.end.offset);
        let log_start = self.log_start;
        self.epochs.truncate_from_start(log_start);
        self.complete.retain(|facts| facts.end_offset > log_start);
    }

    pub(super) fn raise_log_start(&mut self, log_start: Offset) {
        if log_start > self.log_start {
            self.log_start = log_start;
            self.epochs.truncate_from_start(log_start);
        }
    }

    /// What does not fit together, if anything: marks and byte positions in their order, segments
    /// without gaps.
    pub fn check(&self) -> Result<(), &'static str> {
        let (active, end) = (&self.active, self.end);
        let mut next = self.complete.front().map(|facts| facts.base_offset);
        let follows = |facts: &SegmentFacts| {
            next.replace(facts.end_offset) == Some(facts.base_offset)
                && facts.base_offset <= facts.end_offset
        };
        let first = self.segments().next().map(|facts| facts.base_offset);
        let last_epoch = self.epochs.latest().map(|last| last.start_offset);
        let rules = [
            (self.log_start <= end.offset, "log start beyond log end"),
            (
                first.is_some_and(|first| first <= self.log_start),
                "log start before the first segment",
            ),
            (
                self.segment_durable.offset <= end.offset,
                "segment-durable beyond log end",
            ),
            (
                self.segment_durable.at <= self.written_back,
                "segment-durable beyond what is written back",
            ),
            (self.written_back <= end.at, "written back beyond log end"),
            (
                end.at == Position::new(active.base_offset, active.size_bytes)
                    && end.offset == active.end_offset,
                "log end is not that of the active segment",
            ),
            (self.complete.iter().all(follows), "a gap between segments"),
            (
                active.dense && active.generation == 0,
                "the active segment was rewritten",
            ),
            (
                self.complete
                    .back()
                    .is_none_or(|last| last.end_offset == active.base_offset),
                "a gap before the active segment",
            ),
            (
                last_epoch.is_none_or(|start| start <= end.offset),
                "a leader epoch beyond log end",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(broken),
            None => Ok(()),
        }
    }

    /// What an empty partition of this topic takes in a checkpoint at most.
    pub fn most_bytes_of_empty(topic: &str) -> usize {
        FIXED_BYTES + topic.len() + EPOCH_BYTES + SEGMENT_BYTES
    }

    /// What it takes in a checkpoint at most, as long as it has no more segments and producers.
    pub fn most_bytes(&self) -> usize {
        let texts = self.topic.len() + self.offline.as_ref().map_or(0, String::len);
        let epochs = (self.epochs.entries().len() + 1) * EPOCH_BYTES;
        let segments = (self.complete.len() + 1) * SEGMENT_BYTES;
        FIXED_BYTES + texts + epochs + segments + self.producers.len() * PRODUCER_BYTES
    }

    /// Its bytes, behind what is in `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(VERSION);
        out.put_u128(self.id.topic.0.as_u128());
        out.put_i32(self.id.index.0);
        put_text(out, &self.topic);
        out.put_u32(self.owner_epoch.0);
        out.put_u8(u8::from(self.offline.is_some()));
        if let Some(reason) = &self.offline {
            put_text(out, reason);
        }
        let names_final = holds(Rule::CheckpointNamesFinalMarks);
        out.put_i64(if names_final { self.log_start.0 } else { 0 });
        out.put_u64(self.last_event);
        put_boundary(out, self.segment_durable);
        put_position(out, self.written_back);
        put_boundary(out, self.end);
        out.put_u32(self.epochs.entries().len() as u32);
        for entry in self.epochs.entries() {
            out.put_i32(entry.epoch.0);
            out.put_i64(entry.start_offset.0);
        }
        out.put_u32(self.complete.len() as u32 + 1);
        for segment in self.segments() {
            segment.encode(out);
        }
        let length_at = out.len();
        out.put_u32(0);
        let start = out.len();
        self.producers.encode_full_into(self.end.offset, out);
        let length = (out.len() - start) as u32;
        if let Some(field) = out.get_mut(length_at..start) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Reads what [`Snapshot::encode`] wrote, and nothing behind it. One that does not
    /// [`Snapshot::check`] is offline, and no more is.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, SnapshotError> {
        let bytes = &mut bytes;
        match bytes.try_get_u16()? {
            VERSION => {}
            other => return Err(SnapshotError::Version(other)),
        }
        let id = PartitionId {
            topic: TopicId(uuid::Uuid::from_u128(bytes.try_get_u128()?)),
            index: PartitionIndex(bytes.try_get_i32()?),
        };
        let topic = get_text(bytes)?;
        let owner_epoch = OwnerEpoch(bytes.try_get_u32()?);
        let offline = match bytes.try_get_u8()? {
            0 => None,
            _ => Some(get_text(bytes)?),
        };
        let log_start = Offset(bytes.try_get_i64()?);
        let last_event = bytes.try_get_u64()?;
        let segment_durable = get_boundary(bytes)?;
        let written_back = get_position(bytes)?;
        let end = get_boundary(bytes)?;
        let epochs = get_epochs(bytes)?;
        let mut complete = get_segments(bytes)?;
        let active = complete.pop_back();
        let mut snapshot = Self {
            id,
            topic,
            owner_epoch,
            offline,
            log_start,
            last_event,
            segment_durable,
            written_back,
            end,
            epochs,
            complete,
            active: active.ok_or(SnapshotError::Malformed("no segment"))?,
            producers: get_producers(bytes, end.offset)?,
        };
        if !bytes.is_empty() {
            return Err(SnapshotError::Malformed("bytes behind the end"));
        }
        if let Err(broken) = snapshot.check() {
            snapshot.take_offline(format!("its checkpoint does not fit together: {broken}"));
        }
        Ok(snapshot)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text
        .get(..text.floor_char_boundary(usize::from(u16::MAX)))
        .unwrap_or_default();
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn get_text(bytes: &mut &[u8]) -> Result<String, SnapshotError> {
    let length = usize::from(bytes.try_get_u16()?);
    let (text, rest) = bytes
        .split_at_checked(length)
        .ok_or(SnapshotError::Truncated)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SnapshotError::Malformed("text"))
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.put_i64(position.segment.0);
    out.put_u64(position.byte);
}

fn get_position(bytes: &mut &[u8]) -> Result<Position, SnapshotError> {
    let segment = Offset(bytes.try_get_i64()?);
    Ok(Position::new(segment, bytes.try_get_u64()?))
}

fn put_boundary(out: &mut Vec<u8>, boundary: Boundary) {
    out.put_i64(boundary.offset.0);
    put_position(out, boundary.at);
}

fn get_boundary(bytes: &mut &[u8]) -> Result<Boundary, SnapshotError> {
    Ok(Boundary {
        offset: Offset(bytes.try_get_i64()?),
        at: get_position(bytes)?,
    })
}

fn get_segments(bytes: &mut &[u8]) -> Result<VecDeque<SegmentFacts>, SnapshotError> {
    let count = counted(bytes, SEGMENT_BYTES)?;
    let mut segments = VecDeque::with_capacity(count);
    for _ in 0..count {
        segments.push_back(SegmentFacts::decode(bytes)?);
    }
    Ok(segments)
}

fn get_epochs(bytes: &mut &[u8]) -> Result<EpochCache, SnapshotError> {
    let mut epochs = EpochCache::default();
    for _ in 0..counted(bytes, EPOCH_BYTES)? {
        epochs.assign(
            LeaderEpoch(bytes.try_get_i32()?),
            Offset(bytes.try_get_i64()?),
        );
    }
    Ok(epochs)
}

fn get_producers(bytes: &mut &[u8], end: Offset) -> Result<ProducerStates, SnapshotError> {
    let length = counted(bytes, 1)?;
    let (full, rest) = bytes
        .split_at_checked(length)
        .ok_or(SnapshotError::Truncated)?;
    *bytes = rest;
    match ProducerStates::decode_full(full, DEFAULT_MAX_PRODUCERS) {
        Ok((offset, producers)) if offset == end => Ok(producers),
        _ => Err(SnapshotError::Malformed("producers")),
    }
}

/// A count of things that take at least `each` bytes.
fn counted(bytes: &mut &[u8], each: usize) -> Result<usize, SnapshotError> {
    let count = bytes.try_get_u32()? as usize;
    match count <= bytes.remaining() / each {
        true => Ok(count),
        false => Err(SnapshotError::Truncated),
    }
}

#[cfg(test)]
pub(in crate::log) mod tests {
    use super::*;
    use crate::model::{ProducerEpoch, ProducerId};

    /// This version's bytes of [`example`]; later builds must read it.
    const FIXTURE: &str = include_str!("../../../tests/fixtures/partition-snapshot-3.hex");

    fn batch(base: i64, last: i64, size_bytes: u32, epoch: i32) -> AppliedBatch<'static> {
        AppliedBatch {
            base_offset: Offset(base),
            last_offset: Offset(last),
            size_bytes,
            max_timestamp_ms: 1_700_000_000_000 + last,
            leader_epoch: LeaderEpoch(epoch),
            producer: None,
            producers_ms: 1_700_000_000_500,
        }
    }

    /// Two segments; the first, up to 10, has 9,000 bytes of which 8,192 are written back, with a batch
    /// that ends at byte 8,000. The second has one batch of 700 bytes.
    pub fn example(log_start: i64) -> Snapshot {
        let id = PartitionId {
            topic: TopicId::ZERO,
            index: PartitionIndex(3),
        };
        let mut snapshot = Snapshot::empty(id, "t", 1_700_000_000_000).owned_by(OwnerEpoch(4));
        snapshot.apply_batch(&batch(0, 7, 8_000, 0));
        snapshot.segment_durable = snapshot.end;
        snapshot.written_back = Position::new(Offset(0), 8_192);
        snapshot.apply_batch(&batch(8, 9, 1_000, 2));
        snapshot.begin_segment(1_700_000_000_900);
        let producer = ProducerBatch {
            producer_id: ProducerId(77),
            producer_epoch: ProducerEpoch(1),
            first_sequence: 5,
            last_offset_delta: 1,
            max_timestamp_ms: 1_700_000_000_011,
            is_control: false,
        };
        snapshot.apply_batch(&AppliedBatch {
            producer: Some(&producer),
            ..batch(10, 11, 700, 2)
        });
        snapshot.apply_event(&PartitionEvent {
            number: 1,
            change: EventChange::LogStart(Offset(log_start)),
        });
        snapshot
    }

    /// The same, written back up to another byte.
    pub fn example_at(log_start: i64, written_back: Position) -> Snapshot {
        Snapshot {
            written_back,
            ..example(log_start)
        }
    }

    fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes);
        bytes
    }

    #[test]
    fn bytes_that_are_kept_are_read() {
        let hex: String = FIXTURE.split_whitespace().collect();
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        assert_eq!(Snapshot::decode(&bytes), Ok(example(9)));
        assert_eq!(bytes_of(&example(9)), bytes);
    }

    #[test]
    fn it_takes_no_more_than_it_says() {
        let mut snapshot = example(9);
        for number in 0..300 {
            let (base, epoch) = (snapshot.end.offset.0, 3 + number / 100);
            let producer = ProducerBatch {
                producer_id: ProducerId(i64::from(number % 40)),
                producer_epoch: ProducerEpoch(0),
                first_sequence: number / 40,
                last_offset_delta: 0,
                max_timestamp_ms: 0,
                is_control: false,
            };
            snapshot.apply_batch(&AppliedBatch {
                producer: Some(&producer),
                ..batch(base, base, 100, epoch)
            });
            if number % 50 == 0 {
                snapshot.begin_segment(0);
            }
            let bytes = bytes_of(&snapshot).len() + 4;
            assert!(bytes <= snapshot.most_bytes(), "{number}: {bytes}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = bytes_of(&example(9));
        for end in 0..bytes.len() {
            let cut = bytes.get(..end).unwrap();
            assert!(Snapshot::decode(cut).is_err(), "{end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let behind = SnapshotError::Malformed("bytes behind the end");
        assert_eq!(Snapshot::decode(&longer), Err(behind));
    }

    #[test]
    fn an_event_counts_once() {
        let mut snapshot = example(9);
        let log_start = |number, offset| PartitionEvent {
            number,
            change: EventChange::LogStart(Offset(offset)),
        };
        snapshot.apply_event(&log_start(1, 11));
        assert_eq!(snapshot.log_start(), Offset(9), "it includes event 1");
        snapshot.apply_event(&log_start(2, 8));
        assert_eq!(snapshot.log_start(), Offset(9));
        snapshot.apply_event(&log_start(3, 10));
        assert_eq!((snapshot.log_start(), snapshot.last_event), (Offset(10), 3));
    }

    #[test]
    fn segments_are_replaced_where_they_are_sealed() {
        let facts = |end| SegmentFacts {
            generation: 1,
            dense: false,
            end_offset: Offset(end),
            size_bytes: 500,
            ..SegmentFacts::empty(Offset(0), 0)
        };
        let replaced = |number, end| PartitionEvent {
            number,
            change: EventChange::SegmentsReplaced(
                Replacement {
                    inputs: vec![SegmentId::default()],
                    outputs: vec![facts(end)],
                }
                .encode()
                .into(),
            ),
        };
        let mut snapshot = example(9);
        assert_eq!(snapshot.apply_event(&replaced(2, 10)), None, "not sealed");
        snapshot.all_written_back();
        assert_eq!(snapshot.apply_event(&replaced(2, 10)), None, "once");
        assert!(snapshot.apply_event(&replaced(3, 10)).is_some());
        assert_eq!(snapshot.complete, [facts(10)]);
        assert_eq!((snapshot.check(), snapshot.last_event), (Ok(()), 3));
        assert_eq!(Snapshot::decode(&bytes_of(&snapshot)), Ok(snapshot));
        let mut unreadable = example(9);
        let change = EventChange::SegmentsReplaced([1, 2][..].into());
        unreadable.apply_event(&PartitionEvent { number: 2, change });
        assert!(unreadable.offline().is_some());
    }

    #[test]
    fn what_does_not_fit_together_is_offline() {
        type Break = fn(&mut Snapshot);
        let breaks: [Break; 10] = [
            |s| s.active.dense = false,
            |s| s.active.generation = 1,
            |s| s.log_start = Offset(13),
            |s| s.segment_durable.offset = Offset(13),
            |s| s.segment_durable.at.byte = 8_193,
            |s| s.written_back = Position::new(Offset(10), 701),
            |s| s.end.at.byte = 699,
            |s| s.active.end_offset = Offset(11),
            |s| s.complete.front_mut().unwrap().end_offset = Offset(9),
            |s| s.complete.front_mut().unwrap().base_offset = Offset(10),
        ];
        for (number, broken) in breaks.into_iter().enumerate() {
            let mut snapshot = example(9);
            broken(&mut snapshot);
            assert!(snapshot.check().is_err(), "{number}");
            let read = Snapshot::decode(&bytes_of(&snapshot)).unwrap();
            assert!(read.offline().is_some(), "{number}");
            snapshot.offline = read.offline.clone();
            assert_eq!(read, snapshot, "{number}: kept as it is");
        }
        assert_eq!(example(9).check(), Ok(()));
    }
}
