//! The recent bytes of a partition in memory, laid out as in its segment files.
//!
//! A chunk begins at a block boundary of its segment and only grows, so that its whole blocks can
//! be written, and its batches sent, without another copy. The block that holds the log's end stays
//! in memory for as long as it is not whole: the next journal entry may have to repeat it.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::log::journal::Pieces;
use crate::log::segment::position::{Position, block_floor};
use crate::model::Offset;
use crate::rt::{BLOCK_BYTES, BufMut, Permit};

/// Sizes of some chunks.
pub type ChunkSizes = SmallVec<[usize; 4]>;

/// A batch in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset behind its last record.
    pub end_offset: Offset,
    /// Its first byte.
    pub at: Position,
    /// Its length.
    pub bytes: u32,
    /// Its largest timestamp, in Unix milliseconds.
    pub max_timestamp_ms: i64,
}

impl TailBatch {
    /// The byte behind it, in the same segment.
    pub fn end(&self) -> Position {
        Position::new(self.at.segment, self.at.byte + u64::from(self.bytes))
    }
}

/// What to read: the whole batches from the one that holds `from` on.
#[derive(Clone, Copy, Debug)]
pub struct ReadAsk {
    /// The first offset wanted.
    pub from: Offset,
    /// No batch that reaches beyond it.
    pub end: Offset,
    /// No more bytes than these.
    pub max_bytes: usize,
    /// But the first batch in any case.
    pub whole_first: bool,
}

impl ReadAsk {
    /// Whether a batch of `batch_bytes` that ends at `batch_end` still belongs to the answer, behind
    /// `read_bytes` that were read.
    pub fn takes(&self, read_bytes: usize, batch_bytes: usize, batch_end: Offset) -> bool {
        let fits = read_bytes + batch_bytes <= self.max_bytes;
        batch_end <= self.end && (fits || (read_bytes == 0 && self.whole_first))
    }
}

/// Whole batches that were read.
#[derive(Clone, Debug, Default)]
pub struct ReadBatches {
    /// The batches' bytes, one behind the other.
    pub pieces: Pieces,
    /// Sum of the pieces' lengths.
    pub bytes: usize,
    /// Where the next read goes on.
    pub next_offset: Offset,
}

impl ReadBatches {
    /// No batch; the next read goes on at `from`.
    pub fn nothing(from: Offset) -> Self {
        Self {
            next_offset: from,
            ..Self::default()
        }
    }
}

/// The tail of one partition.
#[derive(Debug)]
pub struct Tail {
    chunks: VecDeque<Chunk>,
    batches: VecDeque<TailBatch>,
    spare: VecDeque<(BufMut, Permit)>,
    spare_bytes: usize,
    end: Position,
    /// How many of the oldest chunks were found to be in segment files.
    released: usize,
}

#[derive(Debug)]
struct Chunk {
    at: Position,
    bytes: BufMut,
    /// Where the last batch that begins in it ends.
    batches_end: Position,
    /// Its share of the shard's tail memory.
    _memory: Permit,
}

impl Chunk {
    fn new(at: Position, bytes: BufMut, memory: Permit) -> Self {
        Self {
            at,
            bytes,
            batches_end: at,
            _memory: memory,
        }
    }

    fn end(&self) -> Position {
        Position::new(self.at.segment, self.at.byte + self.bytes.len() as u64)
    }

    /// Whether everything in it, and of batches that begin in it, is in a segment file.
    fn is_below(&self, written_back: Position) -> bool {
        self.end().max(self.batches_end) <= written_back
    }
}

impl Tail {
    /// Nothing in memory of a log that ends at `end`.
    pub fn new(end: Position) -> Self {
        Self {
            chunks: VecDeque::new(),
            batches: VecDeque::new(),
            spare: VecDeque::new(),
            spare_bytes: 0,
            end,
            released: 0,
        }
    }

    /// Where the next byte goes.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The first offset whose batch is in memory, if there is one.
    pub fn start_offset(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    /// The batches in memory, oldest first.
    pub fn batches(&self) -> &VecDeque<TailBatch> {
        &self.batches
    }

    /// The unfinished block at the log's end is in the segment file alone and must be loaded, with
    /// [`Tail::load_block`], before anything is pushed: its first byte and how many are used.
    pub fn missing_block(&self) -> Option<(Position, usize)> {
        let used = self.end.byte % BLOCK_BYTES as u64;
        let is_held = self
            .chunks
            .back()
            .is_some_and(|chunk| chunk.end() == self.end);
        (used != 0 && !is_held).then(|| (self.end.block_start(), used as usize))
    }

    /// Takes the bytes of the block at the log's end that was missing.
    pub fn load_block(&mut self, bytes: BufMut, memory: Permit) {
        let at = self.end.block_start();
        debug_assert_eq!(bytes.len() as u64, self.end.byte - at.byte);
        self.chunks.push_back(Chunk::new(at, bytes, memory));
    }

    /// Bytes that can be pushed without another chunk.
    pub fn room(&self) -> usize {
        self.open_chunk().map_or(0, |chunk| chunk.bytes.room()) + self.spare_bytes
    }

    /// Of these, bytes in buffers that nothing was pushed into yet.
    pub fn spare_bytes(&self) -> usize {
        self.spare_bytes
    }

    /// Whether its oldest chunk is its last one, too.
    pub fn has_one_chunk(&self) -> bool {
        self.chunks.len() == 1
    }

    /// How large the next chunk should be for `missing` bytes: twice the last one, so that idle
    /// partitions cost little, but no more than `growth` where that much is not missing, and no more than
    /// `max`.
    ///
    /// An example. The last chunk has 16 KiB, 1 KiB is missing: 32 KiB, or 8 where growth is 10. Where
    /// 100 KiB are missing it is 100, whatever the growth.
    pub fn next_chunk_bytes(&self, missing: usize, growth: usize, max: usize) -> usize {
        let last = self.chunks.back();
        let grown = last.map_or(BLOCK_BYTES, |last| 2 * last.bytes.capacity());
        let grown = grown.min(block_floor(growth as u64) as usize);
        missing
            .max(grown)
            .min(max.max(BLOCK_BYTES))
            .next_multiple_of(BLOCK_BYTES)
    }

    /// Takes an empty buffer for bytes to come.
    pub fn add_spare(&mut self, bytes: BufMut, memory: Permit) {
        self.spare_bytes += bytes.room();
        self.spare.push_back((bytes, memory));
    }

    /// Goes on at the beginning of the segment with this base offset.
    pub fn start_segment(&mut self, base: Offset) {
        self.end = Position::new(base, 0);
    }

    /// Appends bytes; there must be [`Tail::room`] for them.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = self.end;
            let chunk = match self.chunks.back_mut() {
                Some(chunk) if chunk.end() == end && chunk.bytes.room() > 0 => chunk,
                _ => self.open_spare(),
            };
            let (now, later) = bytes.split_at(bytes.len().min(chunk.bytes.room()));
            chunk.bytes.extend_from_slice(now);
            self.end.byte += now.len() as u64;
            bytes = later;
        }
    }

    /// Lists a batch whose bytes were pushed.
    pub fn list(&mut self, batch: TailBatch) {
        let mut from_last = self.chunks.iter_mut().rev();
        if let Some(first) = from_last.find(|chunk| chunk.at <= batch.at) {
            first.batches_end = batch.end();
        }
        self.batches.push_back(batch);
    }

    /// Shares of the bytes of one segment from `from` to `to`; `None` when some are not in memory.
    pub fn slice(&self, from: Position, to: u64) -> Option<Pieces> {
        let mut pieces = Pieces::new();
        let mut at = from;
        let first = self
            .chunks
            .partition_point(|chunk| chunk.at <= from)
            .checked_sub(1);
        for chunk in self.chunks.iter().skip(first.unwrap_or(0)) {
            if at.byte >= to {
                break;
            }
            if chunk.at > at || chunk.end() <= at || chunk.at.segment != at.segment {
                return None;
            }
            let start = (at.byte - chunk.at.byte) as usize;
            let end = (to.min(chunk.end().byte) - chunk.at.byte) as usize;
            pieces.push(chunk.bytes.slice(start..end));
            at.byte = chunk.at.byte + end as u64;
        }
        (at.byte >= to).then_some(pieces)
    }

    /// Reads what is asked for. `None` when its first batch is not in memory.
    pub fn read(&self, ask: ReadAsk) -> Option<ReadBatches> {
        let first = self.index_of(ask.from)?;
        let mut read = ReadBatches::nothing(ask.from);
        let mut run: Option<(Position, u64)> = None;
        for batch in self.batches.range(first..) {
            let bytes = batch.bytes as usize;
            if !ask.takes(read.bytes, bytes, batch.end_offset) {
                break;
            }
            read.bytes += bytes;
            read.next_offset = batch.end_offset;
            run = match run {
                Some((start, to)) if start.segment == batch.at.segment => {
                    Some((start, to + bytes as u64))
                }
                finished => {
                    self.extend_with(&mut read.pieces, finished)?;
                    Some((batch.at, batch.end().byte))
                }
            };
        }
        self.extend_with(&mut read.pieces, run)?;
        Some(read)
    }

    /// Which of [`Tail::batches`] holds `offset`.
    pub fn index_of(&self, offset: Offset) -> Option<usize> {
        self.start_offset().filter(|start| *start <= offset)?;
        let index = self.count_while(|batch| batch.end_offset <= offset);
        (index < self.batches.len()).then_some(index)
    }

    /// How many of [`Tail::batches`] come before the first that is not `before`. Looks from the end,
    /// where readers and write-back are: over a thousand partitions, a search through all of a tail is
    /// a cache miss per step (22 % of the shard's time, before).
    pub fn count_while(&self, before: impl Fn(&TailBatch) -> bool) -> usize {
        let len = self.batches.len();
        let is_before = |index: usize| self.batches.get(index).is_some_and(&before);
        let mut step = 1;
        while step < len && !is_before(len - step) {
            step *= 2;
        }
        let (mut low, mut high) = (len.saturating_sub(step), len - step / 2);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_before(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The sizes of chunks that could not be given up before, and can now that everything below
    /// `written_back` is in segment files.
    pub fn release(&mut self, written_back: Position) -> ChunkSizes {
        let following = self.chunks.iter().skip(self.released);
        let below = following.take_while(|chunk| chunk.is_below(written_back));
        let released: ChunkSizes = below.map(|chunk| chunk.bytes.capacity()).collect();
        self.released += released.len();
        released
    }

    /// The size of its oldest chunk.
    pub fn oldest_chunk_bytes(&self) -> usize {
        self.chunks
            .front()
            .map_or(0, |chunk| chunk.bytes.capacity())
    }

    /// How many chunks could be given up.
    pub fn released_count(&self) -> usize {
        self.released
    }

    /// Gives up the oldest chunk, once released, unless it has grown since.
    pub fn evict(&mut self, written_back: Position) -> bool {
        self.released = self.released.saturating_sub(1);
        let Some(chunk) = self.chunks.front() else {
            return false;
        };
        if !chunk.is_below(written_back) {
            return false;
        }
        let chunk_end = chunk.end();
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.at < chunk_end)
        {
            self.batches.pop_front();
        }
        self.chunks.pop_front();
        true
    }

    /// Gives up everything of the segments before this one.
    pub fn forget_before(&mut self, segment: Offset) {
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.at.segment < segment)
        {
            self.chunks.pop_front();
            self.released = self.released.saturating_sub(1);
        }
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.at.segment < segment)
        {
            self.batches.pop_front();
        }
    }

    /// Forgets everything (the partition is gone).
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.batches.clear();
        self.spare.clear();
        self.spare_bytes = 0;
        self.released = 0;
    }

    fn open_chunk(&self) -> Option<&Chunk> {
        self.chunks.back().filter(|chunk| chunk.end() == self.end)
    }

    fn open_spare(&mut self) -> &mut Chunk {
        let Some((bytes, memory)) = self.spare.pop_front() else {
            panic!("room was made before bytes are accepted");
        };
        debug_assert_eq!(self.end.byte, block_floor(self.end.byte));
        self.spare_bytes -= bytes.room();
        self.chunks.push_back(Chunk::new(self.end, bytes, memory));
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    fn extend_with(&self, pieces: &mut Pieces, run: Option<(Position, u64)>) -> Option<()> {
        if let Some((from, to)) = run {
            pieces.extend(self.slice(from, to)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
