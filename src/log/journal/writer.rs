//! The task that writes, and the one that watches for pauses.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::format::{Header, WriteKind};
use super::group::Group;
use super::layout::lay_out;
use super::state::{JournalState, Shared, Slot};
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
    Sync,
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

/// Writes group after group until the journal stops.
pub(super) async fn write<R: Runtime, T: 'static>(shared: Rc<Shared<R, T>>, files: Vec<R::File>) {
    let mut in_flight = FuturesUnordered::new();
    let mut dirty = vec![false; files.len()];
    loop {
        match shared.step(in_flight.len()) {
            Step::Stop => break,
            Step::Write { kind, address } => match shared.compose(kind, address) {
                Ok(write) => {
                    dirty[write.file] |= write.mode == WriteMode::Plain;
                    let file = files[write.file].clone();
                    in_flight.push(submit(shared.clone(), file, write));
                }
                Err(ArenaFull { .. }) => {
                    let retry = shared.rt.sleep(MEMORY_RETRY);
                    wait_or_complete(&shared, &mut in_flight, retry).await;
                }
            },
            Step::Sync => {
                let end = shared.state.borrow().ring.next_sequence();
                match sync(&files, &mut dirty).await {
                    Ok(()) => shared.flushed(end),
                    Err(error) => shared.fail(error),
                }
            }
            Step::Wait => {
                let count = in_flight.len();
                let look = || (shared.step(count) != Step::Wait).then_some(());
                wait_or_complete(
                    &shared,
                    &mut in_flight,
                    shared.writer_event.wait_until(look),
                )
                .await;
            }
        }
    }
    // Their outcome still counts: a clean stop's record, or the buffers of a failed journal.
    while let Some((sequence, result)) = in_flight.next().await {
        shared.complete(sequence, result);
    }
    drop(files);
    shared.stop();
    shared.task_stopped();
}

/// Writes, and again while the disk has no room: the journal's files were filled beforehand, but where
/// a file system copies on write, or has taken a hole into them, each write takes room all the same.
async fn submit<R: Runtime, T: 'static>(
    shared: Rc<Shared<R, T>>,
    file: R::File,
    write: Write,
) -> (u64, io::Result<()>) {
    let mut is_refused = false;
    let written = loop {
        let bufs = write.bufs.clone();
        match file.write_at(bufs, write.offset, write.mode).await {
            Err(error) if is_disk_full(&error) && !shared.is_stopping() => {
                if !std::mem::replace(&mut is_refused, true) {
                    shared.write_refused();
                }
                shared.rt.sleep(FULL_DISK_RETRY).await;
            }
            written => break written,
        }
    };
    if is_refused {
        shared.write_ended();
    }
    (write.sequence, written)
}

/// Waits for `or`, or for a write in flight, which is then completed.
async fn wait_or_complete<R: Runtime, T: 'static>(
    shared: &Shared<R, T>,
    in_flight: &mut FuturesUnordered<impl Future<Output = (u64, io::Result<()>)>>,
    or: impl Future<Output = ()>,
) {
    if in_flight.is_empty() {
        return or.await;
    }
    if let Either::Left((Some((sequence, result)), _)) = select(in_flight.next(), pin!(or)).await {
        shared.complete(sequence, result);
    }
}

async fn sync<F: File>(files: &[F], dirty: &mut [bool]) -> io::Result<()> {
    for (file, dirty) in files.iter().zip(dirty) {
        if std::mem::take(dirty) {
            file.sync().await?;
        }
    }
    Ok(())
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
    /// What the writer does next, with `in_flight` writes on their way.
    fn step(&self, in_flight: usize) -> Step {
        let state = self.state.borrow();
        if state.stopping {
            return Step::Stop;
        }
        if self.wants_sync(&state) {
            return if in_flight == 0 {
                Step::Sync
            } else {
                Step::Wait
            };
        }
        let gathered = state.gathering.first().map(|group| group.write_bytes());
        match gathered {
            Some(bytes)
                if in_flight < self.options.max_in_flight && self.is_ready(&state, in_flight) =>
            {
                let kind = WriteKind::Entries;
                let write = |address| Step::Write { kind, address };
                state.address_for(bytes).map_or(Step::Wait, write)
            }
            None if in_flight == 0 => self.step_when_empty(&state),
            _ => Step::Wait,
        }
    }

    /// Whether the gathered entries go out now: at once when the disk is idle, as a large write
    /// when it is not, and in any case when somebody asked.
    fn is_ready(&self, state: &JournalState<T>, in_flight: usize) -> bool {
        let idle = in_flight == 0 && self.options.gather_for.is_none();
        idle || state.gather_due
            || state.closing.is_some()
            || state.flush_target > state.ring.next_sequence()
            || state.gathering.bytes() >= self.options.eager_bytes()
    }

    /// Whether everything written so far has to be flushed before the next write.
    fn wants_sync(&self, state: &JournalState<T>) -> bool {
        let written = state.ring.next_sequence();
        let asked = state.flush_target > state.flushed_end && state.flush_target <= written;
        let ending = state.gathering.is_empty() && (state.close_due || state.closing.is_some());
        self.options.write_mode == WriteMode::Plain
            && (asked || (ending && state.flushed_end < written))
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
            flushed_end: state.flushed_end,
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
        state.book(sequence, group);
        let (file, offset) = state.ring.geometry().place(address);
        drop(guard);
        self.after_compose(sequence);
        let mode = match kind {
            WriteKind::Entries => self.options.write_mode,
            WriteKind::Closing | WriteKind::Clean => WriteMode::Durable,
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
    /// Takes account of the write `sequence`, which holds `group`, or no entries.
    fn book(&mut self, sequence: u64, group: Option<Group<T>>) {
        self.confirmed_end = self.flushed_end;
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
        self.window.push_back(Slot {
            done: false,
            tokens,
        });
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
