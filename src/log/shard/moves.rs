//! Moving what is journaled to segment files, and sealing segments that are complete.

use std::io;
use std::rc::{Rc, Weak};

use crate::log::error::{StorageError, is_disk_full};
use crate::log::files::partition_files::{SegmentFile, segment_path};
use crate::log::files::small_file::write_small;
use crate::log::partition::move_plan::{MovePlan, Urgency, plan_move};
use crate::log::partition::state::{LogInner, RolledSegment};
use crate::log::rules::{Rule, holds};
use crate::log::segment::index_files::IndexTail;
use crate::log::segment::position::{Position, block_floor};
use crate::log::shard::core::Core;
use crate::rt::{BLOCK_BYTES, Buf, File, Runtime};

/// Longest move. A partition has one under way, so this is what keeps the disk busy: with one busy
/// partition, 1 MiB gave 842 MiB/s, 4 MiB 1,130, 8 MiB 1,234 (p99 7.8, 8.4, 6.0 ms), 16 MiB no more.
const MAX_MOVE_BYTES: u64 = 8 << 20;

/// One of a shard's movers: takes partitions from the queue until the log closes.
pub async fn run_mover<R: Runtime>(core: Rc<Core<R>>) {
    loop {
        let look = || match core.closing.get() || core.offline_reason().is_some() {
            true => Some(None),
            false => core.move_queue.borrow_mut().pop_front().map(Some),
        };
        let Some(partition) = core.move_wanted.wait_until(look).await else {
            return;
        };
        if let Some(partition) = partition.upgrade() {
            move_partition(&core, &partition).await;
        }
        core.rt.yield_now().await;
    }
}

/// Moves what is wanted of one partition, at most one piece at a time.
async fn move_partition<R: Runtime>(core: &Rc<Core<R>>, partition: &Rc<LogInner<R>>) {
    let urgency = {
        let mut state = partition.state.borrow_mut();
        if state.moving > 0 && holds(Rule::MovesDoNotOverlap) {
            // The move that is under way looks again when it ends.
            return;
        }
        state.moving += 1;
        state.wanted_move.take().unwrap_or(Urgency::Blocks)
    };
    let moved = move_once(core, partition, urgency).await;
    let next = {
        let mut state = partition.state.borrow_mut();
        state.moving -= 1;
        let has_more = state.movable_bytes() >= core.options.move_bytes;
        let goes_on = moved && (has_more || urgency == Urgency::Everything);
        state.wanted_move.take().max(goes_on.then_some(urgency))
    };
    // To the end of the queue: other partitions' bytes hold the journal, too.
    if let Some(next) = next {
        partition.request_move(next);
    }
    // A move that found nothing is no progress: whoever waits would only ask for it again.
    let is_awaited = partition.state.borrow().unusable.is_some();
    if moved || is_awaited {
        core.tell_progress();
    }
}

/// Whether anything was moved.
async fn move_once<R: Runtime>(
    core: &Rc<Core<R>>,
    partition: &Rc<LogInner<R>>,
    urgency: Urgency,
) -> bool {
    if core.needs_flush() && flush_journal(core, partition).await.is_err() {
        return false;
    }
    let Some((plan, pieces)) = take_bytes(core, partition, urgency) else {
        return false;
    };
    match write_segment(core, partition, &plan, pieces).await {
        Ok(()) => {
            advance_marks(core, partition, &plan).await;
            true
        }
        Err(error) => {
            let gone = partition.state.borrow().unusable == Some(StorageError::Deleted);
            if !gone {
                let path = segment_path(&partition.dir, plan.from.segment, SegmentFile::Log);
                core.take_offline(&format!("{}: {error}", path.display()));
            }
            false
        }
    }
}

/// Below level `fsync` a completed journal write is not safe yet.
async fn flush_journal<R: Runtime>(
    core: &Rc<Core<R>>,
    partition: &Rc<LogInner<R>>,
) -> Result<(), StorageError> {
    let completed = partition.state.borrow().completed;
    if let Err(error) = core.journal.flush().await {
        let error = StorageError::from(error);
        if error != StorageError::DiskFull {
            core.take_offline(&error.to_string());
        }
        return Err(error);
    }
    let mut state = partition.state.borrow_mut();
    state.journaled = state.journaled.max(completed);
    Ok(())
}

/// Decides on the move and takes shares of its bytes; an unfinished last block goes as a padded
/// copy.
fn take_bytes<R: Runtime>(
    core: &Core<R>,
    partition: &LogInner<R>,
    urgency: Urgency,
) -> Option<(MovePlan, Vec<Buf>)> {
    let mut state = partition.state.borrow_mut();
    state.check_usable().ok()?;
    let plan = plan_move(&state.move_state(), urgency, MAX_MOVE_BYTES)?;
    if plan.from.byte == plan.to {
        return Some((plan, Vec::new()));
    }
    let whole_to = block_floor(plan.to);
    let mut pieces = Vec::from_iter(state.tail.slice(plan.from, whole_to)?);
    if plan.is_unfinished() {
        let last = Position::new(plan.from.segment, whole_to);
        let mut block = core.rt.arena().alloc(BLOCK_BYTES).ok()?;
        for piece in state.tail.slice(last, plan.to)? {
            block.extend_from_slice(&piece);
        }
        block.extend_zeroed(block.room());
        pieces.push(block.freeze());
        state.carries |= !plan.seals;
    }
    Some((plan, pieces))
}

async fn write_segment<R: Runtime>(
    core: &Rc<Core<R>>,
    partition: &LogInner<R>,
    plan: &MovePlan,
    pieces: Vec<Buf>,
) -> io::Result<()> {
    let key = (partition.id, plan.from.segment);
    let file = core.files.get(key, &partition.dir).await?;
    if !pieces.is_empty() {
        write_retrying(core, &file, pieces, plan.from.byte).await?;
        if core.needs_flush() {
            core.unsynced.borrow_mut().insert(key);
        }
    }
    if plan.seals {
        file.set_len(plan.to).await?;
        if holds(Rule::SealCutDurable) {
            file.sync().await?;
        }
    }
    Ok(())
}

/// The space was reserved; where a file system runs out all the same, it is tried again.
async fn write_retrying<R: Runtime>(
    core: &Core<R>,
    file: &R::File,
    pieces: Vec<Buf>,
    at: u64,
) -> io::Result<()> {
    const RETRY: std::time::Duration = std::time::Duration::from_millis(100);
    loop {
        match file.write_at(pieces.clone(), at, core.write_mode()).await {
            Err(error) if is_disk_full(&error) => core.rt.sleep(RETRY).await,
            result => return result,
        }
        core.check_online().map_err(io::Error::other)?;
    }
}

/// The bytes are in the segment: the marks move, and a complete segment becomes a sealed one.
async fn advance_marks<R: Runtime>(
    core: &Rc<Core<R>>,
    partition: &Rc<LogInner<R>>,
    plan: &MovePlan,
) {
    let sealed = {
        let mut state = partition.state.borrow_mut();
        let sealed = if plan.seals {
            state.rolled.pop_front()
        } else {
            None
        };
        match &sealed {
            Some(sealed) => {
                let next = Position::new(sealed.facts.end_offset, 0);
                state.sealed.push_back(sealed.facts);
                state.set_moved(next);
            }
            None => {
                let moved = Position::new(plan.from.segment, plan.to).max(state.moved);
                state.set_moved(moved);
            }
        }
        sealed
    };
    partition.release_chunks();
    partition.marks_changed();
    core.tell_progress();
    if let Some(sealed) = sealed
        && let Err(error) = write_sealed_files(core, partition, sealed).await
    {
        // Neither is needed: indexes are rebuilt, and the checkpoint has the producers.
        tracing::warn!(dir = %partition.dir.display(), %error, "files of a sealed segment not written");
    }
}

/// Finishes the index files, and writes the producer snapshot named by the segment's end.
async fn write_sealed_files<R: Runtime>(
    core: &Rc<Core<R>>,
    partition: &LogInner<R>,
    mut sealed: RolledSegment,
) -> io::Result<()> {
    partition.complete_rolled_index(&mut sealed).await?;
    sealed.index.finish();
    let (dir, base) = (&partition.dir, sealed.facts.base_offset);
    let tail = IndexTail::rest_of(&sealed.index, sealed.indexed);
    tail.write(&core.rt, dir, base).await?;
    let path = segment_path(dir, sealed.facts.end_offset, SegmentFile::Snapshot);
    write_small(&core.rt, &path, 0, sealed.snapshot).await?;
    core.indexes
        .put((partition.id, base), Rc::new(sealed.index));
    Ok(())
}

/// Nobody works on the partition's files any more when this completes.
pub async fn wait_idle<R: Runtime>(partition: &LogInner<R>) {
    let look = || {
        let state = partition.state.borrow();
        (state.moving + state.users == 0).then_some(())
    };
    partition.core.progress.wait_until(look).await;
}

/// Moves everything that `partitions` have accepted below a point in the journal.
pub async fn move_all<R: Runtime>(
    core: &Rc<Core<R>>,
    partitions: Vec<Rc<LogInner<R>>>,
    is_behind: impl Fn(&LogInner<R>) -> bool,
) -> Result<(), StorageError> {
    let mut behind = partitions;
    loop {
        core.check_online()?;
        let seen = core.progress_count.get();
        behind.retain(|partition| {
            partition.state.borrow().unusable.is_none() && is_behind(partition)
        });
        if behind.is_empty() {
            return Ok(());
        }
        for partition in &behind {
            partition.request_move(Urgency::Everything);
        }
        core.progress_since(seen).await;
    }
}

/// Keeps a weak queue from growing with partitions that are gone.
pub fn drop_gone<R: Runtime>(core: &Core<R>) {
    let is_there = |entry: &Weak<LogInner<R>>| entry.strong_count() > 0;
    core.move_queue.borrow_mut().retain(is_there);
    core.evictable.borrow_mut().retain(is_there);
    core.with_unmoved.borrow_mut().retain(is_there);
}
