//! Which bytes of a partition's segments are walked after replay. Pure.

use std::collections::BTreeMap;

use crate::log::checkpoint::content::PartitionContent;
use crate::log::marks::{Boundary, Position};
use crate::model::Offset;

/// A segment to walk: from a boundary of batches to the end of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the walk begins.
    pub from: Boundary,
    /// Where the segment's bytes end.
    pub to: u64,
    /// The journal has written to it.
    pub is_touched: bool,
}

impl Piece {
    /// Base offset of the segment.
    pub fn base(&self) -> Offset {
        self.from.at.segment
    }
}

/// Everything beyond segment-durable, oldest first, the active segment last.
///
/// A segment that lies before the log start may have been removed, so of it only what is beyond the
/// checkpoint's end is walked, all of which the journal has: batches count for producers even where
/// nobody can read them any more.
pub fn plan_walk(content: &PartitionContent, replayed: &BTreeMap<Offset, u64>) -> Vec<Piece> {
    let durable = content.segment_durable;
    let known = content.segments.iter().map(|facts| facts.base_offset);
    let mut bases: Vec<Offset> = known.chain(replayed.keys().copied()).collect();
    bases.sort_unstable();
    bases.dedup();
    bases.retain(|base| *base >= durable.at.segment);
    let mut pieces = Vec::with_capacity(bases.len());
    for (number, base) in bases.iter().enumerate() {
        let next = bases.get(number + 1);
        let may_be_gone = next.is_some_and(|next| *next <= content.log_start);
        let end = content.end;
        let from = match (may_be_gone, base.cmp(&end.at.segment)) {
            (true, std::cmp::Ordering::Less) => continue,
            (true, std::cmp::Ordering::Equal) => end,
            _ if *base == durable.at.segment => durable,
            _ => Boundary {
                offset: *base,
                at: Position::new(*base, 0),
            },
        };
        pieces.push(Piece {
            from,
            to: replayed
                .get(base)
                .copied()
                .unwrap_or_else(|| moved_bytes(content, *base)),
            is_touched: replayed.contains_key(base),
        });
    }
    pieces
}

/// Bytes of a segment that are in its file from before.
fn moved_bytes(content: &PartitionContent, base: Offset) -> u64 {
    match base.cmp(&content.moved.segment) {
        std::cmp::Ordering::Less => {
            let facts = content
                .segments
                .iter()
                .find(|facts| facts.base_offset == base);
            facts.map_or(0, |facts| facts.size_bytes)
        }
        std::cmp::Ordering::Equal => content.moved.byte,
        std::cmp::Ordering::Greater => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::SegmentFacts;
    use crate::model::{LeaderEpoch, PartitionId, PartitionIndex, TopicId};

    fn boundary(offset: i64, segment: i64, byte: u64) -> Boundary {
        Boundary {
            offset: Offset(offset),
            at: Position::new(Offset(segment), byte),
        }
    }

    /// Two segments; the first has 9,000 bytes of which 8,192 have moved.
    fn content(log_start: i64) -> PartitionContent {
        let mut first = SegmentFacts::empty(Offset(0), 0);
        first.count(Offset(9), 9_000, 0);
        PartitionContent {
            id: PartitionId {
                topic: TopicId::ZERO,
                index: PartitionIndex(0),
            },
            topic: "t".into(),
            offline: None,
            leader_epoch: LeaderEpoch(0),
            log_start: Offset(log_start),
            segment_durable: boundary(8, 0, 8_000),
            moved: Position::new(Offset(0), 8_192),
            end: boundary(12, 10, 700),
            epochs: Default::default(),
            segments: vec![first, SegmentFacts::empty(Offset(10), 0)],
            producers: Default::default(),
        }
    }

    fn replayed() -> BTreeMap<Offset, u64> {
        BTreeMap::from([(Offset(0), 9_000), (Offset(10), 5_000), (Offset(20), 60)])
    }

    fn walked(log_start: i64) -> Vec<(Boundary, u64)> {
        let pieces = plan_walk(&content(log_start), &replayed());
        pieces.iter().map(|piece| (piece.from, piece.to)).collect()
    }

    #[test]
    fn from_segment_durable_on() {
        let expected = [
            (boundary(8, 0, 8_000), 9_000),
            (boundary(10, 10, 0), 5_000),
            (boundary(20, 20, 0), 60),
        ];
        assert_eq!(walked(0), expected);
        assert_eq!(walked(9), expected, "the first segment still has offset 9");
    }

    #[test]
    fn what_may_be_removed_only_beyond_the_checkpoint() {
        assert_eq!(
            walked(10),
            [(boundary(10, 10, 0), 5_000), (boundary(20, 20, 0), 60)]
        );
        assert_eq!(
            walked(20),
            [(boundary(12, 10, 700), 5_000), (boundary(20, 20, 0), 60)]
        );
    }

    #[test]
    fn nothing_replayed_leaves_what_was_moved() {
        let pieces = plan_walk(&content(0), &BTreeMap::new());
        let ends: Vec<_> = pieces.iter().map(|piece| piece.to).collect();
        assert_eq!(ends, [8_192, 0]);
        assert!(pieces.iter().all(|piece| !piece.is_touched));
    }
}
