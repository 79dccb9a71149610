//! What a tail holds, reads and gives up.

use super::*;
use crate::rt::{Arena, Budget, Buf};

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

fn ask(from: i64, end: i64, max_bytes: usize, whole_first: bool) -> ReadAsk {
    ReadAsk {
        from: Offset(from),
        end: Offset(end),
        max_bytes,
        whole_first,
    }
}

#[test]
fn batches_span_chunks_and_segments() {
    let mut log = Fixture::new(Position::default());
    for bytes in [3000, 3000, 9000] {
        log.append(bytes);
    }
    log.tail.start_segment(Offset(3));
    log.append(100);
    let read = log.tail.read(ask(1, 4, usize::MAX, true)).unwrap();
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
    let read = |max, whole| log.tail.read(ask(1, 3, max, whole)).unwrap();
    assert_eq!(read(usize::MAX, true).next_offset, Offset(3));
    assert_eq!(read(1999, true).next_offset, Offset(2));
    assert_eq!(read(10, true).next_offset, Offset(2));
    assert_eq!(read(10, false).next_offset, Offset(1));
    assert!(log.tail.read(ask(4, 9, 1, true)).is_none());
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
    const MANY: usize = 1 << 20;
    let mut log = Fixture::new(Position::default());
    assert_eq!(log.tail.next_chunk_bytes(1, MANY, MANY), 4096);
    assert_eq!(log.tail.next_chunk_bytes(5000, MANY, MANY), 8192);
    log.append(1);
    assert_eq!(log.tail.next_chunk_bytes(1, MANY, MANY), 8192);
    assert_eq!(log.tail.next_chunk_bytes(1, MANY, 4096), 4096);
    assert_eq!(log.tail.next_chunk_bytes(9 << 20, MANY, MANY), MANY);
}

/// The example at the method.
#[test]
fn chunks_double_while_there_is_much_memory() {
    const KIB: usize = 1 << 10;
    let mut log = Fixture::new(Position::default());
    log.spare(16 * KIB);
    log.append(1);
    let next = |missing, growth| log.tail.next_chunk_bytes(missing, growth, 1 << 20);
    assert_eq!(
        (next(KIB, 32 * KIB), next(KIB, 10 * KIB)),
        (32 * KIB, 8 * KIB)
    );
    assert_eq!(
        (next(100 * KIB, 10 * KIB), next(1, 0)),
        (100 * KIB, 4 * KIB)
    );
}

#[test]
fn a_chunk_that_has_grown_is_not_given_up() {
    let mut log = Fixture::new(Position::default());
    log.append(3000);
    assert_eq!(log.tail.release(Position::new(Offset(0), 3000))[..], [4096]);
    assert!(log.tail.release(Position::new(Offset(0), 3000)).is_empty());
    log.append(500);
    assert!(!log.tail.evict(Position::new(Offset(0), 3000)));
    assert_eq!(log.tail.release(Position::new(Offset(0), 3500)).len(), 1);
    assert!(log.tail.evict(Position::new(Offset(0), 3500)));
    assert_eq!(log.tail.batches().len(), 0);
}

#[test]
fn a_batch_is_found_from_anywhere() {
    let mut log = Fixture::new(Position::default());
    for _ in 0..37 {
        log.append(100);
    }
    for offset in 0..37 {
        assert_eq!(log.tail.index_of(Offset(offset)), Some(offset as usize));
    }
    assert_eq!(log.tail.index_of(Offset(37)), None);
    assert_eq!(log.tail.count_while(|_| true), 37);
    assert_eq!(log.tail.count_while(|_| false), 0);
}
