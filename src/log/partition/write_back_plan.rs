//! What of a partition is written back to its segment file next. Pure.
//!
//! The rules: only journaled bytes are written; a write ends on a block boundary unless nothing is accepted
//! beyond it in that segment; a segment that is no longer appended to is written to its last byte, once
//! the journal has all of it, and is then sealed.

use crate::log::rules::{Rule, holds};
use crate::log::segment::position::{Position, block_floor};

/// Where a partition stands when a write-back is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBackState {
    /// The first byte that is not in a segment file yet.
    pub from: Position,
    /// Everything below is safely in the journal.
    pub journaled: Position,
    /// Everything below is accepted.
    pub accepted: Position,
    /// Size of the segment of `from` when it is no longer appended to.
    pub rolled_bytes: Option<u64>,
}

/// How much a write-back should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Whole blocks are enough.
    Blocks,
    /// Everything, so that the journal may forget it.
    Everything,
}

/// One write-back: whole blocks of one segment, from memory to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBackPlan {
    /// First byte to write, at a block boundary.
    pub from: Position,
    /// Byte behind the last one to write.
    pub to: u64,
    /// The segment is complete with it, and is to be cut and sealed.
    pub seals: bool,
}

impl WriteBackPlan {
    /// Whether the last block is not whole: what is accepted next must repeat its beginning.
    pub fn is_unfinished(&self) -> bool {
        !self.to.is_multiple_of(crate::rt::BLOCK_BYTES as u64)
    }
}

/// The next write-back, if there is anything to write; `max_bytes` is in whole blocks.
pub fn plan_write_back(
    state: &WriteBackState,
    urgency: Urgency,
    max_bytes: u64,
) -> Option<WriteBackPlan> {
    let from = state.from.block_start();
    let furthest = from.byte.saturating_add(max_bytes);
    if let Some(size) = state.rolled_bytes.filter(|_| is_all_journaled(state)) {
        if size == state.from.byte {
            // Everything is there already; its last block is only in the file and stays untouched.
            return Some(WriteBackPlan {
                from: state.from,
                to: size,
                seals: true,
            });
        }
        let to = if size <= furthest {
            size
        } else {
            block_floor(furthest)
        };
        return Some(WriteBackPlan {
            from,
            to,
            seals: to == size,
        });
    }
    let limit = if holds(Rule::JournaledBeforeWriteBack) {
        journaled_in_segment(state)
    } else {
        state.accepted.byte
    };
    let is_at_end = state.rolled_bytes.is_none() && limit == state.accepted.byte;
    let nothing_beyond = is_at_end || !holds(Rule::WriteBacksEndOnBlocks);
    let to = match urgency {
        Urgency::Everything if nothing_beyond => limit,
        _ => block_floor(limit),
    };
    let to = if to <= furthest {
        to
    } else {
        block_floor(furthest)
    };
    (to > state.from.byte).then_some(WriteBackPlan {
        from,
        to,
        seals: false,
    })
}

/// Whether the journal has all of a segment that is no longer appended to: what it has reaches into the
/// next one, or up to its beginning.
fn is_all_journaled(state: &WriteBackState) -> bool {
    state.journaled.segment > state.from.segment || !holds(Rule::JournaledBeforeWriteBack)
}

fn journaled_in_segment(state: &WriteBackState) -> u64 {
    if state.journaled.segment == state.from.segment {
        state.journaled.byte
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    fn at(byte: u64) -> Position {
        Position::new(Offset(7), byte)
    }

    fn state(from: u64, journaled: u64, accepted: u64) -> WriteBackState {
        WriteBackState {
            from: at(from),
            journaled: at(journaled),
            accepted: at(accepted),
            rolled_bytes: None,
        }
    }

    fn planned(state: WriteBackState, urgency: Urgency) -> Option<(u64, u64, bool)> {
        plan_write_back(&state, urgency, 1 << 20).map(|plan| (plan.from.byte, plan.to, plan.seals))
    }

    #[test]
    fn whole_blocks_of_what_is_journaled() {
        assert_eq!(
            planned(state(0, 9000, 20000), Urgency::Blocks),
            Some((0, 8192, false))
        );
        assert_eq!(
            planned(state(0, 9000, 9000), Urgency::Blocks),
            Some((0, 8192, false))
        );
        assert_eq!(planned(state(0, 4000, 4000), Urgency::Blocks), None);
    }

    #[test]
    fn an_unfinished_block_only_at_the_end() {
        assert_eq!(
            planned(state(0, 9000, 20000), Urgency::Everything),
            Some((0, 8192, false))
        );
        assert_eq!(
            planned(state(0, 9000, 9000), Urgency::Everything),
            Some((0, 9000, false))
        );
        assert_eq!(planned(state(9000, 9000, 9000), Urgency::Everything), None);
    }

    #[test]
    fn a_block_that_was_unfinished_is_written_again_from_its_start() {
        assert_eq!(
            planned(state(9000, 20000, 30000), Urgency::Blocks),
            Some((8192, 16384, false))
        );
        assert_eq!(planned(state(9000, 9500, 30000), Urgency::Blocks), None);
        assert_eq!(
            planned(state(9000, 9500, 9500), Urgency::Everything),
            Some((8192, 9500, false))
        );
    }

    #[test]
    fn a_rolled_segment_is_written_to_its_last_byte() {
        let rolled = WriteBackState {
            rolled_bytes: Some(9000),
            journaled: Position::new(Offset(9), 100),
            accepted: Position::new(Offset(9), 300),
            ..state(4096, 0, 0)
        };
        assert_eq!(planned(rolled, Urgency::Blocks), Some((4096, 9000, true)));
        let done = WriteBackState {
            from: at(9000),
            ..rolled
        };
        assert_eq!(planned(done, Urgency::Blocks), Some((9000, 9000, true)));
        let plan = plan_write_back(&rolled, Urgency::Blocks, 4096).unwrap();
        assert_eq!((plan.from.byte, plan.to, plan.seals), (4096, 8192, false));
    }

    #[test]
    fn a_rolled_segment_is_not_sealed_before_all_of_it_is_journaled() {
        let rolled = |journaled| WriteBackState {
            rolled_bytes: Some(9000),
            journaled,
            accepted: Position::new(Offset(9), 8200),
            ..state(0, 0, 0)
        };
        let blocks = Some((0, 8192, false));
        assert_eq!(planned(rolled(at(8200)), Urgency::Everything), blocks);
        assert_eq!(planned(rolled(at(4000)), Urgency::Everything), None);
        let all = Position::new(Offset(9), 0);
        assert_eq!(planned(rolled(all), Urgency::Blocks), Some((0, 9000, true)));
    }

    #[test]
    fn journaled_in_an_earlier_segment_moves_nothing_of_this_one() {
        let behind = WriteBackState {
            journaled: Position::new(Offset(3), 9999),
            ..state(0, 0, 5000)
        };
        assert_eq!(planned(behind, Urgency::Everything), None);
    }
}
