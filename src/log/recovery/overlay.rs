//! Journal entries laid over what segment files hold. Pure: bytes in, writes out.
//!
//! Replay begins at the block of the written-back position, which the first entry beyond it covers from its
//! start, and never touches anything below. From there on entries continue each other; where one
//! leaves a gap, something acknowledged is missing.

use crate::log::rules::{Rule, holds};
use crate::log::segment::position::{Position, block_floor};
use crate::model::Offset;

/// What an entry is to the bytes that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Nothing new.
    Known,
    /// New from its byte `skip` on, at `at`.
    Continues {
        /// Bytes of the entry that are there already.
        skip: u64,
        /// Where the rest goes.
        at: Position,
    },
    /// Bytes before it are missing.
    Gap,
}

/// How far a partition's bytes reach while its journal is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Everything below is in segment files, from before.
    written_back: Position,
    /// Everything below is there; none before an entry beyond `written_back` was seen.
    end: Option<Position>,
}

impl Reach {
    /// Of a partition whose checkpoint has everything below `written_back` in segment files.
    pub fn new(written_back: Position) -> Self {
        Self {
            written_back,
            end: None,
        }
    }

    /// Everything below is there.
    pub fn end(&self) -> Position {
        self.end.unwrap_or(self.written_back)
    }

    /// Places an entry of `bytes` at `at`.
    pub fn place(&self, at: Position, bytes: u64) -> Placement {
        let entry_end = Position::new(at.segment, at.byte + bytes);
        let (end, from) = match self.end {
            Some(end) => (end, end),
            None => (self.written_back, self.replay_start()),
        };
        if entry_end <= end {
            return Placement::Known;
        }
        if at.segment > from.segment {
            return match at.byte {
                0 => Placement::Continues { skip: 0, at },
                _ => Placement::Gap,
            };
        }
        match from.byte.checked_sub(at.byte) {
            Some(skip) => Placement::Continues { skip, at: from },
            None => Placement::Gap,
        }
    }

    /// The entry's bytes are there now.
    pub fn extend(&mut self, at: Position, bytes: u64) {
        self.end = Some(Position::new(at.segment, at.byte + bytes));
    }

    /// Where the first bytes of the journal go.
    fn replay_start(&self) -> Position {
        match holds(Rule::ReplayNotBelowMark) {
            true => self.written_back.block_start(),
            false => Position::new(self.written_back.segment, 0).max(Position::default()),
        }
    }
}

/// Consecutive bytes of one segment on their way to its file; begins at a block boundary.
#[derive(Debug)]
pub struct Pending {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Byte position of the first byte.
    pub start: u64,
    pub bytes: Vec<u8>,
}

impl Pending {
    /// Nothing yet, from this block on.
    pub fn at(position: Position) -> Self {
        debug_assert_eq!(position.byte, block_floor(position.byte));
        Self {
            segment: position.segment,
            start: position.byte,
            bytes: Vec::new(),
        }
    }

    /// Takes the whole blocks out: where they go, and the bytes.
    pub fn take_blocks(&mut self) -> (u64, Vec<u8>) {
        let whole = block_floor(self.bytes.len() as u64) as usize;
        let rest = self.bytes.split_off(whole);
        let start = self.start;
        self.start += whole as u64;
        (start, std::mem::replace(&mut self.bytes, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: i64, byte: u64) -> Position {
        Position::new(Offset(segment), byte)
    }

    #[test]
    fn what_is_in_segments_is_left_alone() {
        let reach = Reach::new(at(0, 5000));
        assert_eq!(reach.place(at(0, 0), 5000), Placement::Known);
        let carried = Placement::Continues {
            skip: 0,
            at: at(0, 4096),
        };
        assert_eq!(reach.place(at(0, 4096), 2000), carried);
        let from_before = Placement::Continues {
            skip: 4096,
            at: at(0, 4096),
        };
        assert_eq!(reach.place(at(0, 0), 6000), from_before);
        assert_eq!(reach.place(at(0, 5000), 10), Placement::Gap);
    }

    #[test]
    fn entries_continue_each_other() {
        let mut reach = Reach::new(at(0, 0));
        reach.extend(at(0, 0), 6000);
        let next = Placement::Continues {
            skip: 0,
            at: at(0, 6000),
        };
        assert_eq!(reach.place(at(0, 6000), 10), next);
        let carried = Placement::Continues {
            skip: 6000 - 4096,
            at: at(0, 6000),
        };
        assert_eq!(reach.place(at(0, 4096), 5000), carried);
        assert_eq!(reach.place(at(0, 4096), 1904), Placement::Known);
        assert_eq!(reach.place(at(0, 6001), 10), Placement::Gap);
    }

    #[test]
    fn a_new_segment_begins_at_its_first_byte() {
        let mut reach = Reach::new(at(0, 5000));
        let next = Placement::Continues {
            skip: 0,
            at: at(7, 0),
        };
        assert_eq!(reach.place(at(7, 0), 10), next);
        assert_eq!(reach.place(at(7, 1), 10), Placement::Gap);
        reach.extend(at(7, 0), 10);
        assert_eq!(reach.place(at(0, 4096), 9000), Placement::Known);
        assert_eq!(reach.end(), at(7, 10));
    }

    #[test]
    fn whole_blocks_leave_and_the_rest_stays() {
        let mut pending = Pending::at(at(3, 8192));
        pending.bytes.extend_from_slice(&[1; 5000]);
        let (start, blocks) = pending.take_blocks();
        assert_eq!((start, blocks.len()), (8192, 4096));
        assert_eq!((pending.start, pending.bytes.len()), (12288, 904));
    }
}
