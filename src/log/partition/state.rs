//! One partition's log as a state machine: every change is a method here, and nothing else changes it.
//!
//! Pure: no I/O, no waiting, no clock. What has to happen outside comes back as a value: what to
//! journal, what to write to a segment file, what was sealed. Whoever calls does that and says so:
//!
//! | call | when | what comes back |
//! |---|---|---|
//! | [`State::accept`] | a batch has its room | what to journal |
//! | [`State::completed`] | its entry is in completed journal writes | bytes that could be written back |
//! | [`State::flushed`] | the journal was flushed, below level `fsync` | |
//! | [`State::next_write_back`] | a write-back begins | what to write where |
//! | [`State::written_back`] | it is in the segment file | the segment that it has sealed |
//! | [`State::begin_segment`] | the active segment ends, and a file is prepared for the next | |
//! | [`State::name_file`] | the journal has all before a segment, and its file got its name | |
//! | [`State::next_event`], [`State::replace`] | something is to change that is no batch | the event to journal |
//! | [`State::apply_event`] | it is in completed journal writes | |
//! | [`State::snapshot`], [`State::restore`] | a checkpoint, a start | the durable form, and back |
//!
//! An example. Batches of 3,000 bytes at offsets 0, 1 and 2 are accepted: log end 3, byte 9,000. The
//! journal completes the first two: durable 2, journaled byte 6,000. A write-back takes whole blocks
//! below that, 0 to 4,096: written back is byte 4,096, and segment-durable is offset 1 (byte 3,000),
//! the last whole batch below. The third completes, and the journal needs its space: what is left goes,
//! 4,096 to 9,000, its last block unfinished and padded with zeros. The next batch's entry begins at
//! 8,192 again, that block's boundary, so that replay never writes behind a block that it does not have.
//!
//! After each change the marks and byte positions must be in their order ([`State::check`]). Where
//! they are not, the partition is taken out of use, and the process goes on.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::log::error::StorageError;
use crate::log::files::partition_files::SegmentId;
use crate::log::journal::{EventChange, PartitionEvent, Pieces, Sequence};
use crate::log::options::{Durability, LogConfig};
use crate::log::partition::effects::{
    AcceptedEntry, IndexGrowth, MissingMemory, Restored, SealedSegment, WriteBack,
};
use crate::log::partition::marks::Marks;
use crate::log::partition::producers::{ProducerBatch, ProducerError, Verdict};
use crate::log::partition::retention::{RetentionLimits, RetentionPlan};
use crate::log::partition::roll_plan::{IncomingBatch, RollLimits, RoomAsk, should_roll};
use crate::log::partition::snapshot::{AppliedBatch, Snapshot};
use crate::log::partition::tail::{ChunkSizes, Tail, TailBatch};
use crate::log::partition::write_back_plan::{
    Urgency, WriteBackPlan, WriteBackState, plan_write_back,
};
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::{IndexedBatch, SegmentIndex};
use crate::log::segment::open_segment::{
    OpenSegment, Reservation, ReservedFile, ReservedSpace, RolledSegment,
};
use crate::log::segment::position::{Boundary, Position, block_floor};
use crate::log::segment::replacement::Replacement;
use crate::log::tracked::Tracked;
use crate::model::batch::{BatchView, HEADER_BYTES, stamp};
use crate::model::{LeaderEpoch, Offset, ProducerId};
use crate::rt::{Buf, BufMut, Permit};

/// A partition's log.
pub struct State {
    /// As of the log end.
    now: Tracked<Snapshot>,
    /// The epoch under which it is led.
    leader_epoch: LeaderEpoch,
    config: LogConfig,
    durability: Durability,
    /// Everything below is as safe as the durability level promises.
    durable: Offset,
    /// Everything below is in completed journal writes.
    completed: Boundary,
    /// Everything below is safely in the journal, so that it may be written back.
    journaled: Boundary,
    tail: Tail,
    /// What the last of the complete segments need that are not sealed yet, oldest first.
    rolled: VecDeque<RolledSegment>,
    /// The segment that is appended to, beside its facts.
    active: OpenSegment,
    space: ReservedSpace,
    /// Room is given for a batch: memory at the log's end stays.
    is_held: bool,
    /// For that, a chunk was not given up.
    is_kept_back: bool,
    /// The next entry begins at its block's boundary: the block before was written back unfinished, or
    /// the run has no entry of this partition yet.
    repeats_block: bool,
    /// Journaled entries that reach beyond what is written back, oldest first.
    pending: VecDeque<PendingEntry>,
    /// Number of the last event that was handed out.
    last_event: u64,
    /// Segments whose place others take as soon as the journal has that event.
    replacing: Vec<SegmentId>,
    /// Why it cannot be used: it is offline, or was deleted.
    unusable: Option<StorageError>,
}

/// Journal entries up to a byte, and the earliest write that may hold some of them.
#[derive(Clone, Copy, Debug)]
struct PendingEntry {
    first: Sequence,
    end: Position,
}

impl State {
    /// A log as recovery has left it: everything that it has is in segment files, unless it is offline.
    pub fn restore(
        from: Restored,
        leader_epoch: LeaderEpoch,
        config: LogConfig,
        durability: Durability,
    ) -> Self {
        let now = from.snapshot;
        let end = now.end;
        let mut state = Self {
            // A batch tells of an epoch as well, should the metadata have been put back from a copy.
            leader_epoch: now
                .epochs
                .latest()
                .map_or(leader_epoch, |last| last.epoch.max(leader_epoch)),
            config,
            durability,
            durable: end.offset,
            completed: end,
            journaled: end,
            tail: Tail::new(end.at),
            rolled: VecDeque::new(),
            active: OpenSegment::named(from.index),
            space: ReservedSpace::default(),
            is_held: false,
            is_kept_back: false,
            repeats_block: true,
            pending: VecDeque::new(),
            last_event: now.last_event,
            replacing: Vec::new(),
            unusable: now.offline.clone().map(StorageError::PartitionOffline),
            now: Tracked::new(now),
        };
        if state.unusable.is_none() {
            state.check_all();
        }
        state
    }

    /// Its durable form, as of the log end.
    pub fn snapshot(&self) -> &Tracked<Snapshot> {
        &self.now
    }

    /// The earliest journal write that still holds something of it that no segment file has.
    pub fn needs_journal_from(&self) -> Option<Sequence> {
        self.pending.front().map(|entry| entry.first)
    }

    // --- use ---

    /// Fails when the partition cannot be used.
    pub fn check_usable(&self) -> Result<(), StorageError> {
        match &self.unusable {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Whether it can be used.
    pub fn is_usable(&self) -> bool {
        self.unusable.is_none()
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        self.unusable == Some(StorageError::Deleted)
    }

    /// Takes it out of use until it is repaired; the first reason stays.
    pub fn take_offline(&mut self, reason: String) {
        if self.unusable.is_none() {
            self.now.take_offline(reason.clone());
            self.unusable = Some(StorageError::PartitionOffline(reason));
        }
    }

    /// Takes it out of use for this run: what it lacks may be there at the next start.
    pub fn take_offline_for_now(&mut self, reason: String) {
        self.unusable
            .get_or_insert(StorageError::PartitionOffline(reason));
    }

    /// It is deleted: nothing can be done with it from here on.
    pub fn delete(&mut self) {
        self.unusable = Some(StorageError::Deleted);
    }

    /// Lets go of memory and journal; nobody works on it any more.
    pub fn clear(&mut self) {
        self.tail.clear();
        self.pending.clear();
    }

    // --- what others look at ---

    /// Where the log stands.
    pub fn marks(&self) -> Marks {
        Marks {
            log_start: self.now.log_start,
            segment_durable: self.now.segment_durable.offset,
            durable: self.durable,
            log_end: self.now.end.offset,
        }
    }

    /// The epoch under which it is led now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Leads under a higher epoch from now on; a lower or equal one changes nothing.
    pub fn raise_epoch(&mut self, epoch: LeaderEpoch) {
        self.leader_epoch = self.leader_epoch.max(epoch);
    }

    /// The topic's values.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Replaces the topic's values.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The recent bytes.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Segments that are whole in their files, oldest first.
    pub fn sealed_count(&self) -> usize {
        self.now.complete.len() - self.rolled.len()
    }

    /// The index of the segment that is appended to.
    pub fn active_index(&self) -> &SegmentIndex {
        &self.active.index
    }

    /// Of a segment that is not sealed, the index is in memory.
    pub fn open_index(&self, base_offset: Offset) -> Option<&SegmentIndex> {
        self.open_segment(base_offset).map(|open| &open.index)
    }

    /// Gives the index of a segment that is not sealed what it lacks since the start, unless it has it by
    /// now; `in_files` of its entries are in its files.
    pub fn complete_index(
        &mut self,
        base_offset: Offset,
        before: SegmentIndex,
        in_files: (usize, usize),
    ) {
        if let Some(open) = self.open_segment_mut(base_offset) {
            open.complete_index(before, in_files);
        }
    }

    /// The number under which a segment's file is, while it has not the name of the base offset.
    pub fn prepared_file(&self, base_offset: Offset) -> Option<u64> {
        self.open_segment(base_offset)?.prepared()
    }

    /// A segment's file has the name of its base offset, durably.
    pub fn name_file(&mut self, base_offset: Offset) {
        if let Some(open) = self.open_segment_mut(base_offset) {
            open.name();
        }
    }

    fn open_segment(&self, base_offset: Offset) -> Option<&OpenSegment> {
        if self.now.active.base_offset == base_offset {
            return Some(&self.active);
        }
        let rolled = self.now.complete.range(self.sealed_count()..);
        let mut both = rolled.zip(&self.rolled);
        let found = both.find(|(facts, _)| facts.base_offset == base_offset)?;
        Some(&found.1.open)
    }

    fn open_segment_mut(&mut self, base_offset: Offset) -> Option<&mut OpenSegment> {
        if self.now.active.base_offset == base_offset {
            return Some(&mut self.active);
        }
        let sealed = self.sealed_count();
        let mut both = self.now.complete.range(sealed..).zip(&mut self.rolled);
        let found = both.find(|(facts, _)| facts.base_offset == base_offset)?;
        Some(&mut found.1.open)
    }

    // --- accepting ---

    /// Whether the next checkpoint has one more producer with a batch of it.
    pub fn is_new_producer(&self, producer: ProducerId) -> bool {
        self.now.producers.get(producer).is_none()
    }

    /// What the partition's producers say to a batch.
    pub fn judge(&self, producer: &ProducerBatch) -> Result<Verdict, ProducerError> {
        self.now.producers.check(producer)
    }

    /// Whether the active segment must end before a batch that is no more than what is asked for.
    pub fn rolls_for(&self, ask: &RoomAsk) -> bool {
        let index_full = self.active.index.is_full(self.config.segment_index_bytes);
        let incoming = IncomingBatch {
            last_offset: self.now.end.offset.plus(i64::from(ask.records) - 1),
            max_timestamp_ms: ask.max_timestamp_ms,
            size_bytes: ask.bytes as u64,
        };
        let limits = RollLimits::of(&self.config, self.now.id, self.now.active.base_offset);
        let active = self.now.active.for_rolling(index_full);
        should_roll(&active, &incoming, &limits, ask.now_ms).is_some()
    }

    /// The active segment ends, and the next one begins at the log end, in the file that is prepared.
    pub fn begin_segment(&mut self, now_ms: i64) {
        let end = self.now.end.offset;
        let next = self.space.begin_segment(end);
        self.rolled.push_back(RolledSegment {
            open: std::mem::replace(&mut self.active, next),
            producers: self.now.producers.encode_kafka(),
        });
        self.now.begin_segment(now_ms);
        self.tail.start_segment(end);
        self.completed = self.settled(self.completed);
        self.journaled = self.settled(self.journaled);
        self.check_all();
    }

    /// The end of a segment that has ended is the beginning of the next one.
    fn settled(&self, boundary: Boundary) -> Boundary {
        if self.rolled.is_empty() {
            return boundary;
        }
        let complete = &self.now.complete;
        let following = complete.partition_point(|facts| facts.base_offset <= boundary.at.segment);
        let next = complete.get(following).unwrap_or(&self.now.active);
        match boundary.offset == next.base_offset {
            true => Boundary {
                at: Position::new(next.base_offset, 0),
                ..boundary
            },
            false => boundary,
        }
    }

    /// Space that so many bytes more lack, in the active segment's file or, where that `rolls`, in the
    /// next one's; steps double from the first to the last one.
    pub fn reservation(
        &self,
        batch_bytes: u64,
        rolls: bool,
        steps: (u64, u64),
    ) -> Option<Reservation> {
        let batch = (self.now.end.at, batch_bytes);
        self.space
            .missing(batch, rolls, self.config.segment_bytes, steps)
    }

    /// A file has its space up to here, durably.
    pub fn reserved(&mut self, file: ReservedFile, bytes: u64) {
        self.space.reached(file, bytes);
    }

    /// The number of the file that is prepared for the next segment, if there is one; it is none of the
    /// log's any more.
    pub fn take_next_file(&mut self) -> Option<u64> {
        self.space.take_next()
    }

    /// The active segment and its end, when everything is written back and its file is not as it would be
    /// found: it has space behind its end, which counts as given back, or no name yet.
    pub fn give_back_reserved(&mut self) -> Option<(Offset, u64)> {
        let end = self.now.end.at;
        let is_longer = self.space.cut_active(end.byte);
        let is_whole = self.unusable.is_none() && self.now.written_back == end;
        let is_due = is_whole && (is_longer || self.active.prepared().is_some());
        is_due.then_some((self.now.active.base_offset, end.byte))
    }

    /// Memory that a batch of so many bytes lacks, behind the log end or, where that `rolls`, in the next
    /// segment.
    pub fn missing_memory(&self, batch_bytes: usize, rolls: bool) -> MissingMemory {
        if rolls {
            return MissingMemory {
                bytes: batch_bytes.saturating_sub(self.tail.spare_bytes()),
                block: None,
            };
        }
        let block = self.tail.missing_block();
        let used = block.map_or(0, |(_, used)| used);
        MissingMemory {
            bytes: (batch_bytes + used).saturating_sub(self.tail.room()),
            block,
        }
    }

    /// Room is given for a batch, so that memory which it counts on stays until [`State::let_go`].
    pub fn hold_memory(&mut self) {
        self.is_held = true;
    }

    /// The room was used or given back. Tells whether a chunk could be given up meanwhile.
    pub fn let_go(&mut self) -> bool {
        self.is_held = false;
        std::mem::take(&mut self.is_kept_back)
    }

    /// Takes memory for batches to come, and the block at the log's end into the first of it, where
    /// that is missing.
    pub fn take_memory(
        &mut self,
        chunks: impl IntoIterator<Item = (BufMut, Permit)>,
        block: Option<Buf>,
    ) {
        let mut block = block.filter(|_| self.tail.missing_block().is_some());
        for (mut buf, permit) in chunks {
            match block.take() {
                Some(held) => {
                    buf.extend_from_slice(&held);
                    self.tail.load_block(buf, permit);
                }
                None => self.tail.add_spare(buf, permit),
            }
        }
    }

    /// Assigns offsets and fixes the order of a batch that has its room in memory. `first` is the
    /// earliest journal write that its entry may be part of.
    pub fn accept(
        &mut self,
        batch: &BatchView<'_>,
        producer: Option<&ProducerBatch>,
        first: Sequence,
        producers_ms: i64,
    ) -> AcceptedEntry {
        let (base_offset, at) = (self.now.end.offset, self.now.end.at);
        let last_offset = base_offset.plus(i64::from(batch.last_offset_delta()));
        let applied = AppliedBatch {
            base_offset,
            last_offset,
            size_bytes: batch.bytes().len() as u32,
            max_timestamp_ms: batch.max_timestamp_ms(),
            leader_epoch: self.leader_epoch,
            producer,
            producers_ms,
        };
        self.push(batch, &applied, at);
        self.now.apply_batch(&applied);
        let (from, payload) = self.entry_payload(at);
        self.note_pending(PendingEntry {
            first,
            end: self.now.end.at,
        });
        if self.is_safe_in_memory() {
            self.durable = self.now.end.offset;
        }
        self.check();
        AcceptedEntry {
            base_offset,
            end: self.now.end,
            owner_epoch: self.now.owner_epoch,
            leader_epoch: self.leader_epoch,
            from,
            payload,
        }
    }

    /// Copies the batch behind the tail with what the broker assigns, which lies outside its CRC.
    fn push(&mut self, batch: &BatchView<'_>, applied: &AppliedBatch<'_>, at: Position) {
        let (header, records) = batch.bytes().split_at(HEADER_BYTES);
        let mut stamped = [0; HEADER_BYTES];
        stamped.copy_from_slice(header);
        stamp(&mut stamped, applied.base_offset, applied.leader_epoch);
        self.tail.push(&stamped);
        self.tail.push(records);
        self.tail.list(TailBatch {
            base_offset: applied.base_offset,
            end_offset: applied.last_offset.plus(1),
            at,
            bytes: applied.size_bytes,
            max_timestamp_ms: applied.max_timestamp_ms,
        });
        let indexed = IndexedBatch {
            last_offset: applied.last_offset,
            max_timestamp_ms: applied.max_timestamp_ms,
            position: u32::try_from(at.byte).unwrap_or(u32::MAX),
            size_bytes: applied.size_bytes,
        };
        let interval_bytes = self.config.index_interval_bytes;
        self.active.index.append(&indexed, interval_bytes);
    }

    /// Where the journal entry of the bytes from `at` on begins, and what it holds.
    fn entry_payload(&mut self, at: Position) -> (Position, Pieces) {
        let from = match self.repeats_block && holds(Rule::RepeatUnfinishedBlock) {
            true => at.block_start(),
            false => at,
        };
        self.repeats_block = false;
        let Some(payload) = self.tail.slice(from, self.tail.end().byte) else {
            panic!("bytes that were just accepted are in memory");
        };
        (from, payload)
    }

    fn note_pending(&mut self, entry: PendingEntry) {
        match self.pending.back_mut() {
            Some(last) if last.first == entry.first && last.end.segment == entry.end.segment => {
                last.end = entry.end;
            }
            _ => self.pending.push_back(entry),
        }
    }

    /// Whether a batch counts as safe as soon as it is in memory.
    fn is_safe_in_memory(&self) -> bool {
        self.durability == Durability::Memory || !holds(Rule::AckWaitsForDurable)
    }

    // --- what the journal has done ---

    /// Everything up to `end` is in completed journal writes.
    pub fn completed(&mut self, end: Boundary) {
        let end = self.settled(end);
        self.completed = end;
        if self.durability == Durability::Fsync {
            self.journaled = end;
        }
        self.durable = self.durable.max(end.offset);
        self.check();
    }

    /// Everything in completed journal writes.
    pub fn completed_end(&self) -> Boundary {
        self.completed
    }

    /// The journal was flushed when everything up to `end` was in completed writes.
    pub fn flushed(&mut self, end: Boundary) {
        self.journaled = self.journaled.max(self.settled(end));
        self.check();
    }

    /// An event to be journaled now.
    pub fn next_event(&mut self, change: EventChange) -> PartitionEvent {
        self.last_event += 1;
        PartitionEvent {
            number: self.last_event,
            change,
        }
    }

    /// The event by which others take the place of sealed segments: none where some of those are gone.
    /// Until it is applied, none goes: a replay, which does not know when files were removed, would find
    /// all of them, and the others that nobody has any more.
    pub fn replace(&mut self, replacement: &Replacement) -> Option<PartitionEvent> {
        self.now.after(replacement)?;
        self.replacing.clone_from(&replacement.inputs);
        let bytes = replacement.encode().into();
        Some(self.next_event(EventChange::SegmentsReplaced(bytes)))
    }

    /// An event is in completed journal writes: it holds from now on.
    pub fn apply_event(&mut self, event: &PartitionEvent) {
        let replaced = self.now.apply_event(event);
        if let EventChange::SegmentsReplaced(_) = event.change {
            self.replacing.clear();
            match replaced
                .as_ref()
                .and_then(|replaced| replaced.outputs.last())
            {
                // What is in memory of them is no longer what their files have.
                Some(last) => self.tail.forget_before(last.end_offset),
                None => self.broken("the segments to be replaced are not there"),
            }
        }
        self.check_all();
    }

    // --- write-back ---

    /// Bytes that could be written back, as far as the segment goes that is next; more than any where it
    /// can be sealed.
    pub fn write_back_bytes(&self) -> u64 {
        let (from, completed) = (self.now.written_back, self.completed.at);
        match completed.segment.cmp(&from.segment) {
            Ordering::Less => 0,
            Ordering::Equal => completed.byte.saturating_sub(from.byte),
            Ordering::Greater => u64::MAX,
        }
    }

    /// The next write-back, if there is anything to write: shares of the bytes in memory, an unfinished
    /// last block as a padded copy, for which `block` gives a buffer of one block.
    pub fn next_write_back(
        &mut self,
        urgency: Urgency,
        max_bytes: u64,
        block: impl FnOnce() -> Option<BufMut>,
    ) -> Option<WriteBack> {
        self.check_usable().ok()?;
        let rolled = (!self.rolled.is_empty()).then(|| self.now.complete.get(self.sealed_count()));
        let state = WriteBackState {
            from: self.now.written_back,
            journaled: self.journaled.at,
            accepted: self.now.end.at,
            rolled_bytes: rolled.flatten().map(|facts| facts.size_bytes),
        };
        let plan = plan_write_back(&state, urgency, max_bytes)?;
        let pieces = self.pieces_of(&plan, block)?;
        self.repeats_block |= plan.is_unfinished() && !plan.seals && !pieces.is_empty();
        Some(WriteBack { plan, pieces })
    }

    fn pieces_of(
        &self,
        plan: &WriteBackPlan,
        block: impl FnOnce() -> Option<BufMut>,
    ) -> Option<Vec<Buf>> {
        if plan.from.byte == plan.to {
            return Some(Vec::new());
        }
        let whole_to = block_floor(plan.to);
        let mut pieces = Vec::from_iter(self.tail.slice(plan.from, whole_to)?);
        if plan.is_unfinished() {
            let last = Position::new(plan.from.segment, whole_to);
            let mut block = block()?;
            for piece in self.tail.slice(last, plan.to)? {
                block.extend_from_slice(&piece);
            }
            block.extend_zeroed(block.room());
            pieces.push(block.freeze());
        }
        Some(pieces)
    }

    /// A write-back is durably in its segment file; gives the segment that it has sealed.
    pub fn written_back(&mut self, plan: &WriteBackPlan) -> Option<SealedSegment> {
        let sealed = match plan.seals {
            true => self.seal_oldest(),
            false => None,
        };
        let upto = match &sealed {
            Some(sealed) => Position::new(sealed.facts.end_offset, 0),
            None => Position::new(plan.from.segment, plan.to),
        };
        self.set_written_back(upto.max(self.now.written_back));
        self.check_all();
        sealed
    }

    fn seal_oldest(&mut self) -> Option<SealedSegment> {
        let facts = *self.now.complete.get(self.sealed_count())?;
        let rolled = self.rolled.pop_front()?;
        Some(SealedSegment {
            facts,
            index: rolled.open.index,
            indexed: rolled.open.indexed,
            producers: rolled.producers,
        })
    }

    fn set_written_back(&mut self, upto: Position) {
        self.now.written_back = upto;
        while self.pending.front().is_some_and(|entry| entry.end <= upto) {
            self.pending.pop_front();
        }
        let following = self.tail.count_while(|batch| batch.end() <= upto);
        let last = following.checked_sub(1);
        let last = last.and_then(|index| self.tail.batches().get(index));
        let durable = &mut self.now.segment_durable;
        if let Some(last) = last.filter(|last| last.end_offset > durable.offset) {
            *durable = Boundary {
                offset: last.end_offset,
                at: last.end(),
            };
        }
        if durable.at.segment < upto.segment {
            durable.at = Position::new(upto.segment, 0);
        }
    }

    /// The sizes of chunks of the tail that could not be given up before.
    pub fn release_chunks(&mut self) -> ChunkSizes {
        self.tail.release(self.now.written_back)
    }

    /// Gives up the oldest chunk of the tail, if everything in it is still in segment files, and no room
    /// counts on it.
    pub fn evict_chunk(&mut self) {
        self.is_kept_back = self.is_held && self.tail.has_one_chunk();
        if !self.is_kept_back {
            self.tail.evict(self.now.written_back);
        }
    }

    /// Index entries of what is safely in the journal that the active segment's files lack, if they are for
    /// so many bytes; they count as written.
    pub fn grow_index(&mut self, at_least_bytes: u64) -> Option<(&SegmentIndex, IndexGrowth)> {
        let safe = self.journaled.offset;
        let (had, now) = self.active.grow_index(safe, at_least_bytes)?;
        let growth = IndexGrowth {
            segment: self.now.active.id(),
            had,
            now,
        };
        Some((&self.active.index, growth))
    }

    // --- the front ---

    /// Forgets a producer, to make room for others.
    pub fn forget_producer(&mut self, producer: ProducerId) {
        self.now.producers.forget(producer);
    }

    /// Forgets producers that have been silent for too long by their time, and gives what retention no
    /// longer keeps by its.
    pub fn retain(&mut self, now_ms: i64, producers_ms: i64) -> RetentionPlan {
        let expiry_ms = self.config.producer_id_expiration_ms;
        if self.now.producers.any_expired(producers_ms, expiry_ms) {
            self.now.producers.remove_expired(producers_ms, expiry_ms);
        }
        let limits = RetentionLimits::of(&self.config);
        self.now.plan_retention(self.durable, &limits, now_ms)
    }

    /// The log starts here from now on, though the journal does not say so (a rule that is left out).
    pub fn raise_log_start(&mut self, log_start: Offset) {
        self.now.raise_log_start(log_start);
        self.check_all();
    }

    /// Takes the oldest sealed segment off the log, if it lies wholly before the log start.
    pub fn remove_oldest(&mut self) -> Option<SegmentFacts> {
        let log_start = self.now.log_start;
        let oldest = self.now.complete.front()?;
        let goes = self.sealed_count() > 0
            && oldest.end_offset <= log_start
            && !self.replacing.contains(&oldest.id());
        goes.then(|| self.now.complete.pop_front()).flatten()
    }

    // --- the order of everything ---

    /// The marks that a batch moves, at every one: log start ≤ durable ≤ log end, segment-durable ≤
    /// durable, nothing journaled that was not accepted, nothing written back that is not journaled.
    fn check(&mut self) {
        let now = &self.now;
        let broken = if now.log_start > self.durable {
            "log start beyond durable"
        } else if now.segment_durable.offset > self.durable {
            "segment-durable beyond durable"
        } else if self.durable > now.end.offset {
            "durable beyond log end"
        } else if self.durable > self.completed.offset && !self.is_safe_in_memory() {
            "durable beyond what the journal has"
        } else if self.completed > now.end || self.journaled > self.completed {
            "journaled beyond log end"
        } else if now.written_back > self.journaled.at && holds(Rule::JournaledBeforeWriteBack) {
            "written back beyond what the journal has"
        } else if self.tail.end() != now.end.at {
            "log end is not that of the tail"
        } else {
            return;
        };
        self.broken(broken);
    }

    /// Everything, at write-backs, rolls and events.
    fn check_all(&mut self) {
        self.check();
        if self.rolled.len() > self.now.complete.len() {
            self.broken("more segments to seal than complete ones");
        }
        if let Err(broken) = self.now.check() {
            self.broken(broken);
        }
    }

    fn broken(&mut self, what: &str) {
        let (marks, completed) = (self.marks(), self.completed);
        let (written_back, end) = (self.now.written_back, self.now.end);
        self.take_offline(format!(
            "{what}: {marks:?}, completed {completed:?}, journaled {:?}, written back \
             {written_back:?}, end {end:?}",
            self.journaled
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::BatchBuilder;
    use crate::model::{PartitionId, PartitionIndex, TopicId};
    use crate::rt::{Arena, BLOCK_BYTES, Budget};

    impl State {
        /// Breaks the order of marks.
        pub fn plant_durable(&mut self, durable: Offset) {
            self.durable = durable;
        }
    }

    struct Machine {
        arena: Arena,
        memory: Budget,
        state: State,
    }

    /// A batch of one record that is so long.
    fn batch(bytes: usize) -> Vec<u8> {
        let of = |value: usize| {
            let mut builder = BatchBuilder::new();
            builder.append(7, None, Some(&vec![1; value]), &[]).unwrap();
            let mut batch = Vec::new();
            builder.append_batch(&mut batch).unwrap();
            batch
        };
        let overhead = of(bytes - 100).len() - (bytes - 100);
        let batch = of(bytes - overhead);
        assert_eq!(batch.len(), bytes);
        batch
    }

    impl Machine {
        fn new() -> Self {
            let id = PartitionId {
                topic: TopicId::ZERO,
                index: PartitionIndex(0),
            };
            let from = Restored {
                snapshot: Snapshot::empty(id, "t", 0),
                index: SegmentIndex::new(Offset::ZERO),
            };
            let config = LogConfig::default();
            Self {
                arena: Arena::new(1 << 24),
                memory: Budget::new(1 << 24),
                state: State::restore(from, LeaderEpoch(4), config, Durability::Fsync),
            }
        }

        fn accept(&mut self, bytes: usize, first: u64) -> AcceptedEntry {
            let missing = self.state.missing_memory(bytes, false).bytes;
            let chunk = self
                .arena
                .alloc(missing.next_multiple_of(BLOCK_BYTES))
                .unwrap();
            let permit = self.memory.try_acquire(chunk.capacity()).unwrap();
            self.state.take_memory([(chunk, permit)], None);
            let batch = batch(bytes);
            let view = BatchView::first(&batch).unwrap();
            self.state.accept(&view, None, Sequence(first), 0)
        }

        fn write_back(&mut self, urgency: Urgency) -> Option<WriteBack> {
            let block = self.arena.alloc(BLOCK_BYTES).ok();
            self.state.next_write_back(urgency, 1 << 20, || block)
        }
    }

    fn at(byte: u64) -> Position {
        Position::new(Offset::ZERO, byte)
    }

    /// The example at the top of this file.
    #[test]
    fn three_batches_on_their_way_to_the_segment() {
        let mut machine = Machine::new();
        let ends: Vec<_> = (0..3).map(|n| machine.accept(3_000, n).end).collect();
        assert_eq!((ends[2].offset, ends[2].at), (Offset(3), at(9_000)));
        machine.state.completed(ends[1]);
        let marks = machine.state.marks();
        assert_eq!((marks.durable, marks.log_end), (Offset(2), Offset(3)));
        let first = machine.write_back(Urgency::Everything).unwrap();
        assert_eq!((first.plan.from, first.plan.to), (at(0), 4_096));
        assert!(machine.state.written_back(&first.plan).is_none());
        let snapshot = machine.state.snapshot();
        assert_eq!(snapshot.written_back(), at(4_096));
        assert_eq!(snapshot.segment_durable().at, at(3_000));
        assert_eq!(machine.state.needs_journal_from(), Some(Sequence(1)));
        machine.state.completed(ends[2]);
        let rest = machine.write_back(Urgency::Everything).unwrap();
        assert_eq!((rest.plan.from, rest.plan.to), (at(4_096), 9_000));
        assert_eq!(
            rest.pieces.iter().map(|piece| piece.len()).sum::<usize>(),
            8_192
        );
        machine.state.written_back(&rest.plan);
        assert_eq!(machine.state.needs_journal_from(), None);
        let next = machine.accept(500, 3);
        assert_eq!((next.from, next.end.at), (at(8_192), at(9_500)));
        assert_eq!(next.leader_epoch, LeaderEpoch(4));
        assert_eq!(machine.state.check_usable(), Ok(()));
    }

    #[test]
    fn a_segment_ends_before_it_is_journaled_and_is_sealed_behind() {
        let mut machine = Machine::new();
        let end = machine.accept(5_000, 0).end;
        let next = machine.state.reservation(1_000, true, (4_096, 4_096));
        let next = next.unwrap();
        assert_eq!((next.file, next.exact), (ReservedFile::Next(0), 4_096));
        machine.state.reserved(next.file, next.exact);
        machine.state.begin_segment(9);
        let second = machine.accept(1_000, 1);
        assert_eq!(second.from, Position::new(Offset(1), 0));
        assert!(machine.state.open_index(Offset(0)).is_some());
        assert_eq!(machine.state.prepared_file(Offset(1)), Some(0));
        assert!(machine.write_back(Urgency::Everything).is_none());
        machine.state.completed(end);
        let all_before = Position::new(Offset(1), 0);
        assert_eq!(machine.state.completed_end().at, all_before);
        let last = machine.write_back(Urgency::Blocks).unwrap();
        assert_eq!((last.plan.to, last.plan.seals), (5_000, true));
        let sealed = machine.state.written_back(&last.plan).unwrap();
        assert_eq!(
            (sealed.facts.size_bytes, sealed.facts.end_offset),
            (5_000, Offset(1))
        );
        let written_back = machine.state.snapshot().written_back();
        assert_eq!(written_back, Position::new(Offset(1), 0));
        assert_eq!(machine.state.sealed_count(), 1);
        assert!(machine.state.open_index(Offset(0)).is_none());
        let event = machine.state.next_event(EventChange::LogStart(Offset(1)));
        assert!(
            machine.state.remove_oldest().is_none(),
            "not before the journal has it"
        );
        machine.state.apply_event(&event);
        assert_eq!(machine.state.remove_oldest(), Some(sealed.facts));
        assert_eq!(machine.state.check_usable(), Ok(()));
    }

    /// Two sealed segments, of which the log start has left the first.
    fn two_sealed() -> (Machine, Vec<SegmentFacts>) {
        let mut machine = Machine::new();
        for number in 0..2 {
            let end = machine.accept(5_000, number).end;
            machine.state.completed(end);
            let next = machine.state.reservation(1_000, true, (4_096, 4_096));
            let next = next.unwrap();
            machine.state.reserved(next.file, next.exact);
            machine.state.begin_segment(9);
            let plan = machine.write_back(Urgency::Everything).unwrap().plan;
            machine.state.written_back(&plan).unwrap();
        }
        let sealed = machine
            .state
            .snapshot()
            .complete()
            .iter()
            .copied()
            .collect();
        (machine, sealed)
    }

    fn merged(sealed: &[SegmentFacts]) -> Replacement {
        let output = SegmentFacts {
            generation: 1,
            dense: false,
            end_offset: Offset(2),
            ..SegmentFacts::empty(Offset(0), 9)
        };
        Replacement {
            inputs: sealed.iter().map(SegmentFacts::id).collect(),
            outputs: vec![output],
        }
    }

    #[test]
    fn segments_that_are_being_replaced_do_not_go() {
        let (mut machine, sealed) = two_sealed();
        let state = &mut machine.state;
        assert!(state.tail().start_offset() == Some(Offset(0)));
        let log_start = state.next_event(EventChange::LogStart(Offset(2)));
        let replaced = state.replace(&merged(&sealed)).unwrap();
        assert_eq!((log_start.number, replaced.number), (1, 2));
        state.apply_event(&log_start);
        assert_eq!(state.remove_oldest(), None, "a replay would find it");
        state.apply_event(&replaced);
        assert_eq!(state.tail().start_offset(), None, "as it was before");
        assert_eq!(state.remove_oldest(), Some(merged(&sealed).outputs[0]));
        assert_eq!(state.check_usable(), Ok(()));
    }

    #[test]
    fn segments_that_are_gone_are_not_replaced() {
        let (mut machine, sealed) = two_sealed();
        let state = &mut machine.state;
        let log_start = state.next_event(EventChange::LogStart(Offset(1)));
        state.apply_event(&log_start);
        assert_eq!(state.remove_oldest(), Some(sealed[0]));
        assert_eq!(state.replace(&merged(&sealed)), None);
        assert_eq!(state.check_usable(), Ok(()));
    }

    #[test]
    fn index_files_grow_where_it_is_worth_it() {
        let mut machine = Machine::new();
        let ends: Vec<_> = (0..4).map(|n| machine.accept(3_000, n).end).collect();
        machine.state.completed(ends[3]);
        let offsets = machine.state.active_index().offsets();
        let lacking = offsets.bytes_between(0, offsets.len());
        assert!(lacking > 4_096, "{lacking}");
        assert!(machine.state.grow_index(lacking + 1).is_none());
        let (_, growth) = machine.state.grow_index(lacking).unwrap();
        assert!(growth.had.0 == 0 && growth.now.0 > 0);
        assert!(
            machine.state.grow_index(0).is_none(),
            "they count as written"
        );
    }

    #[test]
    fn a_broken_order_takes_the_partition_offline() {
        type Break = fn(&mut State);
        let breaks: [(Break, &str); 7] = [
            (|s| s.now.log_start = Offset(2), "log start beyond durable"),
            (
                |s| s.now.segment_durable.offset = Offset(2),
                "segment-durable",
            ),
            (|s| s.durable = Offset(9), "durable beyond log end"),
            (|s| s.durable = Offset(2), "durable beyond what"),
            (|s| s.journaled.offset = Offset(9), "journaled beyond"),
            (|s| s.now.written_back = at(4_096), "written back beyond"),
            (|s| s.now.end.at.byte += 1, "log end is not"),
        ];
        for (number, (broken, says)) in breaks.into_iter().enumerate() {
            let mut machine = Machine::new();
            let end = machine.accept(1_000, 0).end;
            machine.accept(1_000, 1);
            machine.state.completed(end);
            assert_eq!(machine.state.check_usable(), Ok(()));
            broken(&mut machine.state);
            let journaled = machine.state.journaled;
            machine.state.flushed(journaled);
            let error = machine.state.check_usable().unwrap_err().to_string();
            assert!(error.contains(says), "{number}: {error}");
            assert!(machine.state.snapshot().offline().is_some());
            assert!(machine.write_back(Urgency::Everything).is_none());
        }
    }
}
