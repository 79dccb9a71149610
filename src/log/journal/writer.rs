//! The task that writes and flushes, and the one that watches for pauses.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::flushes::FlushPolicy;
use super::format::{Header, WriteKind};
use super::group::Group;
use super::layout::lay_out;
use super::state::{JournalState, Shared};
use crate::log::error::is_disk_full;
use crate::log::rules::{Rule, holds};
use crate::rt::{ArenaFull, BLOCK_BYTES, Buf, File, Runtime, WriteMode};

/// How long a write that found no room waits before it is tried again at its place.
const FULL_DISK_RETRY: Duration = Duration::from_millis(100);
/// How long to wait for memory when no write in flight is about to give some back.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A write, and where it goes: room for it was found there.
    Write {
        kind: WriteKind,
        address: u64,
    },
    Flush,
    Wait,
    Stop,
}

/// A write that is laid out.
struct Write {
    sequence: u64,
    file: usize,
    offset: u64,
    bufs: Vec<Buf>,
    mode: WriteMode,
}

/// A write or a flush that has ended.
enum Ended {
    Write {
        sequence: u64,
        is_durable: bool,
        result: io::Result<()>,
    },
    Flush {
        number: u64,
        result: io::Result<()>,
    },
}

/// Writes group after group, and flushes behind them, until the journal stops.
pub(super) async fn write<R: Runtime, T: 'static>(shared: Rc<Shared<R, T>>, files: Vec<R::File>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        match shared.step() {
            Step::Stop => break,
            Step::Write { kind, address } => match shared.compose(kind, address) {
                Ok(write) => {
                    let file = files[write.file].clone();
                    let ended = submit(shared.clone(), file, write);
                    in_flight.push(Either::Left(ended));
                }
                Err(ArenaFull { .. }) => {
                    let retry = shared.rt.sleep(MEMORY_RETRY);
                    wait_or_end(&shared, &mut in_flight, retry).await;
                }
            },
            Step::Flush => {
                if let Some(flush) = shared.submit_flush() {
                    let file = files[flush.file].clone();
                    in_flight.push(Either::Right(submit_flush(file, flush.number)));
                }
            }
            Step::Wait => {
                let look = || (shared.step() != Step::Wait).then_some(());
                let wanted = shared.writer_event.wait_until(look);
                wait_or_end(&shared, &mut in_flight, wanted).await;
            }
        }
    }
    // Their outcome still counts: a clean stop's record, or the buffers of a failed journal.
    while let Some(ended) = in_flight.next().await {
        shared.ended(ended);
    }
    drop(files);
    shared.stop();
    shared.task_stopped();
}

async fn submit_flush<F: File>(file: F, number: u64) -> Ended {
    let result = file.sync().await;
    Ended::Flush { number, result }
}

/// Writes, and again while the disk has no room: the journal's files were filled beforehand, but where
/// a file system copies on write, or has taken a hole into them, each write takes room all the same.
async fn submit<R: Runtime, T: 'static>(
    shared: Rc<Shared<R, T>>,
    file: R::File,
    write: Write,
) -> Ended {
    let mut is_refused = false;
    let result = loop {
        let bufs = write.bufs.clone();
        match file.write_at(bufs, write.offset, write.mode).await {
            Err(error) if is_disk_full(&error) && !shared.is_stopping() => {
                if !std::mem::replace(&mut is_refused, true) {
                    shared.write_refused();
                }
                shared.rt.sleep(FULL_DISK_RETRY).await;
            }
            result => break result,
        }
    };
    if is_refused {
        shared.write_ended();
    }
    Ended::Write {
        sequence: write.sequence,
        is_durable: write.mode == WriteMode::Durable,
        result,
    }
}

/// Waits for `or`, or for something in flight, which has ended then.
async fn wait_or_end<R: Runtime, T: 'static>(
    shared: &Shared<R, T>,
    in_flight: &mut FuturesUnordered<impl Future<Output = Ended>>,
    or: impl Future<Output = ()>,
) {
    if in_flight.is_empty() {
        return or.await;
    }
    if let Either::Left((Some(ended), _)) = select(in_flight.next(), pin!(or)).await {
        shared.ended(ended);
    }
}

/// Makes what was gathered due, and tells the disk of a pause: one timer each, however many
/// entries pass.
pub(super) async fn watch<R: Runtime, T: 'static>(shared: Rc<Shared<R, T>>) {
    loop {
        let activity = || {
            let has_unconfirmed = shared.state.borrow().has_unconfirmed();
            (has_unconfirmed || shared.is_stopping()).then_some(())
        };
        shared.activity_event.wait_until(activity).await;
        if shared.is_stopping() {
            break;
        }
        let period = shared.options.gather_for;
        let seen = shared.state.borrow().appended_entries;
        let pause = shared
            .rt
            .sleep(period.unwrap_or(shared.options.close_after));
        let stopped = || shared.is_stopping().then_some(());
        let stopped = shared.activity_event.wait_until(stopped);
        select(pin!(pause), pin!(stopped)).await;
        let mut state = shared.state.borrow_mut();
        state.gather_due = !state.gathering.is_empty();
        state.close_due = !state.gather_due && state.appended_entries == seen;
        drop(state);
        shared.writer_event.notify();
    }
    shared.task_stopped();
}

impl<R: Runtime, T: 'static> Shared<R, T> {
    fn ended(&self, ended: Ended) {
        match ended {
            Ended::Write {
                sequence,
                is_durable,
                result,
            } => self.complete(sequence, is_durable, result),
            Ended::Flush { number, result } => self.flush_ended(number, result),
        }
    }

    /// What the writer does next.
    fn step(&self) -> Step {
        let state = self.state.borrow();
        if state.stopping {
            return Step::Stop;
        }
        if self.wants_flush(&state) && state.flushes.is_due() {
            return Step::Flush;
        }
        let gathered = state.gathering.first().map(|group| group.write_bytes());
        match gathered {
            Some(bytes) if self.is_ready(&state) => {
                let kind = WriteKind::Entries;
                let write = |address| Step::Write { kind, address };
                state.address_for(bytes).map_or(Step::Wait, write)
            }
            None if state.flushes.is_idle() => self.step_when_empty(&state),
            _ => Step::Wait,
        }
    }

    /// Whether the gathered entries go out now: at once when the disk is idle, as a large write
    /// when it is not, and in any case when somebody asked. It is not idle before what was written is
    /// as safe as promised: what comes meanwhile shares the next write, and the next flush.
    fn is_ready(&self, state: &JournalState<T>) -> bool {
        let in_flight = state.flushes.writes_in_flight();
        let (is_idle, is_full) = match self.flush_policy {
            FlushPolicy::Behind => (
                state.flushes.unflushed() == 0,
                state.flushes.unflushed() >= self.options.max_unflushed(),
            ),
            FlushPolicy::Never | FlushPolicy::Asked => (in_flight == 0, false),
        };
        if is_full || in_flight >= self.options.max_in_flight {
            return false;
        }
        (is_idle && self.options.gather_for.is_none())
            || state.gather_due
            || state.closing.is_some()
            || state.flush_target > state.ring.next_sequence()
            || state.gathering.bytes() >= self.options.eager_bytes()
    }

    /// Whether completed writes are to be flushed now.
    fn wants_flush(&self, state: &JournalState<T>) -> bool {
        let ending = state.gathering.is_empty() && (state.close_due || state.closing.is_some());
        match self.flush_policy {
            FlushPolicy::Never => false,
            FlushPolicy::Behind => true,
            FlushPolicy::Asked => {
                let asked = state.flush_target > state.flushes.flushed_end()
                    && state.flush_target <= state.flushes.completed_end();
                asked || (ending && state.flushes.writes_in_flight() == 0)
            }
        }
    }

    fn step_when_empty(&self, state: &JournalState<T>) -> Step {
        let address = state.address_for(BLOCK_BYTES);
        let write = |kind| address.map(|address| Step::Write { kind, address });
        match state.closing {
            Some(_) if state.closed => Step::Stop,
            Some(true) => write(WriteKind::Clean).unwrap_or(Step::Stop),
            Some(false) => write(WriteKind::Closing).unwrap_or(Step::Stop),
            None if state.close_due
                && state.has_unconfirmed()
                && state.ring.has_room(BLOCK_BYTES as u64) =>
            {
                write(WriteKind::Closing).unwrap_or(Step::Wait)
            }
            None => Step::Wait,
        }
    }

    /// Lays out the next write, for `address`, and books it. Nothing has changed when there is no
    /// memory for it.
    fn compose(&self, kind: WriteKind, address: u64) -> Result<Write, ArenaFull> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let first = state.gathering.first();
        let (inline, blocks, entries) = first.map_or((0, 0, 0), |group| {
            (group.inline_bytes, group.block_bytes, group.pieces.len())
        });
        let bytes = first.map_or(BLOCK_BYTES, |group| group.write_bytes());
        let buffer = self.rt.arena().alloc(bytes - blocks)?;
        let sequence = state.ring.next_sequence();
        let header = Header {
            kind,
            identity: self.identity,
            sequence,
            address,
            flushed_end: state.flushes.flushed_end(),
            entry_count: entries as u32,
            inline_bytes: inline as u32,
            block_bytes: blocks as u32,
            previous_checksum: state.ring.last_checksum(),
            payload_checksum: 0,
        };
        let group = state.gathering.take_first();
        let pieces = group.as_ref().map_or(&[][..], |group| &group.pieces);
        let (bufs, checksum) = lay_out(header, pieces, buffer, &mut state.table);
        state.ring.push(address, bytes as u64, checksum);
        let (file, offset) = state.ring.geometry().place(address);
        state.book(sequence, file, group);
        drop(guard);
        self.after_compose(sequence);
        let mode = match (self.flush_policy, kind) {
            (FlushPolicy::Behind, _) | (FlushPolicy::Asked, WriteKind::Entries) => WriteMode::Plain,
            (FlushPolicy::Never, _) | (FlushPolicy::Asked, _) => WriteMode::Durable,
        };
        Ok(Write {
            sequence,
            file,
            offset,
            bufs,
            mode,
        })
    }

    fn after_compose(&self, sequence: u64) {
        if !holds(Rule::AckWaitsForDurable) {
            self.complete_below(sequence + 1);
        }
        self.space_freed();
    }
}

impl<T> JournalState<T> {
    /// Takes account of the write `sequence`, which goes to `file` and holds `group`, or no entries.
    fn book(&mut self, sequence: u64, file: usize, group: Option<Group<T>>) {
        self.confirmed_end = self.flushes.flushed_end();
        self.flushes.begin(file);
        self.close_due = false;
        let tokens = match group {
            Some(group) => {
                self.ring.release(group.promised_bytes);
                self.entries_end = sequence + 1;
                self.gathering.recycle(group.pieces);
                self.gather_due &= !self.gathering.is_empty();
                group.tokens
            }
            None => {
                self.gathering.skip_sequence();
                self.closed = self.closing.is_some();
                Vec::new()
            }
        };
        self.window.push_back(tokens);
    }

    /// Where a write of `bytes` goes; none while it would overwrite what is kept.
    fn address_for(&self, bytes: usize) -> Option<u64> {
        let bytes = bytes as u64;
        if holds(Rule::SpaceReserved) {
            self.ring.fit(bytes)
        } else {
            Some(self.ring.next_address(bytes))
        }
    }
}
