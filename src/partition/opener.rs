//! Opening producers' batches: their records are checked, and compressed anew where the topic wants it.
//!
//! A batch is read piece by piece, so that it may expand as far as it likes; what is made of it is
//! reserved before it is made, and waits at the door while memory is short. Of a batch that takes
//! longer than a step, the core is given away after each step; what cannot be cut into steps of a
//! millisecond is done on the node's further thread, with a copy of the batch.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use futures_util::FutureExt;

use super::admission_error::AdmissionError;
use crate::compress::{Codecs, CompressError, Level, Readers};
use crate::model::Codec;
use crate::model::batch::{
    BatchFields, BatchView, HEADER_BYTES, InvalidBatch, RecordCheck, RecordFacts, RecordRules,
    recompress,
};
use crate::rt::{Aside, Budget, Mutex, MutexGuard, Permit};

/// Plain bytes that are checked in one step: half a millisecond of the slowest codec (gzip).
const STEP_BYTES: usize = 256 << 10;
/// What a piece counts for at least: a hostile batch can consist of empty ones.
const PIECE_BYTES_MIN: usize = 1 << 10;
/// By how much output may pass the limit before that is noticed: one block of any codec.
const SLACK_BYTES: usize = 80 << 10;

/// Opens the batches of one shard.
pub struct BatchOpener {
    /// For batches that take one step.
    quick: RefCell<Codecs>,
    /// For the others, one at a time, so that there are two sets of contexts and no more.
    slow: RefCell<Codecs>,
    slow_turn: Mutex,
    memory: Budget,
    aside: Aside,
}

/// How a batch is to be compressed anew.
#[derive(Clone, Copy)]
struct Made {
    level: Level,
    plain_bytes: usize,
    limit_bytes: usize,
}

/// What a batch's records were found to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) facts: RecordFacts,
    plain_bytes: usize,
    /// What they count for in steps.
    spent_bytes: usize,
}

impl std::fmt::Debug for BatchOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (taken, total) = (self.memory.taken(), self.memory.total());
        write!(f, "BatchOpener({taken} of {total} bytes)")
    }
}

impl BatchOpener {
    /// Nothing opened yet. What is made of batches takes at most `memory_bytes` at a time, or is one
    /// batch; the contexts of the codecs, which are kept, take up to 22 MiB beside it, 3 MiB where no
    /// producer uses zstd windows beyond the usual 2 MiB.
    ///
    /// What would hold the core too long is done `aside`: one batch of this shard at a time.
    pub fn new(memory_bytes: usize, aside: Aside) -> Self {
        Self {
            quick: RefCell::default(),
            slow: RefCell::default(),
            slow_turn: Mutex::new(),
            memory: Budget::new(memory_bytes),
            aside,
        }
    }

    #[cfg(test)]
    pub(super) fn taken_bytes(&self) -> usize {
        self.memory.taken()
    }

    /// Waits for memory of `bytes`.
    pub(super) async fn memory(&self, bytes: usize) -> Permit {
        self.memory.acquire(bytes).await
    }

    /// Checks every record; `pause` lets the shard's other tasks run.
    pub(super) async fn check<P: AsyncFn()>(
        &self,
        batch: &BatchView<'_>,
        rules: &RecordRules,
        pause: &P,
    ) -> Result<Opened, AdmissionError> {
        if batch.compression() == Codec::None {
            return check_in_place(batch, rules, pause).await;
        }
        let demand = Readers::demand(batch.compression(), batch.records());
        if demand.extra_bytes == 0 {
            let mut codecs = self.take_quick();
            if let Some(opened) = check(&mut codecs, batch, rules, None::<&P>).await? {
                return Ok(opened);
            }
        }
        // Who needs none does not queue behind those that do.
        let copy_bytes = copy_bytes(batch, demand.is_slow);
        let _memory = match demand.extra_bytes + copy_bytes {
            0 => None,
            bytes => Some(self.memory(bytes).await),
        };
        let mut codecs = self.take_slow().await;
        let opened = match demand.is_slow {
            true => {
                let rules = rules.clone();
                let check = move |codecs: &mut Codecs, batch: &BatchView<'_>| {
                    at_once(check(codecs, batch, &rules, Some(&async || {})))
                };
                self.do_aside(&mut codecs, batch, check).await?
            }
            false => check(&mut codecs, batch, rules, Some(pause)).await?,
        };
        opened.ok_or(InvalidBatch::Truncated.into())
    }

    /// The batch with its records, which were checked, compressed at `level`, and the memory it is in.
    pub(super) async fn recompressed<P: AsyncFn()>(
        &self,
        batch: &BatchView<'_>,
        opened: &Opened,
        level: Level,
        limit_bytes: usize,
        pause: &P,
    ) -> Result<(Vec<u8>, Permit), AdmissionError> {
        let plain_bytes = opened.plain_bytes;
        let most_bytes = HEADER_BYTES + level.max_output_bytes(plain_bytes);
        if level.codec() == Codec::None {
            within(most_bytes, limit_bytes)?;
        }
        let out_bytes = most_bytes.min(limit_bytes + SLACK_BYTES);
        let demand = Readers::demand(batch.compression(), batch.records());
        let is_one_step = opened.spent_bytes <= level.step_bytes();
        let is_quick = demand.extra_bytes == 0 && is_one_step;
        let is_slow = demand.is_slow || (level.is_slow() && !is_one_step);
        let context_bytes = level.context_bytes(plain_bytes);
        // Memory comes before the turn: whoever has the turn waits for nothing.
        let beside_bytes = demand.extra_bytes + context_bytes + copy_bytes(batch, is_slow);
        let mut memory = self.memory(out_bytes + beside_bytes).await;
        let mut codecs = match is_quick {
            true => self.take_quick(),
            false => self.take_slow().await,
        };
        let mut out = Vec::with_capacity(out_bytes);
        BatchFields::reserve(&mut out);
        let made = Made {
            level,
            plain_bytes,
            limit_bytes,
        };
        if is_slow {
            let write = move |codecs: &mut Codecs, batch: &BatchView<'_>| {
                at_once(write(codecs, batch, made, Some(&async || {}), &mut out))?;
                Ok(out)
            };
            out = self.do_aside(&mut codecs, batch, write).await?;
        } else {
            let pause = (!is_quick).then_some(pause);
            write(&mut codecs, batch, made, pause, &mut out).await?;
        }
        drop(codecs);
        within(out.len(), limit_bytes)?;
        recompress(batch, level.codec(), &mut out)?;
        out.shrink_to_fit();
        memory.shrink_to(out.capacity());
        Ok((out, memory))
    }

    /// Has the node's further thread do `work` with `taken` and a copy of the batch.
    async fn do_aside<T: Send + 'static>(
        &self,
        taken: &mut TakenCodecs<'_>,
        batch: &BatchView<'_>,
        work: impl FnOnce(&mut Codecs, &BatchView<'_>) -> Result<T, AdmissionError> + Send + 'static,
    ) -> Result<T, AdmissionError> {
        let (codec, copy) = (batch.compression(), batch.bytes().to_vec());
        let mut codecs = std::mem::take(&mut taken.codecs);
        let work = move || {
            let batch = BatchView::first(&copy).map_err(|_| InvalidBatch::Truncated);
            let done = match batch {
                Ok(batch) => work(&mut codecs, &batch),
                Err(error) => Err(error.into()),
            };
            (codecs, done)
        };
        let reason = "its thread has panicked";
        let done = self.aside.run(work).await;
        let (codecs, done) = done.ok_or(CompressError { codec, reason })?;
        taken.codecs = codecs;
        done
    }

    /// For what never waits before it gives them back.
    fn take_quick(&self) -> TakenCodecs<'_> {
        TakenCodecs::from(&self.quick, None)
    }

    async fn take_slow(&self) -> TakenCodecs<'_> {
        let turn = self.slow_turn.lock().await;
        TakenCodecs::from(&self.slow, Some(turn))
    }
}

/// Contexts that go back where they came from.
struct TakenCodecs<'a> {
    codecs: Codecs,
    home: &'a RefCell<Codecs>,
    _turn: Option<MutexGuard>,
}

impl<'a> TakenCodecs<'a> {
    fn from(home: &'a RefCell<Codecs>, turn: Option<MutexGuard>) -> Self {
        Self {
            codecs: home.take(),
            home,
            _turn: turn,
        }
    }
}

impl Deref for TakenCodecs<'_> {
    type Target = Codecs;

    fn deref(&self) -> &Codecs {
        &self.codecs
    }
}

impl DerefMut for TakenCodecs<'_> {
    fn deref_mut(&mut self) -> &mut Codecs {
        &mut self.codecs
    }
}

impl Drop for TakenCodecs<'_> {
    fn drop(&mut self) {
        self.codecs.trim();
        self.home.replace(std::mem::take(&mut self.codecs));
    }
}

/// Records that are not compressed are looked at where they are.
async fn check_in_place(
    batch: &BatchView<'_>,
    rules: &RecordRules,
    pause: &impl AsyncFn(),
) -> Result<Opened, AdmissionError> {
    let mut check = RecordCheck::new(batch, rules);
    let mut steps = batch.records().chunks(STEP_BYTES).peekable();
    while let Some(step) = steps.next() {
        check.push(step)?;
        if steps.peek().is_some() {
            pause().await;
        }
    }
    Ok(Opened {
        facts: check.finish()?,
        plain_bytes: batch.records().len(),
        spent_bytes: batch.records().len(),
    })
}

/// Decompresses and checks. Without a pause it ends, with none, where the first would be due.
async fn check(
    codecs: &mut Codecs,
    batch: &BatchView<'_>,
    rules: &RecordRules,
    pause: Option<&impl AsyncFn()>,
) -> Result<Option<Opened>, AdmissionError> {
    let (codec, records) = (batch.compression(), batch.records());
    let limit_bytes = Readers::demand(codec, records).limit_bytes;
    let mut expansion = codecs.readers.open(codec, records, limit_bytes);
    let mut check = RecordCheck::new(batch, rules);
    let (mut plain_bytes, mut spent_bytes, mut paused_at_bytes) = (0, 0, 0);
    while let Some(piece) = expansion.next_piece()? {
        plain_bytes += piece.len();
        for part in parts(piece, STEP_BYTES) {
            check.push(part)?;
            spent_bytes += part.len().max(PIECE_BYTES_MIN);
            if spent_bytes - paused_at_bytes >= STEP_BYTES {
                let Some(pause) = pause else {
                    return Ok(None);
                };
                paused_at_bytes = spent_bytes;
                pause().await;
            }
        }
    }
    Ok(Some(Opened {
        facts: check.finish()?,
        plain_bytes,
        spent_bytes,
    }))
}

/// Appends the batch's records, compressed anew, to `out`, and stops soon behind the limit.
async fn write(
    codecs: &mut Codecs,
    batch: &BatchView<'_>,
    made: Made,
    pause: Option<&impl AsyncFn()>,
    out: &mut Vec<u8>,
) -> Result<(), AdmissionError> {
    let (codec, records) = (batch.compression(), batch.records());
    let Made {
        level,
        plain_bytes,
        limit_bytes,
    } = made;
    let step_bytes = level.step_bytes();
    if codec == Codec::None && plain_bytes <= step_bytes {
        return Ok(codecs.compress(level, records, out)?);
    }
    let mut expansion = codecs.readers.open(codec, records, plain_bytes);
    let mut compressing = codecs.writers.begin(level, plain_bytes, out)?;
    let mut left_bytes = step_bytes;
    while let Some(piece) = expansion.next_piece()? {
        for part in parts(piece, step_bytes) {
            compressing.write(part, out)?;
            within(out.len(), limit_bytes)?;
            let spent_bytes = part.len().max(PIECE_BYTES_MIN);
            left_bytes = left_bytes.saturating_sub(spent_bytes);
            if left_bytes == 0
                && let Some(pause) = pause
            {
                left_bytes = step_bytes;
                pause().await;
            }
        }
    }
    Ok(compressing.finish(&[], out)?)
}

/// Parts of a piece: one of an empty one, whose making took time too.
fn parts(piece: &[u8], part_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let empty = piece.is_empty().then_some(piece);
    piece.chunks(part_bytes).chain(empty)
}

/// The memory of what is done aside.
fn copy_bytes(batch: &BatchView<'_>, is_slow: bool) -> usize {
    if is_slow { batch.bytes().len() } else { 0 }
}

/// The end of what has nothing to wait for.
fn at_once<T>(work: impl Future<Output = Result<T, AdmissionError>>) -> Result<T, AdmissionError> {
    let done = work.now_or_never();
    done.unwrap_or(Err(InvalidBatch::Truncated.into()))
}

fn within(batch_bytes: usize, limit_bytes: usize) -> Result<(), InvalidBatch> {
    if batch_bytes > limit_bytes {
        return Err(InvalidBatch::TooLarge {
            batch_bytes,
            limit_bytes,
        });
    }
    Ok(())
}
