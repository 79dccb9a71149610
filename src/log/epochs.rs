//! Where each leader's term begins in a partition's log (KIP-101), and the answers drawn from it.
//!
//! Pure. Same rules as Kafka's `LeaderEpochFileCache`, same text as its `leader-epoch-checkpoint`:
//! a line `0` (version), a line with the count, then a line `epoch start-offset` per term.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write;

use crate::model::{LeaderEpoch, Offset};

/// A leader's term and its first offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The term.
    pub epoch: LeaderEpoch,
    /// First offset appended (or to be appended) in it.
    pub start_offset: Offset,
}

/// The end of a term, as OffsetForLeaderEpoch answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch not above the requested one.
    pub epoch: LeaderEpoch,
    /// The offset at which that epoch ends.
    pub end_offset: Offset,
}

/// Why text is not a `leader-epoch-checkpoint`; it is dropped and rebuilt from the batches' headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochFileError {
    /// Not text, or not lines of numbers.
    #[error("leader epoch checkpoint is malformed at line {line}")]
    Malformed {
        /// Counted from 1.
        line: usize,
    },
    /// Written by something newer.
    #[error("leader epoch checkpoint has version {0}, only 0 is known")]
    Version(i64),
    /// More or fewer lines than the count says.
    #[error("leader epoch checkpoint says {said} entries and has {found}")]
    Count {
        /// The count line.
        said: usize,
        /// Entries that follow it.
        found: usize,
    },
    /// Epochs or offsets that do not rise.
    #[error("leader epoch checkpoint does not rise at line {line}")]
    Order {
        /// Counted from 1.
        line: usize,
    },
}

/// The terms of one partition, epochs and start offsets both strictly rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochStart>,
}

impl EpochCache {
    /// The terms, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest term, unless there is none.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// Begins a term at `start_offset`, and says whether that changed anything.
    ///
    /// Entries that contradict it (not below it in both epoch and offset) go: a leader that appended
    /// nothing leaves no trace. The latest epoch again, not earlier, changes nothing; neither does a
    /// negative epoch or offset.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let known = self
            .latest()
            .is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset);
        if known || epoch.0 < 0 || start_offset.0 < 0 {
            return false;
        }
        while self
            .latest()
            .is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochStart {
            epoch,
            start_offset,
        });
        true
    }

    /// Takes note of a batch during recovery: only an epoch above the latest begins a term.
    pub fn observe(&mut self, batch_epoch: LeaderEpoch, base_offset: Offset) -> bool {
        let newer = self.latest().is_none_or(|last| last.epoch < batch_epoch);
        newer && self.assign(batch_epoch, base_offset)
    }

    /// Where the log of `requested` ends, or `None` for what the wire calls (−1, −1).
    ///
    /// The latest epoch ends at the log end. One above it, or none, is undefined. One before all
    /// known epochs ends where those begin, under its own number. Any other: the largest known epoch
    /// not above it, and the start of the next.
    pub fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<EpochEnd> {
        if requested == LeaderEpoch::NONE {
            return None;
        }
        let following = self.entries.partition_point(|e| e.epoch <= requested);
        let floor = following.checked_sub(1).and_then(|at| self.entries.get(at));
        match (floor, self.entries.get(following)) {
            (_, Some(next)) => Some(EpochEnd {
                epoch: floor.map_or(requested, |e| e.epoch),
                end_offset: next.start_offset,
            }),
            (Some(last), None) if last.epoch == requested => Some(EpochEnd {
                epoch: requested,
                end_offset: log_end_offset,
            }),
            _ => None,
        }
    }

    /// The epoch in which `offset` was or will be written; `None` before all known terms.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let following = self.entries.partition_point(|e| e.start_offset <= offset);
        self.entries.get(following.checked_sub(1)?).map(|e| e.epoch)
    }

    /// Forgets the terms that begin at or behind a log cut to `end_offset`; says whether any did.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let kept = self
            .entries
            .partition_point(|e| e.start_offset < end_offset);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets the terms that ended before the new log start; the one the log now starts in stays
    /// and begins there. Says whether anything changed.
    pub fn truncate_from_start(&mut self, log_start_offset: Offset) -> bool {
        let following = self
            .entries
            .partition_point(|e| e.start_offset <= log_start_offset);
        let Some(current) = following.checked_sub(1) else {
            return false;
        };
        self.entries.drain(..current);
        match self.entries.first_mut() {
            Some(first) => {
                let moved = first.start_offset != log_start_offset;
                first.start_offset = log_start_offset;
                moved || current > 0
            }
            None => false,
        }
    }

    /// The text of a `leader-epoch-checkpoint`.
    pub fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
        }
        text
    }

    /// Reads a `leader-epoch-checkpoint`.
    ///
    /// The format has no checksum: a digit that changed and still fits is not noticed, so what is
    /// read here must not outrank a checksummed copy or the batches themselves.
    pub fn decode(bytes: &[u8]) -> Result<Self, EpochFileError> {
        let malformed = |line| EpochFileError::Malformed { line };
        let text = std::str::from_utf8(bytes).map_err(|_| malformed(1))?;
        let mut lines = text.lines();
        let version = lines.next().and_then(number).ok_or(malformed(1))?;
        if version != 0 {
            return Err(EpochFileError::Version(version));
        }
        let said = lines.next().and_then(number).ok_or(malformed(2))?;
        let said = usize::try_from(said).map_err(|_| malformed(2))?;
        let mut cache = Self::default();
        for (at, line) in lines.enumerate() {
            let entry = entry(line).ok_or(malformed(at + 3))?;
            if !cache.follows(&entry) {
                return Err(EpochFileError::Order { line: at + 3 });
            }
            cache.entries.push(entry);
        }
        match cache.entries.len() {
            found if found == said => Ok(cache),
            found => Err(EpochFileError::Count { said, found }),
        }
    }

    fn follows(&self, entry: &EpochStart) -> bool {
        self.latest()
            .is_none_or(|last| last.epoch < entry.epoch && last.start_offset < entry.start_offset)
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn entry(line: &str) -> Option<EpochStart> {
    let (epoch, start_offset) = line.split_once(' ')?;
    let entry = EpochStart {
        epoch: LeaderEpoch(epoch.parse().ok()?),
        start_offset: Offset(start_offset.parse().ok()?),
    };
    (entry.epoch.0 >= 0 && entry.start_offset.0 >= 0).then_some(entry)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start_offset) in entries {
            cache.assign(LeaderEpoch(*epoch), Offset(*start_offset));
        }
        cache
    }

    fn pairs(cache: &EpochCache) -> Vec<(i32, i64)> {
        let pair = |e: &EpochStart| (e.epoch.0, e.start_offset.0);
        cache.entries().iter().map(pair).collect()
    }

    fn end(cache: &EpochCache, requested: i32) -> Option<(i32, i64)> {
        cache
            .end_offset_for(LeaderEpoch(requested), Offset(100))
            .map(|end| (end.epoch.0, end.end_offset.0))
    }

    #[test]
    fn ends_of_epochs() {
        let cache = cache(&[(2, 10), (5, 30), (8, 70)]);
        assert_eq!(end(&cache, -1), None, "no epoch");
        assert_eq!(
            end(&cache, 8),
            Some((8, 100)),
            "the latest ends at the log end"
        );
        assert_eq!(end(&cache, 9), None, "above the latest");
        assert_eq!(end(&cache, 1), Some((1, 10)), "below the first");
        assert_eq!(end(&cache, 2), Some((2, 30)), "known");
        assert_eq!(end(&cache, 7), Some((5, 70)), "between two");
        assert_eq!(end(&EpochCache::default(), 0), None, "nothing known");
    }

    #[test]
    fn epochs_of_offsets() {
        let cache = cache(&[(2, 10), (5, 30)]);
        let at = |offset| cache.epoch_at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!([at(9), at(10), at(29)], [None, Some(2), Some(2)]);
        assert_eq!([at(30), at(1000)], [Some(5), Some(5)]);
    }

    #[test]
    fn a_leader_that_appended_nothing_leaves_no_trace() {
        assert_eq!(
            pairs(&cache(&[(1, 0), (2, 10), (3, 10)])),
            [(1, 0), (3, 10)]
        );
    }

    #[test]
    fn the_latest_epoch_again_changes_nothing() {
        let mut cache = cache(&[(1, 0), (2, 10)]);
        assert!(!cache.assign(LeaderEpoch(2), Offset(20)));
        assert!(!cache.assign(LeaderEpoch(-1), Offset(20)));
        assert!(!cache.assign(LeaderEpoch(3), Offset(-1)));
        assert!(!cache.observe(LeaderEpoch(1), Offset(20)));
        assert_eq!(pairs(&cache), [(1, 0), (2, 10)]);
    }

    #[test]
    fn the_term_in_which_the_log_starts_is_kept() {
        let mut cache = cache(&[(1, 0), (2, 10), (3, 20)]);
        assert!(cache.truncate_from_start(Offset(15)));
        assert_eq!(pairs(&cache), [(2, 15), (3, 20)]);
        assert!(!cache.truncate_from_start(Offset(15)));
        assert!(!cache.truncate_from_start(Offset(14)));
        assert!(cache.truncate_from_start(Offset(20)));
        assert_eq!(pairs(&cache), [(3, 20)]);
    }

    #[test]
    fn a_shortened_log_forgets_the_terms_behind_it() {
        let mut cache = cache(&[(1, 0), (2, 10)]);
        assert!(!cache.truncate_from_end(Offset(11)));
        assert!(cache.truncate_from_end(Offset(10)));
        assert_eq!(pairs(&cache), [(1, 0)]);
    }

    #[test]
    fn text_as_kafka_writes_it() {
        let cache = cache(&[(0, 0), (4, 1234)]);
        assert_eq!(cache.encode(), "0\n2\n0 0\n4 1234\n");
        assert_eq!(EpochCache::decode(b"0\n2\n0 0\n4 1234\n"), Ok(cache));
        assert_eq!(EpochCache::decode(b"0\n0\n"), Ok(EpochCache::default()));
    }

    #[test]
    fn wrong_text_is_refused() {
        use EpochFileError::{Count, Malformed, Order, Version};
        let cases: [(&[u8], EpochFileError); 9] = [
            (b"", Malformed { line: 1 }),
            (b"\xff\n0\n", Malformed { line: 1 }),
            (b"1\n0\n", Version(1)),
            (b"0\n-1\n", Malformed { line: 2 }),
            (b"0\n2\n1 5\n", Count { said: 2, found: 1 }),
            (b"0\n1\n1 5\n2 6\n", Count { said: 1, found: 2 }),
            (b"0\n1\n1 -5\n", Malformed { line: 3 }),
            (b"0\n2\n1 5\n2 5\n", Order { line: 4 }),
            (b"0\n2\n2 5\n2 6\n", Order { line: 4 }),
        ];
        for (bytes, error) in cases {
            assert_eq!(EpochCache::decode(bytes), Err(error));
        }
    }

    /// One epoch per offset, as the batches of a log carry it.
    fn log() -> impl Strategy<Value = Vec<i32>> {
        prop::collection::vec(prop_oneof![4 => Just(0), 1 => 1..4i32], 1..60).prop_map(|steps| {
            let rise = |epoch: &mut i32, step: i32| {
                *epoch += step;
                Some(*epoch)
            };
            steps.into_iter().scan(0, rise).collect()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_epochs_in_the_batches(
            log in log(), start in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut cache = EpochCache::default();
            for (offset, epoch) in (0..).zip(&log) {
                cache.observe(LeaderEpoch(*epoch), Offset(offset));
            }
            let end = cut.index(log.len()) + 1;
            let start = start.index(end);
            cache.truncate_from_end(Offset(end as i64));
            cache.truncate_from_start(Offset(start as i64));
            prop_assert_eq!(&EpochCache::decode(cache.encode().as_bytes()), &Ok(cache.clone()));

            let live = &log[start..end];
            for (offset, epoch) in (start as i64..).zip(live) {
                prop_assert_eq!(cache.epoch_at(Offset(offset)), Some(LeaderEpoch(*epoch)));
            }
            for requested in 0..live[live.len() - 1] + 2 {
                let above = live.iter().position(|epoch| *epoch > requested);
                let floor = live.iter().rev().find(|epoch| **epoch <= requested);
                let naive = match above {
                    Some(at) => Some((*floor.unwrap_or(&requested), start + at)),
                    None if floor == Some(&requested) => Some((requested, end)),
                    None => None,
                };
                let got = cache.end_offset_for(LeaderEpoch(requested), Offset(end as i64));
                prop_assert_eq!(got.map(|e| (e.epoch.0, e.end_offset.0 as usize)), naive);
            }
        }

        #[test]
        fn any_assignments_leave_a_rising_cache(entries in prop::collection::vec((-1..9i32, -1..30i64), 0..30)) {
            let mut cache = EpochCache::default();
            for (epoch, start_offset) in entries {
                cache.assign(LeaderEpoch(epoch), Offset(start_offset));
                if epoch >= 0 && start_offset >= 0 {
                    prop_assert_eq!(cache.latest().map(|e| e.epoch.0), Some(epoch));
                }
                prop_assert!(pairs(&cache).windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = EpochCache::decode(&bytes);
        }
    }
}
