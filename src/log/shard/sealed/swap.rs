//! Sealed segments are rewritten, and what was written takes their place.
//!
//! | step | a crash behind it leaves |
//! |---|---|
//! | the outputs are written under names of the next generation, and durable with their directory | the inputs; a start removes the outputs |
//! | a checkpoint has the inputs as sealed, so that a replay finds them before it comes upon the event; mostly, one does already | the same |
//! | the event is safely in the journal | the outputs: a replay swaps as the live log does, in [`State::apply_event`] |
//! | a checkpoint includes the swap, so that nothing hangs on the event any more | the outputs; a start removes the inputs |
//! | whoever began to read before the swap has ended, and the inputs' files are removed | the outputs |
//!
//! An example. The segments 0 (generation 0) and 40 (0) become 0 (1), whose files are
//! `00000000000000000000.1.log` and the like. Meanwhile DeleteRecords raises the log start to 50, and
//! segment 0 goes: the event would name a segment that is no longer there, so the rewrite was in vain, and
//! its files are removed. Once the event is on its way, it is the other way round: the inputs stay, though
//! the log start has passed them, and the output goes in their place.
//!
//! [`State::apply_event`]: crate::log::partition::state::State::apply_event

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::try_join;

use crate::log::error::{ReplaceError, StorageError, is_disk_full};
use crate::log::files::partition_files::SegmentId;
use crate::log::journal::{EVENT_BYTES_MAX, JournalError};
use crate::log::partition::snapshot::SEGMENT_BYTES;
use crate::log::rules::{Rule, holds};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::output::SegmentOutput;
use crate::log::segment::replacement::Replacement;
use crate::log::shard::open_log::OpenLog;
use crate::log::shard::reader::file_part;
use crate::log::shard::sealed::log_start::{append_event, remove_files};
use crate::log::shard::storage::closed;
use crate::model::Offset;
use crate::model::batch::BatchView;
use crate::rt::{ArenaFull, Buf, File, Runtime, TaskClass, is_open_refused};

const READ_BYTES: usize = 1 << 20;
/// Bytes that are rewritten before other tasks have their turn.
const STEP_BYTES: usize = 256 << 10;

/// What a rewrite makes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// It stays as it is.
    Same,
    /// Nothing stays of it.
    Dropped,
    /// This batch, of the same leader epoch and of no offset beyond those of the one that it is made of.
    As(Vec<u8>),
}

/// As [`crate::log::PartitionLog::replace_segments`].
pub async fn replace_segments<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    inputs: &[SegmentId],
    rewrite: impl FnMut(&BatchView<'_>) -> Rewritten,
) -> Result<Replacement, ReplaceError> {
    let _turn = log.rewrite_turn.lock().await;
    let _in_use = log.use_files()?;
    let sealed = log.state.borrow().snapshot().sealed(inputs);
    let sealed = sealed.ok_or(ReplaceError::NotThere)?;
    let mut outputs = Outputs {
        log,
        generation: next_generation(inputs)?,
        begun: Vec::new(),
        finished: Vec::new(),
    };
    let checkpointed = sealed_in_checkpoint(log, &sealed);
    let written = try_join(outputs.write(&sealed, rewrite), checkpointed).await;
    let replacement = Replacement {
        inputs: inputs.to_vec(),
        outputs: std::mem::take(&mut outputs.finished),
    };
    let swapped = match written {
        Ok(_) => swap(log, &replacement).await,
        Err(error) => Err(error),
    };
    match swapped {
        Ok(()) => {
            let before = log.work.users.swapped();
            let let_go = let_go(log.clone(), replacement.inputs.clone(), before);
            log.storage.rt.spawn(TaskClass::Background, let_go);
            Ok(replacement)
        }
        Err(error) => {
            if !matches!(error, ReplaceError::Unknown(_)) {
                remove_segments_of(log, &outputs.begun).await;
            }
            Err(error)
        }
    }
}

fn next_generation(inputs: &[SegmentId]) -> Result<u32, ReplaceError> {
    let highest = inputs.iter().map(|input| input.generation).max();
    let next = highest.and_then(|highest| highest.checked_add(1));
    next.ok_or(ReplaceError::NotThere)
}

/// The segments that a rewrite makes.
struct Outputs<'a, R: Runtime> {
    log: &'a Rc<OpenLog<R>>,
    generation: u32,
    /// Those that have a file, or part of one.
    begun: Vec<SegmentId>,
    /// Those that are durable.
    finished: Vec<SegmentFacts>,
}

impl<R: Runtime> Outputs<'_, R> {
    /// Reads the inputs, and writes what is made of them.
    async fn write(
        &mut self,
        inputs: &[SegmentFacts],
        mut rewrite: impl FnMut(&BatchView<'_>) -> Rewritten,
    ) -> Result<(), ReplaceError> {
        let ends = |facts: &SegmentFacts| (facts.base_offset, facts.end_offset);
        let (Some((base, _)), Some((_, end))) = (inputs.first().map(ends), inputs.last().map(ends))
        else {
            return Err(ReplaceError::NotThere);
        };
        let created_ms = inputs.iter().map(|facts| facts.created_ms).max();
        let created_ms = created_ms.unwrap_or_default();
        let (log, mut step_bytes) = (self.log, 0);
        let mut output = self.begin(base, created_ms).await?;
        for facts in inputs {
            let part = file_part(&log.state.borrow(), facts);
            let failed = |error| log.read_failed(error, &part);
            let walk = log.open_walk(&part, 0, READ_BYTES).await;
            let mut walk = walk.map_err(|error| failed(error.into()))?;
            walk.verify();
            walk.count_from(facts.base_offset);
            while let Some(batch) = log.next_checked(&mut walk).await.map_err(failed)? {
                check_goes_on(log)?;
                let Some(batch) = rewritten(&batch, &mut rewrite)? else {
                    continue;
                };
                let view = BatchView::first(&batch).map_err(|_| ReplaceError::NotWithin)?;
                if self.is_full(&output, &view) {
                    let next = self.begin(view.base_offset(), created_ms).await?;
                    self.finish(std::mem::replace(&mut output, next), view.base_offset())
                        .await?;
                }
                output
                    .push(&view)
                    .await
                    .map_err(|error| self.failed(error))?;
                step_bytes += batch.len();
                if step_bytes >= STEP_BYTES {
                    step_bytes = 0;
                    self.log.storage.rt.yield_now().await;
                }
            }
        }
        self.finish(output, end).await
    }

    async fn begin(
        &mut self,
        base_offset: Offset,
        created_ms: i64,
    ) -> Result<SegmentOutput<R>, ReplaceError> {
        let (storage, generation) = (&self.log.storage, self.generation);
        let id = SegmentId {
            base_offset,
            generation,
        };
        self.begun.push(id);
        let created = storage.files.create((self.log.id, id), &self.log.dir).await;
        let file = created.map_err(|error| storage.failed(error))?;
        let interval_bytes = self.log.state.borrow().config().index_interval_bytes;
        let rt = storage.rt.clone();
        Ok(SegmentOutput::new(rt, file, id, created_ms, interval_bytes))
    }

    /// Whether a batch belongs into the next segment, as when it was appended.
    fn is_full(&self, output: &SegmentOutput<R>, batch: &BatchView<'_>) -> bool {
        let (state, facts) = (self.log.state.borrow(), output.facts());
        let config = state.config();
        let bytes = facts.size_bytes + batch.bytes().len() as u64;
        let reach = batch.last_offset().0 - facts.base_offset.0;
        facts.size_bytes > 0
            && (bytes > config.segment_bytes
                || reach > i64::from(i32::MAX)
                || output.index().is_full(config.segment_index_bytes))
    }

    async fn finish(
        &mut self,
        output: SegmentOutput<R>,
        end_offset: Offset,
    ) -> Result<(), ReplaceError> {
        let finished = output.finish(&self.log.dir, end_offset).await;
        let (file, facts) = finished.map_err(|error| self.failed(error))?;
        if holds(Rule::ReplacementDurableFirst) {
            let synced = file.sync().await;
            synced.map_err(|error| self.offline(&error))?;
        }
        self.finished.push(facts);
        Ok(())
    }

    /// A write that fails is final, unless there was no room.
    fn failed(&self, error: io::Error) -> StorageError {
        let lacks_memory = error.get_ref().is_some_and(|inner| inner.is::<ArenaFull>());
        match is_disk_full(&error) || is_open_refused(&error) || lacks_memory {
            true => error.into(),
            false => self.offline(&error),
        }
    }

    fn offline(&self, error: &io::Error) -> StorageError {
        let reason = format!("{}: {error}", self.log.dir.display());
        self.log.storage.failed(StorageError::Offline(reason))
    }
}

/// What is made of a batch, if anything.
fn rewritten(
    batch: &Buf,
    rewrite: &mut impl FnMut(&BatchView<'_>) -> Rewritten,
) -> Result<Option<Buf>, ReplaceError> {
    let before = BatchView::first(batch).map_err(|_| ReplaceError::NotWithin)?;
    let bytes = match rewrite(&before) {
        Rewritten::Same => return Ok(Some(batch.clone())),
        Rewritten::Dropped => return Ok(None),
        Rewritten::As(bytes) => bytes,
    };
    let after = BatchView::first_verified(&bytes).map_err(|_| ReplaceError::NotWithin)?;
    let is_within = after.base_offset() >= before.base_offset()
        && after.last_offset() <= before.last_offset()
        && after.leader_epoch() == before.leader_epoch()
        && after.bytes().len() == bytes.len();
    match is_within {
        true => Ok(Some(Buf::from_vec(bytes))),
        false => Err(ReplaceError::NotWithin),
    }
}

/// Fails when work that takes long is no longer wanted.
fn check_goes_on<R: Runtime>(log: &OpenLog<R>) -> Result<(), ReplaceError> {
    log.check_usable()?;
    match log.storage.closing.get() {
        true => Err(closed().into()),
        false => Ok(()),
    }
}

/// Completes when a durable checkpoint has these segments as sealed.
async fn sealed_in_checkpoint<R: Runtime>(
    log: &OpenLog<R>,
    segments: &[SegmentFacts],
) -> Result<(), ReplaceError> {
    let (storage, (number, sealed_end)) = (&log.storage, log.work.sealed_in.get());
    let are_sealed = segments.iter().all(|facts| facts.end_offset <= sealed_end);
    match are_sealed && storage.checkpoints.is_durable(number) {
        true => Ok(()),
        false => Ok(storage.checkpointed().await?),
    }
}

/// Journals the event; it is applied as soon as the journal has it.
async fn swap<R: Runtime>(
    log: &Rc<OpenLog<R>>,
    replacement: &Replacement,
) -> Result<(), ReplaceError> {
    let (storage, bytes) = (&log.storage, replacement.encode().len());
    if bytes > EVENT_BYTES_MAX {
        return Err(ReplaceError::TooMany);
    }
    let (inputs, outputs) = (&replacement.inputs, &replacement.outputs);
    let more = outputs.len().saturating_sub(inputs.len());
    let held = storage.hold_checkpoint(more * SEGMENT_BYTES).await?;
    if !holds(Rule::ReplacedFilesStay) {
        remove_segments_of(log, inputs).await;
    }
    let permit = log.reserve_journal(bytes).await;
    check_goes_on(log)?;
    let mut permit = permit.map_err(StorageError::from)?;
    let event = log.state.borrow_mut().replace(replacement);
    let event = event.ok_or(ReplaceError::NotThere)?;
    let sequence = append_event(log, &mut permit, event);
    held.take_all();
    // From here on the outputs may be what the log has.
    let unknown = |error: JournalError| ReplaceError::Unknown(error.into());
    storage
        .journal
        .wait_completed(sequence)
        .await
        .map_err(unknown)?;
    if storage.needs_flush() {
        storage.journal.flush().await.map_err(unknown)?;
    }
    Ok(())
}

/// Removes the files of segments that are not part of the log. What cannot be removed is at the next
/// start.
async fn remove_segments_of<R: Runtime>(log: &OpenLog<R>, ids: &[SegmentId]) {
    for id in ids {
        if let Err(error) = remove_files(log, *id).await {
            tracing::warn!(dir = %log.dir.display(), %error, "segment not removed");
        }
    }
}

/// Lets go of segments that others have replaced: once a checkpoint includes the swap, and nobody is left
/// who began to read before it.
async fn let_go<R: Runtime>(log: Rc<OpenLog<R>>, replaced: Vec<SegmentId>, swap: u64) {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    if log.storage.checkpointed().await.is_err() {
        return;
    }
    while log.work.users.any_before(swap) {
        log.storage.rt.sleep(LOOK_AGAIN).await;
    }
    if let Ok(_in_use) = log.use_files()
        && check_goes_on(&log).is_ok()
    {
        remove_segments_of(&log, &replaced).await;
    }
}
