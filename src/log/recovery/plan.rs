//! Which bytes of a partition's segments are walked after replay. Pure.

use std::collections::BTreeMap;

use crate::log::files::partition_files::SegmentId;
use crate::log::partition::snapshot::Snapshot;
use crate::log::segment::position::{Boundary, Position};
use crate::model::Offset;

/// A segment to walk: from a boundary of batches to the end of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkedRange {
    /// Where the walk begins.
    pub from: Boundary,
    /// Where the segment's bytes end.
    pub to: u64,
    /// The journal has written to it.
    pub is_touched: bool,
    /// It lies before the log start: its file may have been removed, and what the journal has of
    /// it may begin behind a hole.
    pub may_be_gone: bool,
}

impl WalkedRange {
    /// Base offset of the segment.
    pub fn base(&self) -> Offset {
        self.from.at.segment
    }

    /// Whether there is nothing to walk, nor a file to cut.
    pub fn is_nothing(&self) -> bool {
        self.may_be_gone && !self.is_touched
    }
}

/// Everything beyond segment-durable, oldest first, the active segment last.
///
/// A segment that lies before the log start may have been removed, so of it only what is beyond the
/// checkpoint's end is walked, all of which the journal has: batches count for producers even where
/// nobody can read them any more.
pub fn plan_walk(snapshot: &Snapshot, replayed: &BTreeMap<Offset, u64>) -> Vec<WalkedRange> {
    let durable = snapshot.segment_durable();
    let known = snapshot.segments().map(|facts| facts.base_offset);
    let mut bases: Vec<Offset> = known.chain(replayed.keys().copied()).collect();
    bases.sort_unstable();
    bases.dedup();
    bases.retain(|base| *base >= durable.at.segment);
    let mut pieces = Vec::with_capacity(bases.len());
    for (number, base) in bases.iter().enumerate() {
        let may_be_gone = may_be_gone(snapshot, *base, bases.get(number + 1));
        let end = snapshot.end();
        let from = match (may_be_gone, base.cmp(&end.at.segment)) {
            (true, std::cmp::Ordering::Less) => continue,
            (true, std::cmp::Ordering::Equal) => end,
            _ if *base == durable.at.segment => durable,
            _ => Boundary {
                offset: *base,
                at: Position::new(*base, 0),
            },
        };
        pieces.push(WalkedRange {
            from,
            to: replayed
                .get(base)
                .copied()
                .unwrap_or_else(|| written_bytes(snapshot, *base)),
            is_touched: replayed.contains_key(base),
            may_be_gone,
        });
    }
    pieces
}

/// Whether a segment lies before the log start, as far as anybody knows who knows the one after it,
/// if that one is known. After the last segment of the checkpoint there may have been another, of
/// which nothing is left to tell because it was empty.
fn may_be_gone(snapshot: &Snapshot, base: Offset, next: Option<&Offset>) -> bool {
    let last = snapshot.end().at.segment;
    next.is_some_and(|next| *next <= snapshot.log_start())
        || (base == last && snapshot.end().offset <= snapshot.log_start())
}

/// The segments whose files must be there, and how long at least.
pub fn needed_files(snapshot: &Snapshot) -> Vec<(SegmentId, u64)> {
    let ids: Vec<SegmentId> = snapshot.segments().map(|facts| facts.id()).collect();
    let needed = ids.iter().enumerate().filter_map(|(number, id)| {
        let next = ids.get(number + 1).map(|next| next.base_offset);
        let may_be_gone = may_be_gone(snapshot, id.base_offset, next.as_ref());
        let bytes = written_bytes(snapshot, id.base_offset);
        (!may_be_gone && bytes > 0).then_some((*id, bytes))
    });
    needed.collect()
}

/// Bytes of a segment that are in its file from before.
fn written_bytes(snapshot: &Snapshot, base: Offset) -> u64 {
    match base.cmp(&snapshot.written_back().segment) {
        std::cmp::Ordering::Less => {
            let facts = snapshot.segments().find(|facts| facts.base_offset == base);
            facts.map_or(0, |facts| facts.size_bytes)
        }
        std::cmp::Ordering::Equal => snapshot.written_back().byte,
        std::cmp::Ordering::Greater => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::partition::snapshot::tests::{example, example_at};

    fn boundary(offset: i64, segment: i64, byte: u64) -> Boundary {
        Boundary {
            offset: Offset(offset),
            at: Position::new(Offset(segment), byte),
        }
    }

    fn replayed() -> BTreeMap<Offset, u64> {
        BTreeMap::from([(Offset(0), 9_000), (Offset(10), 5_000), (Offset(20), 60)])
    }

    fn walked(log_start: i64) -> Vec<(Boundary, u64)> {
        let pieces = plan_walk(&example(log_start), &replayed());
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
    fn the_last_segment_may_be_removed_and_leave_an_empty_one_unknown() {
        let snapshot = example(12);
        let pieces = plan_walk(&snapshot, &BTreeMap::from([(Offset(10), 5_000)]));
        let last = pieces.last().unwrap();
        assert_eq!((last.from, last.to), (boundary(12, 10, 700), 5_000));
        assert!(last.may_be_gone && !last.is_nothing());
        let pieces = plan_walk(&snapshot, &BTreeMap::new());
        assert!(pieces.last().unwrap().is_nothing());
    }

    #[test]
    fn files_are_needed_as_far_as_they_were_written() {
        let id = |base| SegmentId::appended(Offset(base));
        assert_eq!(needed_files(&example(9)), [(id(0), 8_192)]);
        assert_eq!(needed_files(&example(10)), []);
        let later = |log_start| example_at(log_start, Position::new(Offset(10), 300));
        let both = [(id(0), 9_000), (id(10), 300)];
        assert_eq!(needed_files(&later(9)), both);
        assert_eq!(needed_files(&later(12)), []);
    }

    #[test]
    fn nothing_replayed_leaves_what_was_written_back() {
        let pieces = plan_walk(&example(0), &BTreeMap::new());
        let ends: Vec<_> = pieces.iter().map(|piece| piece.to).collect();
        assert_eq!(ends, [8_192, 0]);
        assert!(pieces.iter().all(|piece| !piece.is_touched));
    }
}
