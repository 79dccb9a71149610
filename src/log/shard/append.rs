//! Appending a batch: judged, given room, then accepted in one step.
//!
//! Everything that can wait or fail comes before the step in which offsets are assigned, so that an
//! accepted batch is certain to fit its segment, the journal and memory.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::log::error::{AppendError, StorageError};
use crate::log::journal::{Entry, JournalError, JournalPermit};
use crate::log::partition::effects::{AcceptedEntry, Reservation};
use crate::log::partition::producers::{ProducerBatch, Verdict};
use crate::log::partition::snapshot::{PRODUCER_BYTES, SEGMENT_BYTES};
use crate::log::partition::write_back_plan::Urgency;
use crate::log::rules::{Rule, holds};
use crate::log::segment::position::Position;
use crate::log::shard::open_log::{DirIs, OpenLog};
use crate::log::shard::partition_log::{Appended, PartitionLog};
use crate::log::shard::storage::{Journaled, Token};
use crate::model::Offset;
use crate::model::batch::{BatchView, TimestampType};
use crate::rt::{BLOCK_BYTES, Buf, BufMut, File, Latch, Permit, Runtime};

/// Where a batch will go.
struct Room<R: Runtime> {
    permit: JournalPermit<R, Token>,
    memory: Memory,
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

impl<R: Runtime> PartitionLog<R> {
    /// Appends `batch`, exactly one that was checked at the gateway. Waits for room (memory, space
    /// in the segment and the journal), then assigns offsets; first come, first served.
    ///
    /// A retry of a batch that is in the log already gets its first offsets; the caller waits for
    /// them to be durable all the same.
    pub async fn append(&self, batch: &[u8], now_ms: i64) -> Result<Appended, AppendError> {
        let batch = match BatchView::first(batch) {
            Ok(view) if view.bytes().len() == batch.len() => view,
            _ => return Err(AppendError::NotABatch),
        };
        let _turn = self.0.turn.acquire(1).await;
        self.0.check_usable()?;
        let producer = ProducerBatch::of(&batch);
        if let Some(duplicate) = self.0.judge(producer.as_ref(), &batch)? {
            return Ok(duplicate);
        }
        let room = self.0.make_room(&batch, producer.as_ref(), now_ms).await?;
        let appended = self.0.accept(&batch, producer.as_ref(), room, now_ms)?;
        if producer.is_some() {
            let memory = &self.0.storage.producer_memory;
            memory.count(&self.0);
            memory.make_room();
        }
        Ok(appended)
    }
}

impl<R: Runtime> OpenLog<R> {
    fn judge(
        &self,
        producer: Option<&ProducerBatch>,
        batch: &BatchView<'_>,
    ) -> Result<Option<Appended>, AppendError> {
        let Some(producer) = producer else {
            return Ok(None);
        };
        let state = self.state.borrow();
        match state.judge(producer)? {
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
        batch: &BatchView<'_>,
        producer: Option<&ProducerBatch>,
        now_ms: i64,
    ) -> Result<Room<R>, AppendError> {
        let bytes = batch.bytes().len();
        self.check_size(bytes as u64)?;
        let (rolls, is_new_producer) = {
            let state = self.state.borrow();
            let is_new = producer.is_some_and(|producer| state.is_new_producer(producer));
            (state.rolls_for(batch, now_ms), is_new)
        };
        if is_new_producer {
            self.reserve_checkpoint(PRODUCER_BYTES).await?;
        }
        let made = self.make_dir().await;
        made.map_err(|error| self.storage.failed(error))?;
        if rolls {
            self.roll(now_ms).await?;
        }
        if holds(Rule::SpaceReserved) {
            self.reserve_segment(bytes as u64).await?;
        }
        // What is carried again is less than a block.
        let permit = self.reserve_journal(bytes + BLOCK_BYTES).await;
        self.check_usable()?;
        let permit = permit.map_err(|error| journal_full(error, bytes))?;
        let memory = self.make_memory(bytes).await?;
        Ok(Room { permit, memory })
    }

    /// Waits for memory. While it does, eviction may take the block at the log's end, so what is
    /// needed is looked at again after every wait.
    async fn make_memory(&self, bytes: usize) -> Result<Memory, AppendError> {
        let mut memory = Memory::default();
        loop {
            self.check_usable()?;
            let missing = self.state.borrow().missing_memory(bytes);
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

    /// Reserves space in the segment's file, durably.
    async fn reserve_segment(&self, batch_bytes: u64) -> Result<(), AppendError> {
        let options = &self.storage.options;
        let steps = (options.reserve_bytes, options.reserve_max_bytes);
        let Some(wanted) = self.state.borrow().reservation(batch_bytes, steps) else {
            return Ok(());
        };
        let Reservation {
            from,
            generous,
            exact,
            ..
        } = wanted;
        let key = (self.id, wanted.base_offset);
        let file = self.storage.files.get(key, &self.dir).await?;
        let mut reached = generous;
        let mut allocated = file.allocate(from, generous - from).await;
        if allocated.is_err() && exact < generous {
            reached = exact;
            allocated = file.allocate(from, exact - from).await;
        }
        allocated?;
        // The first step of a log that was never written back goes as its directory does.
        if self.dir_is.get() == DirIs::Durable || wanted.base_offset > Offset::ZERO {
            file.sync().await.map_err(|error| self.fail(&error))?;
        }
        self.state.borrow_mut().reserved(reached);
        Ok(())
    }

    /// The unfinished block at the log's end, from its segment: it will be carried again.
    async fn read_block(&self, at: Position, used: usize) -> Result<Buf, AppendError> {
        let file = self
            .storage
            .files
            .get((self.id, at.segment), &self.dir)
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
        let first = self.state.borrow().tail().next_chunk_bytes(missing, max);
        if missing <= first
            && let Some(memory) = self.storage.try_memory(first)
            && let Ok(buf) = self.storage.rt.arena().alloc(first)
        {
            into.take(buf, memory);
            return Ok(());
        }
        // One batch at a time waits piece by piece: two could take each other's last piece.
        let _turn = self.storage.tail.turn.acquire(1).await;
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
            storage.evict(bytes);
            if storage.tail.is_short_of(bytes) {
                storage.press_write_back();
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
                    self.storage.evict(bytes);
                    self.storage.rt.sleep(RETRY).await;
                }
            }
        }
    }

    /// Room for what the batch brings to the checkpoints to come.
    async fn reserve_checkpoint(&self, bytes: usize) -> Result<(), AppendError> {
        match holds(Rule::SpaceReserved) {
            true => Ok(self.storage.reserve_checkpoint(bytes).await?),
            false => Ok(()),
        }
    }

    /// Begins the next segment. Its name is the log end, so everything below must be journaled
    /// first: no file may tell of what the journal does not hold.
    pub async fn roll(self: &Rc<Self>, now_ms: i64) -> Result<(), AppendError> {
        self.reserve_checkpoint(SEGMENT_BYTES).await?;
        self.wait_own_entries().await?;
        let end = self.state.borrow().marks().log_end;
        let created = self.storage.files.create((self.id, end), &self.dir).await;
        created.map_err(|error| self.storage.failed(error))?;
        self.check_usable()?;
        self.state.borrow_mut().begin_segment(now_ms);
        self.check_usable()?;
        self.request_write_back(Urgency::Everything);
        Ok(())
    }

    /// Waits until every entry of this partition is safely in the journal.
    async fn wait_own_entries(&self) -> Result<(), AppendError> {
        if self.storage.needs_flush() {
            self.storage
                .journal
                .flush()
                .await
                .map_err(StorageError::from)?;
        }
        loop {
            self.check_usable()?;
            let end = {
                let state = self.state.borrow();
                if state.may_begin_segment() {
                    return Ok(());
                }
                state.marks().log_end
            };
            let latch = Latch::default();
            self.journaled.join(end, &latch);
            latch.wait().await;
        }
    }

    /// Assigns offsets and fixes the order. Nothing waits and nothing fails from here on.
    fn accept(
        self: &Rc<Self>,
        batch: &BatchView<'_>,
        producer: Option<&ProducerBatch>,
        mut room: Room<R>,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let storage = &self.storage;
        let accepted = {
            let mut state = self.state.borrow_mut();
            state.check_usable()?;
            let block = room.memory.block.map(|(_, block)| block);
            state.take_memory(room.memory.chunks, block);
            let first = storage.next_entry_from();
            state.accept(batch, producer, first, now_ms)
        };
        let AcceptedEntry {
            base_offset, end, ..
        } = accepted;
        if self.work.listed.get().is_none() {
            self.list_waiting();
        }
        let entry = Entry::Data {
            partition: self.id,
            leader_epoch: accepted.leader_epoch,
            segment_base: accepted.from.segment,
            position: accepted.from.byte,
            payload: accepted.payload,
            token: Token {
                partition: self.slot,
                what: Journaled::Data(end),
            },
        };
        storage.append_entry(&mut room.permit, entry);
        self.marks_changed();
        Ok(Appended {
            base_offset,
            end_offset: end.offset,
            log_append_time_ms: is_log_append_time(batch).then(|| batch.max_timestamp_ms()),
            duplicate: false,
        })
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
