//! What the journal's callers and its writer share, and every change to it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::vec::Drain;

use super::flushes::{Flush, FlushPolicy, Flushes};
use super::group::{Gathering, worst_case_bytes};
use super::ring::Ring;
use super::{Entry, JournalError, JournalIdentity, JournalOptions, JournalStart, Sequence};
use crate::log::rules::{Rule, holds};
use crate::rt::{Event, Line, Runtime};

/// How full the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPressure {
    /// Bytes of writes that are not trimmed.
    pub live_bytes: u64,
    /// Bytes promised to permits and gathered entries, at worst.
    pub promised_bytes: u64,
    /// What the two may come to.
    pub capacity_bytes: u64,
    /// Bytes of all writes since the run began: take the difference between two checkpoints.
    pub written_bytes: u64,
    /// Tasks that wait in [`Journal::reserve`].
    pub waiting: usize,
}

impl JournalPressure {
    /// Whether space should be given back now: half full, or somebody waits.
    pub fn is_pressed(&self) -> bool {
        self.waiting > 0 || (self.live_bytes + self.promised_bytes) * 2 >= self.capacity_bytes
    }
}

/// Takes the tokens of a completed write.
pub(super) type OnCompleted<T> = Box<dyn Fn(Sequence, Drain<'_, T>)>;

pub(super) struct Shared<R: Runtime, T> {
    pub rt: R,
    pub identity: JournalIdentity,
    pub options: JournalOptions,
    pub flush_policy: FlushPolicy,
    pub state: RefCell<JournalState<T>>,
    /// Something for the writer to do.
    pub writer_event: Event,
    /// The first entry after a pause.
    pub activity_event: Event,
    pub progress_event: Event,
    pub pressed_event: Event,
    /// Who waits for space.
    space: Line,
    /// Bytes written in all from which on `pressed_event` is notified at each write.
    pub tell_from_bytes: Cell<u64>,
    on_completed: OnCompleted<T>,
    running_tasks: Cell<usize>,
}

pub(super) struct JournalState<T> {
    pub gathering: Gathering<T>,
    pub ring: Ring,
    pub flushes: Flushes,
    /// Tokens of the writes from `completed_end` on.
    pub window: VecDeque<Vec<T>>,
    /// Every write below is as safe as was promised, and its tokens were handed back.
    pub completed_end: u64,
    /// Some write on disk says that everything below was flushed.
    pub confirmed_end: u64,
    /// Sequence after the last write that carries entries.
    pub entries_end: u64,
    pub flush_target: u64,
    /// What was gathered has waited long enough.
    pub gather_due: bool,
    /// Idle for long enough.
    pub close_due: bool,
    /// Asked to end, cleanly or not.
    pub closing: Option<bool>,
    pub stopping: bool,
    /// The last record is on its way.
    pub closed: bool,
    pub failure: Option<JournalError>,
    pub appended_entries: u64,
    /// Memory for a write's entry table.
    pub table: Vec<u8>,
    disk_full: bool,
    /// Writes in flight that have found no room yet.
    refused_writes: usize,
    stuck: bool,
}

const TASKS: usize = 3;

impl<R: Runtime, T: 'static> Shared<R, T> {
    pub fn new(
        rt: R,
        identity: JournalIdentity,
        options: JournalOptions,
        prepared_bytes: u64,
        on_completed: OnCompleted<T>,
    ) -> Self {
        let max_write_bytes = options.max_write_bytes;
        let ring = Ring::new(options.geometry(), max_write_bytes, prepared_bytes);
        let state = JournalState {
            gathering: Gathering::new(max_write_bytes),
            ring,
            flushes: Flushes::new(options.file_count as usize),
            window: VecDeque::new(),
            completed_end: 0,
            confirmed_end: 0,
            entries_end: 0,
            flush_target: 0,
            gather_due: false,
            close_due: false,
            closing: None,
            stopping: false,
            closed: false,
            table: Vec::new(),
            failure: None,
            appended_entries: 0,
            disk_full: false,
            refused_writes: 0,
            stuck: false,
        };
        Self {
            flush_policy: FlushPolicy::of(options.write_mode, rt.durable_writes()),
            rt,
            identity,
            options,
            state: RefCell::new(state),
            writer_event: Event::new(),
            activity_event: Event::new(),
            progress_event: Event::new(),
            pressed_event: Event::new(),
            space: Line::default(),
            tell_from_bytes: Cell::new(u64::MAX),
            on_completed,
            running_tasks: Cell::new(TASKS),
        }
    }

    // --- space ---

    /// Ring bytes that an entry may take.
    pub fn cost(&self, payload_bytes: usize) -> Result<u64, JournalError> {
        let cost = worst_case_bytes(payload_bytes, self.options.max_write_bytes);
        if cost > self.state.borrow().ring.capacity_bytes() / 2 {
            return Err(JournalError::TooLarge {
                bytes: payload_bytes,
            });
        }
        Ok(cost)
    }

    pub async fn take_space(
        &self,
        bytes: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), JournalError> {
        let is_alone = self.space.is_empty();
        if let Some(taken) = self.state.borrow_mut().try_take(bytes, is_alone) {
            return taken;
        }
        let mut is_told = false;
        let look = |is_first| {
            if !std::mem::replace(&mut is_told, true) {
                // Somebody is in line from here on.
                self.pressed_event.notify();
            }
            match is_wanted() {
                true => self.state.borrow_mut().try_take(bytes, is_first),
                false => Some(Err(JournalError::Unwanted)),
            }
        };
        self.space.wait_until(look).await
    }

    /// Whoever waits for space looks whether it is still wanted, and whether it can be had at all.
    pub fn wake_waiting(&self) {
        self.space.wake_all();
    }

    pub fn give_back(&self, bytes: u64) {
        self.state.borrow_mut().ring.release(bytes);
        self.space.wake_first();
    }

    pub fn trim(&self, start: Sequence) {
        let mut state = self.state.borrow_mut();
        let start = start.0.min(state.completed_end);
        state.ring.trim(start);
        drop(state);
        self.space.wake_first();
        self.writer_event.notify();
    }

    pub fn prepared(&self, bytes: u64) {
        let mut state = self.state.borrow_mut();
        state.ring.set_prepared(bytes);
        state.disk_full = false;
        drop(state);
        self.space.wake_first();
        self.writer_event.notify();
    }

    /// A write took less than its entries were promised.
    pub fn space_freed(&self) {
        self.space.wake_first();
    }

    /// The ring cannot be prepared further for now.
    pub fn disk_full(&self) {
        self.state.borrow_mut().disk_full = true;
        self.space.wake_all();
    }

    /// A write has found no room, and is tried again: until it is done nobody is promised any.
    pub fn write_refused(&self) {
        self.state.borrow_mut().refused_writes += 1;
        tracing::warn!("the disk has no room for a write of the journal; it is tried again");
        self.space.wake_all();
    }

    /// A write that had found no room has ended.
    pub fn write_ended(&self) {
        self.state.borrow_mut().refused_writes -= 1;
        self.space.wake_all();
    }

    pub fn set_stuck(&self, stuck: bool) {
        self.state.borrow_mut().stuck = stuck;
        self.space.wake_all();
    }

    pub fn pressure(&self) -> JournalPressure {
        let state = self.state.borrow();
        JournalPressure {
            live_bytes: state.ring.live_bytes(),
            promised_bytes: state.ring.promised_bytes(),
            capacity_bytes: state.ring.capacity_bytes(),
            written_bytes: state.ring.written_bytes(),
            waiting: self.space.len(),
        }
    }

    // --- entries ---

    /// Adds an entry, whose space is taken from what `permit_bytes` holds.
    pub fn append(&self, permit_bytes: &mut u64, entry: Entry<T>) -> Sequence {
        let mut state = self.state.borrow_mut();
        let gathered_before = state.gathering.bytes();
        let was_empty = state.gathering.is_empty();
        if !state.is_open() {
            return Sequence(state.gathering.end_sequence());
        }
        let cost = worst_case_bytes(entry.payload_bytes(), self.options.max_write_bytes);
        let missing = cost.saturating_sub(*permit_bytes);
        debug_assert!(missing == 0, "an entry without a permit for it");
        state.ring.promise(missing);
        *permit_bytes = permit_bytes.saturating_sub(cost);
        state.appended_entries += 1;
        let sequence = state.gathering.append(entry, cost);
        let eager = self.options.eager_bytes();
        let now_eager = gathered_before < eager && state.gathering.bytes() >= eager;
        drop(state);
        if was_empty {
            self.activity_event.notify();
        }
        if was_empty || now_eager {
            self.writer_event.notify();
        }
        Sequence(sequence)
    }

    pub fn position_of(&self, sequence: Sequence) -> JournalStart {
        let state = self.state.borrow();
        let wanted = sequence.0.min(state.completed_end);
        let (sequence, (address, previous_checksum)) = match state.ring.position_of(wanted) {
            Some(position) => (wanted, position),
            // Trimmed already: the oldest that is kept.
            None => state.ring.oldest(),
        };
        JournalStart {
            run: self.identity.run,
            sequence: Sequence(sequence),
            flushed_end: Sequence(state.flushes.flushed_end()),
            address,
            previous_checksum,
            geometry: state.ring.geometry(),
        }
    }

    // --- completion ---

    /// The write `sequence` has ended.
    pub fn complete(&self, sequence: u64, is_durable: bool, result: io::Result<()>) {
        if let Err(error) = result {
            return self.fail(error);
        }
        if self.state.borrow().failure.is_some() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.flushes.completed(sequence, is_durable);
        drop(state);
        if !holds(Rule::AckWaitsForPrefix) && self.flush_policy != FlushPolicy::Behind {
            return self.complete_below(sequence + 1);
        }
        self.flushes_changed();
    }

    /// The next flush; it is to be submitted now.
    pub fn submit_flush(&self) -> Option<Flush> {
        let flush = self.state.borrow_mut().flushes.submit();
        self.flushes_changed();
        flush
    }

    /// A flush has ended. Any error is final, also that of a full disk.
    pub fn flush_ended(&self, number: u64, result: io::Result<()>) {
        let mut state = self.state.borrow_mut();
        state.flushes.ended(number, result.is_ok());
        drop(state);
        match result {
            Err(error) if holds(Rule::FlushFailureIsFinal) => self.fail(error),
            _ => self.flushes_changed(),
        }
    }

    /// Acknowledges what is safe enough by now.
    fn flushes_changed(&self) {
        let state = self.state.borrow();
        let checked = state.flushes.check();
        let waits = holds(Rule::AckWaitsForFlush);
        let end = match self.flush_policy {
            FlushPolicy::Behind if waits => state.flushes.flushed_end(),
            _ => state.flushes.completed_end(),
        };
        drop(state);
        match checked {
            Ok(()) => self.complete_below(end),
            Err(what) => self.fail(io::Error::other(what)),
        }
    }

    /// Hands back the tokens of every write below `end`.
    pub fn complete_below(&self, end: u64) {
        loop {
            let next = self.state.borrow_mut().complete_next(end);
            let Some((sequence, mut tokens)) = next else {
                break;
            };
            (self.on_completed)(Sequence(sequence), tokens.drain(..));
            self.state.borrow_mut().gathering.recycle_tokens(tokens);
        }
        self.progress_event.notify();
        let pressure = self.pressure();
        if pressure.is_pressed() || pressure.written_bytes >= self.tell_from_bytes.get() {
            self.pressed_event.notify();
        }
    }

    pub fn completed_or_error(&self, sequence: Sequence) -> Option<Result<(), JournalError>> {
        let state = self.state.borrow();
        state.reached(state.completed_end > sequence.0)
    }

    pub fn flushed_or_error(&self, target: u64) -> Option<Result<Sequence, JournalError>> {
        let state = self.state.borrow();
        let flushed_end = state.flushes.flushed_end();
        let reached = state.reached(flushed_end >= target)?;
        Some(reached.map(|()| Sequence(flushed_end)))
    }

    pub fn request_flush(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        let target = state.gathering.end_sequence();
        state.flush_target = state.flush_target.max(target);
        drop(state);
        self.writer_event.notify();
        target
    }

    // --- the end ---

    pub fn fail(&self, error: io::Error) {
        let mut state = self.state.borrow_mut();
        if state.failure.is_none() {
            state.failure = Some(JournalError::Failed(Rc::new(error)));
        }
        drop(state);
        self.stop();
    }

    pub fn request_close(&self, clean: bool) {
        let mut state = self.state.borrow_mut();
        state.closing.get_or_insert(clean);
        drop(state);
        self.notify_all();
    }

    /// Ends every task without another write.
    pub fn stop(&self) {
        let mut state = self.state.borrow_mut();
        state.stopping = true;
        state.failure.get_or_insert(JournalError::Closed);
        drop(state);
        self.notify_all();
    }

    pub fn is_stopping(&self) -> bool {
        let state = self.state.borrow();
        state.stopping || state.closing.is_some()
    }

    /// One of the journal's tasks has let go of its files.
    pub fn task_stopped(&self) {
        self.running_tasks.set(self.running_tasks.get() - 1);
        self.progress_event.notify();
    }

    pub fn has_stopped(&self) -> bool {
        self.running_tasks.get() == 0
    }

    fn notify_all(&self) {
        self.writer_event.notify();
        self.activity_event.notify();
        self.progress_event.notify();
        self.space.wake_all();
        self.pressed_event.notify();
    }
}

impl<T> JournalState<T> {
    fn is_open(&self) -> bool {
        self.failure.is_none() && self.closing.is_none()
    }

    /// Takes space when it is there and everyone who asked before has theirs.
    fn try_take(&mut self, bytes: u64, is_first: bool) -> Option<Result<(), JournalError>> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        if self.closing.is_some() {
            return Some(Err(JournalError::Closed));
        }
        if self.refused_writes > 0 {
            return Some(Err(JournalError::DiskFull));
        }
        if (is_first && self.ring.has_room(bytes)) || !holds(Rule::SpaceReserved) {
            self.ring.promise(bytes);
            return Some(Ok(()));
        }
        let has_none = self.stuck || (self.disk_full && !self.ring.is_prepared());
        has_none.then_some(Err(JournalError::DiskFull))
    }

    fn reached(&self, reached: bool) -> Option<Result<(), JournalError>> {
        match &self.failure {
            _ if reached => Some(Ok(())),
            Some(failure) => Some(Err(failure.clone())),
            None => None,
        }
    }

    fn complete_next(&mut self, end: u64) -> Option<(u64, Vec<T>)> {
        if self.completed_end >= end || self.failure.is_some() {
            return None;
        }
        let tokens = self.window.pop_front()?;
        self.completed_end += 1;
        Some((self.completed_end - 1, tokens))
    }

    /// Whether entries are on their way, or on disk without a later write that says they were flushed.
    pub fn has_unconfirmed(&self) -> bool {
        !self.gathering.is_empty() || self.entries_end > self.confirmed_end
    }
}
