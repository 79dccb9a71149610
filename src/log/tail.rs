//! The recent bytes of a partition in memory, laid out as in its segment files.
//!
//! A chunk begins at a block boundary of its segment and only grows, so that its whole blocks can
//! be written, and its batches sent, without another copy. The block that holds the log's end stays
//! in memory for as long as it is not whole: the next journal entry may have to carry it again.

use std::collections::VecDeque;

use crate::log::marks::{Position, block_floor};
use crate::model::Offset;
use crate::rt::{BLOCK_BYTES, Buf, BufMut, Permit};

/// Shares of consecutive bytes. Two, as where a batch crosses from one chunk into the next, cost no
/// allocation.
pub type Pieces = smallvec::SmallVec<[Buf; 2]>;

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

/// Whole batches that were read.
#[derive(Clone, Debug, Default)]
pub struct ReadBatches {
    /// The batches' bytes, one behind the other.
    pub pieces: Vec<Buf>,
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
}

#[derive(Debug)]
struct Chunk {
    at: Position,
    bytes: BufMut,
    /// Its share of the shard's tail memory.
    _memory: Permit,
}

impl Chunk {
    fn end(&self) -> Position {
        Position::new(self.at.segment, self.at.byte + self.bytes.len() as u64)
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
        self.chunks.push_back(Chunk {
            at,
            bytes,
            _memory: memory,
        });
    }

    /// Bytes that can be pushed without another chunk.
    pub fn room(&self) -> usize {
        self.open_chunk().map_or(0, |chunk| chunk.bytes.room()) + self.spare_bytes
    }

    /// How large the next chunk should be for `missing` bytes: twice the last one, so that idle
    /// partitions cost little, and no more than `max`.
    pub fn next_chunk_bytes(&self, missing: usize, max: usize) -> usize {
        let grown = self
            .chunks
            .back()
            .map_or(BLOCK_BYTES, |last| 2 * last.bytes.capacity());
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

    /// The whole batches from the one that holds `from` up to the exclusive bound `end`, at most
    /// `max_bytes` (the first one whole in any case, when `whole_first`). `None` when `from` is not
    /// in memory.
    pub fn read(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        whole_first: bool,
    ) -> Option<ReadBatches> {
        let first = self.index_of(from)?;
        let mut read = ReadBatches {
            next_offset: from,
            ..ReadBatches::default()
        };
        let mut run: Option<(Position, u64)> = None;
        for batch in self.batches.range(first..) {
            let bytes = batch.bytes as usize;
            let fits = read.bytes + bytes <= max_bytes || (read.bytes == 0 && whole_first);
            if batch.end_offset > end || !fits {
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
        let index = self
            .batches
            .partition_point(|batch| batch.end_offset <= offset);
        (index < self.batches.len()).then_some(index)
    }

    /// Gives up the oldest chunk when everything in it, and of batches that begin in it, is below
    /// the segment-durable position.
    pub fn evict(&mut self, segment_durable: Position) -> bool {
        let Some(chunk) = self.chunks.front() else {
            return false;
        };
        let chunk_end = chunk.end();
        let within = self.batches.partition_point(|batch| batch.at < chunk_end);
        let last_end = within
            .checked_sub(1)
            .and_then(|last| self.batches.get(last))
            .map_or(chunk_end, TailBatch::end);
        if chunk_end.max(last_end) > segment_durable {
            return false;
        }
        self.batches.drain(..within);
        self.chunks.pop_front();
        true
    }

    /// Forgets everything (the partition is gone).
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.batches.clear();
        self.spare.clear();
        self.spare_bytes = 0;
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
        self.chunks.push_back(Chunk {
            at: self.end,
            bytes,
            _memory: memory,
        });
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    fn extend_with(&self, pieces: &mut Vec<Buf>, run: Option<(Position, u64)>) -> Option<()> {
        if let Some((from, to)) = run {
            pieces.extend(self.slice(from, to)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{Arena, Budget};

    struct Fixture {
        arena: Arena,
        budget: Budget,
        tail: Tail,
        next: i64,
    }

    impl Fixture {
        fn new(end: Position) -> Self {
            Self {
                arena: Arena::new(1 << 24),
                budget: Budget::new(1 << 24),
                tail: Tail::new(end),
                next: 0,
            }
        }

        fn spare(&mut self, bytes: usize) {
            let buf = self.arena.alloc(bytes).unwrap();
            let memory = self.budget.try_acquire(buf.capacity()).unwrap();
            self.tail.add_spare(buf, memory);
        }

        fn append(&mut self, bytes: usize) {
            while self.tail.room() < bytes {
                self.spare(BLOCK_BYTES);
            }
            let at = self.tail.end();
            let base = Offset(self.next);
            self.next += 1;
            self.tail.push(&vec![base.0 as u8; bytes]);
            self.tail.list(TailBatch {
                base_offset: base,
                end_offset: base.plus(1),
                at,
                bytes: bytes as u32,
                max_timestamp_ms: 0,
            });
        }
    }

    fn joined(pieces: &[Buf]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn batches_span_chunks_and_segments() {
        let mut log = Fixture::new(Position::default());
        for bytes in [3000, 3000, 9000] {
            log.append(bytes);
        }
        log.tail.start_segment(Offset(3));
        log.append(100);
        let read = log
            .tail
            .read(Offset(1), Offset(4), usize::MAX, true)
            .unwrap();
        let expected = [vec![1; 3000], vec![2; 9000], vec![3; 100]].concat();
        assert_eq!(joined(&read.pieces), expected);
        assert_eq!((read.bytes, read.next_offset), (12100, Offset(4)));
    }

    #[test]
    fn a_read_keeps_its_bounds() {
        let mut log = Fixture::new(Position::default());
        for _ in 0..4 {
            log.append(1000);
        }
        let read = |max, whole| log.tail.read(Offset(1), Offset(3), max, whole).unwrap();
        assert_eq!(read(usize::MAX, true).next_offset, Offset(3));
        assert_eq!(read(1999, true).next_offset, Offset(2));
        assert_eq!(read(10, true).next_offset, Offset(2));
        assert_eq!(read(10, false).next_offset, Offset(1));
        assert!(log.tail.read(Offset(4), Offset(9), 1, true).is_none());
    }

    #[test]
    fn only_whole_batches_in_segment_files_are_given_up() {
        let mut log = Fixture::new(Position::default());
        log.append(3000);
        log.append(3000);
        // The first chunk's last batch reaches into the second.
        assert!(!log.tail.evict(Position::new(Offset(0), 4096)));
        assert!(log.tail.evict(Position::new(Offset(0), 6000)));
        assert!(log.tail.start_offset().is_none());
        assert!(
            log.tail
                .slice(Position::new(Offset(0), 4096), 6000)
                .is_some()
        );
        assert!(log.tail.evict(Position::new(Offset(0), 6000)));
        assert_eq!(log.budget.taken(), 0);
        assert_eq!(
            log.tail.missing_block(),
            Some((Position::new(Offset(0), 4096), 6000 - 4096))
        );
    }

    #[test]
    fn a_loaded_block_is_continued() {
        let mut log = Fixture::new(Position::new(Offset(7), 5000));
        let mut block = log.arena.alloc(BLOCK_BYTES).unwrap();
        block.extend_from_slice(&[9; 904]);
        let memory = log.budget.try_acquire(BLOCK_BYTES).unwrap();
        log.tail.load_block(block, memory);
        assert_eq!(log.tail.missing_block(), None);
        log.append(10);
        let carried = log
            .tail
            .slice(Position::new(Offset(7), 4096), 5010)
            .unwrap();
        assert_eq!(joined(&carried), [vec![9; 904], vec![0; 10]].concat());
    }

    #[test]
    fn chunks_double() {
        let mut log = Fixture::new(Position::default());
        assert_eq!(log.tail.next_chunk_bytes(1, 1 << 20), 4096);
        assert_eq!(log.tail.next_chunk_bytes(5000, 1 << 20), 8192);
        log.append(1);
        assert_eq!(log.tail.next_chunk_bytes(1, 1 << 20), 8192);
        assert_eq!(log.tail.next_chunk_bytes(1, 4096), 4096);
        assert_eq!(log.tail.next_chunk_bytes(9 << 20, 1 << 20), 1 << 20);
    }
}
