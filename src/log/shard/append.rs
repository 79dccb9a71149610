//! Appending a batch: judged, given room, then accepted in one step.
//!
//! Everything that can wait or fail comes before the step in which offsets are assigned:
//! [`OpenLog::reserve`] gives a [`Room`] that holds all that a batch can need, and
//! [`Room::accept`] neither waits nor fails. Whoever decides and appends in one step, so that nothing
//! comes between the two, reserves first.

use std::path::PathBuf;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::log::error::{AppendError, StorageError};
use crate::log::files::partition_files::{SegmentId, prepared_name};
use crate::log::files::small_file::sync_names;
use crate::log::journal::{Entry, JournalError, JournalPermit};
use crate::log::partition::effects::AcceptedEntry;
use crate::log::partition::producers::{ProducerBatch, Verdict};
use crate::log::partition::roll_plan::RoomAsk;
use crate::log::partition::snapshot::{PRODUCER_BYTES, SEGMENT_BYTES};
use crate::log::partition::state::State;
use crate::log::partition::write_back_plan::Urgency;
use crate::log::rules::{Rule, holds};
use crate::log::segment::open_segment::{Reservation, ReservedFile};
use crate::log::segment::position::Position;
use crate::log::shard::open_log::{DirIs, OpenLog, ShardStorage};
use crate::log::shard::storage::{HeldRoom, Journaled, Token};
use crate::log::shard::write_back::{name_file, press_write_back};
use crate::model::batch::{BatchView, TimestampType};
use crate::model::{Offset, PartitionSlot};
use crate::rt::{BLOCK_BYTES, Buf, BufMut, File, MutexGuard, Permit, Runtime, TaskClass};

/// Where a batch went. It is safe once [`PartitionLog::wait_durable`](crate::log::PartitionLog::wait_durable) of its end has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The records' timestamp, where the broker set it.
    pub log_append_time_ms: Option<i64>,
    /// The batch was in the log already; these are its original offsets.
    pub duplicate: bool,
}

/// Room for one batch: the partition's turn, memory, space in its segment and in the journal, and in the
/// checkpoints to come. What is not used returns when it is dropped; until then nobody else appends to
/// the partition.
pub struct Room<R: Runtime> {
    log: Rc<OpenLog<R>>,
    ask: RoomAsk,
    /// The active segment ends before the batch; a file is prepared for the next one.
    rolls: bool,
    journal: JournalPermit<R, Token>,
    memory: Memory,
    checkpoint: Option<HeldRoom>,
    _turn: MutexGuard,
}

/// Memory for a batch.
#[derive(Default)]
struct Memory {
    chunks: Chunks,
    room: usize,
    /// The unfinished block at the log's end, where only its segment has it.
    block: Option<(Position, Buf)>,
}

type Chunks = SmallVec<[(BufMut, Permit); 1]>;

impl<R: Runtime> OpenLog<R> {
    /// As [`crate::log::PartitionLog::append`].
    pub async fn append(
        self: &Rc<Self>,
        batch: &[u8],
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let batch = match BatchView::first(batch) {
            Ok(view) if view.bytes().len() == batch.len() => view,
            _ => return Err(AppendError::NotABatch),
        };
        let turn = self.turn.lock().await;
        self.check_usable()?;
        if let Some(duplicate) = self.judge(&batch)? {
            return Ok(duplicate);
        }
        let ask = RoomAsk::of(&batch, now_ms);
        let room = self.make_room(ask, turn).await?;
        Ok(room.accept(&batch))
    }

    /// As [`crate::log::PartitionLog::reserve`].
    pub async fn reserve(self: &Rc<Self>, ask: RoomAsk) -> Result<Room<R>, AppendError> {
        let turn = self.turn.lock().await;
        self.check_usable()?;
        self.make_room(ask, turn).await
    }
}

impl<R: Runtime> Room<R> {
    /// Appends a batch, which was checked, and whose producer was judged: it gets its offsets and its
    /// place in the order. Never waits, never fails, also where a segment ends before it. In a partition
    /// that cannot be used any more it is appended nowhere, and never acknowledged.
    ///
    /// # Panics
    /// When it is more than what the room was asked for.
    pub fn accept(mut self, batch: &BatchView<'_>) -> Appended {
        assert!(self.ask.covers(batch), "a batch goes where its room is");
        let log = self.log.clone();
        if log.check_usable().is_err() {
            let end = log.state.borrow().marks().log_end;
            return appended(batch, end, end);
        }
        let producer = ProducerBatch::of(batch);
        let accepted = {
            let mut state = log.state.borrow_mut();
            if self.rolls {
                state.begin_segment(self.ask.now_ms);
                log.name_too_early();
            }
            let memory = std::mem::take(&mut self.memory);
            state.take_memory(memory.chunks, memory.block.map(|(_, block)| block));
            let first = log.storage.next_entry_from();
            let producers_ms = match producer {
                Some(_) => log.storage.producers_ms(),
                None => 0,
            };
            state.accept(batch, producer.as_ref(), first, producers_ms)
        };
        if let Some(held) = self.checkpoint.take() {
            held.take_all();
        }
        let (base_offset, end_offset) = (accepted.base_offset, accepted.end.offset);
        log.journal_accepted(accepted, &mut self.journal);
        if producer.is_some() {
            let memory = &log.storage.producer_memory;
            memory.count(&log);
            memory.make_room();
        }
        appended(batch, base_offset, end_offset)
    }
}

impl<R: Runtime> Drop for Room<R> {
    fn drop(&mut self) {
        let storage = &self.log.storage;
        let is_kept_back = self.log.state.borrow_mut().let_go();
        if is_kept_back {
            let oldest = self.log.state.borrow().tail().oldest_chunk_bytes();
            storage.tail.release(self.log.slot, [oldest]);
        }
        let unused = std::mem::take(&mut self.memory);
        if is_kept_back || unused.room > 0 {
            drop(unused);
            storage.tail.look_again();
        }
    }
}

fn appended(batch: &BatchView<'_>, base_offset: Offset, end_offset: Offset) -> Appended {
    Appended {
        base_offset,
        end_offset,
        log_append_time_ms: is_log_append_time(batch).then(|| batch.max_timestamp_ms()),
        duplicate: false,
    }
}

impl<R: Runtime> OpenLog<R> {
    fn judge(&self, batch: &BatchView<'_>) -> Result<Option<Appended>, AppendError> {
        let Some(producer) = ProducerBatch::of(batch) else {
            return Ok(None);
        };
        let state = self.state.borrow();
        match state.judge(&producer)? {
            Verdict::Append => Ok(None),
            Verdict::Duplicate {
                base_offset,
                last_offset,
                timestamp_ms,
            } => Ok(Some(Appended {
                base_offset,
                end_offset: last_offset.plus(1),
                log_append_time_ms: is_log_append_time(batch).then_some(timestamp_ms),
                duplicate: true,
            })),
        }
    }

    async fn make_room(
        self: &Rc<Self>,
        ask: RoomAsk,
        turn: MutexGuard,
    ) -> Result<Room<R>, AppendError> {
        self.check_size(ask.bytes as u64)?;
        let (rolls, is_new_producer) = {
            let state = self.state.borrow();
            let is_new = ask.producer.is_some_and(|one| state.is_new_producer(one));
            (state.rolls_for(&ask), is_new)
        };
        let checkpoint = self.hold_checkpoint(rolls, is_new_producer).await?;
        let made = self.make_dir().await;
        made.map_err(|error| self.storage.failed(error))?;
        self.reserve_segment(ask.bytes as u64, rolls).await?;
        // What is carried again is less than a block.
        let journal = self.reserve_journal(ask.bytes + BLOCK_BYTES).await;
        self.check_usable()?;
        let journal = journal.map_err(|error| journal_full(error, ask.bytes))?;
        let memory = self.make_memory(ask.bytes, rolls).await?;
        self.state.borrow_mut().hold_memory();
        Ok(Room {
            log: self.clone(),
            ask,
            rolls,
            journal,
            memory,
            checkpoint,
            _turn: turn,
        })
    }

    /// Waits for memory. While it does, eviction may take the block at the log's end, so what is
    /// needed is looked at again after every wait.
    async fn make_memory(&self, bytes: usize, rolls: bool) -> Result<Memory, AppendError> {
        let mut memory = Memory::default();
        loop {
            self.check_usable()?;
            let missing = self.state.borrow().missing_memory(bytes, rolls);
            if missing.bytes > memory.room {
                memory.give_back();
                self.take_chunks(missing.bytes, &mut memory).await?;
                continue;
            }
            match missing.block {
                Some((at, used)) if memory.block.as_ref().is_none_or(|held| held.0 != at) => {
                    memory.block = Some((at, self.read_block(at, used).await?));
                }
                _ => return Ok(memory),
            }
        }
    }

    fn check_size(&self, batch_bytes: u64) -> Result<(), AppendError> {
        let state = self.state.borrow();
        let limit_bytes = state
            .config()
            .segment_bytes
            .min(self.storage.options.journal_bytes / 2)
            .min(self.storage.options.tail_bytes as u64 / 2);
        match batch_bytes > limit_bytes {
            true => Err(AppendError::TooLarge {
                batch_bytes,
                limit_bytes,
            }),
            false => Ok(()),
        }
    }

    /// Reserves space for a batch, durably: in the active segment's file or, where that ends before it, in
    /// the one that is prepared for the next.
    async fn reserve_segment(&self, batch_bytes: u64, rolls: bool) -> Result<(), AppendError> {
        if !rolls && !holds(Rule::SpaceReserved) {
            return Ok(());
        }
        let options = &self.storage.options;
        let steps = (options.reserve_bytes, options.reserve_max_bytes);
        let Some(wanted) = self.state.borrow().reservation(batch_bytes, rolls, steps) else {
            return Ok(());
        };
        let wanted = match self.storage.rt.disk_space(&options.data_dir) {
            Ok(space) => wanted.within_share(space.available_bytes),
            Err(_) => wanted,
        };
        let file = self.reserved_file(wanted.file).await?;
        let reached = allocate(&file, &wanted).await?;
        // The first step of a log that was never written back goes as its directory does.
        let is_first = wanted.file == ReservedFile::Active(Offset::ZERO);
        if self.dir_is.get() == DirIs::Durable || !is_first {
            file.sync().await.map_err(|error| self.fail(&error))?;
        }
        if rolls {
            let synced = sync_names(&self.storage.rt, &self.dir).await;
            synced.map_err(|error| self.storage.failed(error))?;
        }
        self.state.borrow_mut().reserved(wanted.file, reached);
        Ok(())
    }

    async fn reserved_file(&self, file: ReservedFile) -> Result<R::File, AppendError> {
        let files = &self.storage.files;
        let base = match file {
            ReservedFile::Next(number) => {
                return Ok(files.prepare(&self.prepared_path(number)).await?);
            }
            ReservedFile::Active(base) => base,
        };
        let key = (self.id, SegmentId::appended(base));
        let is_named = || self.state.borrow().prepared_file(base).is_none();
        if is_named() {
            return Ok(files.get(key, &self.dir).await?);
        }
        // It keeps the name that it has for as long as this is held.
        let _turn = self.dir_turn.lock().await;
        let prepared = self.state.borrow().prepared_file(base);
        match prepared {
            Some(number) => Ok(files.get_at(key, &self.prepared_path(number)).await?),
            None => Ok(files.get(key, &self.dir).await?),
        }
    }

    /// Where the file is that was prepared under this number, as long as it has no segment's name.
    pub fn prepared_path(&self, number: u64) -> PathBuf {
        self.dir.join(prepared_name(number))
    }

    /// The unfinished block at the log's end, from its segment: it will be carried again.
    async fn read_block(&self, at: Position, used: usize) -> Result<Buf, AppendError> {
        let file = self
            .storage
            .files
            .get((self.id, at.id()), &self.dir)
            .await?;
        let buf = self.alloc(BLOCK_BYTES).await?;
        let (read, block) = file.read_at(buf, at.byte, BLOCK_BYTES).await;
        read?;
        if block.len() < used {
            let error = std::io::Error::other("the log's last block is missing from its segment");
            return Err(error.into());
        }
        Ok(block.slice(0..used))
    }

    /// Memory for what does not fit the open chunk. What is held already is given back first:
    /// two batches that wait with a part each could wait for ever.
    async fn take_chunks(&self, missing: usize, into: &mut Memory) -> Result<(), AppendError> {
        let max = self.storage.options.chunk_bytes.max(BLOCK_BYTES);
        let growth = self.storage.tail.growth_bytes();
        let tail_of = |state: &State| state.tail().next_chunk_bytes(missing, growth, max);
        let first = tail_of(&self.state.borrow());
        if self.storage.tail.is_low() {
            press_write_back(&self.storage, Urgency::Blocks);
        }
        if missing <= first
            && let Some(memory) = take_memory(&self.storage, first)
            && let Ok(buf) = self.storage.rt.arena().alloc(first)
        {
            into.take(buf, memory);
            return Ok(());
        }
        // One batch at a time waits piece by piece: two could take each other's last piece.
        let _turn = self.storage.tail.turn.lock().await;
        let mut left = missing;
        while left > 0 {
            let piece = left.next_multiple_of(BLOCK_BYTES).min(max);
            let memory = self.wait_memory(piece).await?;
            into.take(self.alloc(piece).await?, memory);
            left = left.saturating_sub(piece);
        }
        Ok(())
    }

    async fn wait_memory(&self, bytes: usize) -> Result<Permit, AppendError> {
        let storage = &self.storage;
        let look = || {
            self.check_usable()?;
            evict(storage, bytes);
            if storage.tail.is_short_of(bytes) {
                press_write_back(storage, Urgency::Everything);
            }
            Ok(())
        };
        storage.tail.wait(bytes, look).await
    }

    /// A buffer of memory that is already counted; the arena may still be short of it while
    /// readers hold chunks that were given up.
    async fn alloc(&self, bytes: usize) -> Result<BufMut, AppendError> {
        const RETRY: std::time::Duration = std::time::Duration::from_millis(1);
        loop {
            self.check_usable()?;
            match self.storage.rt.arena().alloc(bytes) {
                Ok(buf) => return Ok(buf),
                Err(_) => {
                    evict(&self.storage, bytes);
                    self.storage.rt.sleep(RETRY).await;
                }
            }
        }
    }

    /// Room for what a batch brings to the checkpoints to come.
    async fn hold_checkpoint(
        &self,
        rolls: bool,
        is_new_producer: bool,
    ) -> Result<Option<HeldRoom>, AppendError> {
        let of = |is_it, bytes| if is_it { bytes } else { 0 };
        let bytes = of(rolls, SEGMENT_BYTES) + of(is_new_producer, PRODUCER_BYTES);
        match bytes > 0 && holds(Rule::SpaceReserved) {
            true => Ok(Some(self.storage.hold_checkpoint(bytes).await?)),
            false => Ok(None),
        }
    }

    /// Begins the next segment, for whoever has the partition's turn.
    pub async fn roll(self: &Rc<Self>, now_ms: i64) -> Result<(), AppendError> {
        let held = self.hold_checkpoint(true, false).await?;
        self.reserve_segment(0, true).await?;
        self.check_usable()?;
        self.state.borrow_mut().begin_segment(now_ms);
        if let Some(held) = held {
            held.take_all();
        }
        self.check_usable()?;
        self.request_write_back(Urgency::Everything);
        Ok(())
    }

    /// Begins a new segment if the active one still ends at `end`.
    pub(in crate::log) async fn roll_before(
        self: &Rc<Self>,
        end: Offset,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        self.check_usable()?;
        if self.state.borrow().marks().log_end != end {
            return Ok(());
        }
        match self.roll(now_ms).await {
            Ok(()) => Ok(()),
            Err(AppendError::Storage(error)) => Err(error),
            Err(_) => Err(StorageError::DiskFull),
        }
    }

    /// What was accepted goes to the journal, and whoever looks at the marks is told.
    fn journal_accepted(
        self: &Rc<Self>,
        accepted: AcceptedEntry,
        permit: &mut JournalPermit<R, Token>,
    ) {
        if self.work.listed.get().is_none() {
            self.list_waiting();
        }
        let entry = Entry::Data {
            partition: self.id,
            owner_epoch: accepted.owner_epoch,
            leader_epoch: accepted.leader_epoch,
            segment_base: accepted.from.segment,
            position: accepted.from.byte,
            payload: accepted.payload,
            token: Token {
                partition: self.slot,
                what: Journaled::Data(accepted.end),
            },
        };
        self.storage.append_entry(permit, entry);
        self.marks_changed();
    }

    /// Names the file of a segment that has just begun, which only a rule that is left out asks for.
    fn name_too_early(self: &Rc<Self>) {
        if !holds(Rule::NameAfterJournaled) {
            let log = self.clone();
            let named = async move {
                let base = log.state.borrow().snapshot().active().base_offset;
                let _ = name_file(&log, base).await;
            };
            self.storage.rt.spawn(TaskClass::Background, named);
        }
    }

    fn fail(&self, error: &std::io::Error) -> AppendError {
        let reason = format!("{}: {error}", self.dir.display());
        self.storage.take_offline(&reason);
        StorageError::Offline(reason).into()
    }
}

impl Memory {
    fn give_back(&mut self) {
        self.chunks.clear();
        self.room = 0;
    }

    fn take(&mut self, buf: BufMut, permit: Permit) {
        self.room += buf.room();
        self.chunks.push((buf, permit));
    }
}

/// Tail memory of `bytes`, if it is there or can be made by giving up what is in segments.
fn take_memory<R: Runtime>(storage: &ShardStorage<R>, bytes: usize) -> Option<Permit> {
    storage.tail.take(bytes, |slot| evict_chunk(storage, slot))
}

/// Gives up chunks that may be, until `bytes` are free.
pub fn evict<R: Runtime>(storage: &ShardStorage<R>, bytes: usize) {
    storage.tail.evict(bytes, |slot| evict_chunk(storage, slot));
}

fn evict_chunk<R: Runtime>(storage: &ShardStorage<R>, slot: PartitionSlot) {
    if let Some(log) = storage.log_at(slot) {
        log.state.borrow_mut().evict_chunk();
    }
}

/// Allocates what is wanted, or no more than what must be; gives how far that reaches.
async fn allocate<F: File>(file: &F, wanted: &Reservation) -> std::io::Result<u64> {
    let from = wanted.from;
    for reached in [wanted.generous, wanted.exact] {
        if reached <= from {
            return Ok(reached);
        }
        match file.allocate(from, reached - from).await {
            Err(error) if reached <= wanted.exact => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(reached),
        }
    }
    Ok(wanted.exact)
}

fn is_log_append_time(batch: &BatchView<'_>) -> bool {
    batch.timestamp_type() == TimestampType::LogAppendTime
}

fn journal_full(error: JournalError, bytes: usize) -> AppendError {
    match error {
        JournalError::TooLarge { bytes: limit } => AppendError::TooLarge {
            batch_bytes: bytes as u64,
            limit_bytes: limit as u64,
        },
        other => StorageError::from(other).into(),
    }
}
