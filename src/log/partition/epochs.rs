//! Where each leader epoch begins in a partition's log (KIP-101), and the answers drawn from it.
//!
//! Pure. Same rules as Kafka's `LeaderEpochFileCache`; the file that Kafka keeps them in is not
//! written, as checkpoints hold them and batches name theirs.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use crate::model::{LeaderEpoch, Offset};

/// A leader epoch and its first offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    /// First offset appended (or to be appended) in it.
    pub start_offset: Offset,
}

/// The end of a leader epoch, as OffsetForLeaderEpoch answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch not above the requested one.
    pub epoch: LeaderEpoch,
    /// The offset at which that epoch ends.
    pub end_offset: Offset,
}

/// The leader epochs of one partition, numbers and start offsets both strictly rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochStart>,
}

impl EpochCache {
    /// The epochs, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch, unless there is none.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// Begins an epoch at `start_offset`, and says whether that changed anything.
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

    /// Takes note of a batch during recovery: only an epoch above the latest begins another.
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

    /// The epoch in which `offset` was or will be written; `None` before all known epochs.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let following = self.entries.partition_point(|e| e.start_offset <= offset);
        self.entries.get(following.checked_sub(1)?).map(|e| e.epoch)
    }

    /// Forgets the epochs that ended before the new log start; the one the log now starts in stays
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
    fn the_epoch_in_which_the_log_starts_is_kept() {
        let mut cache = cache(&[(1, 0), (2, 10), (3, 20)]);
        assert!(cache.truncate_from_start(Offset(15)));
        assert_eq!(pairs(&cache), [(2, 15), (3, 20)]);
        assert!(!cache.truncate_from_start(Offset(15)));
        assert!(!cache.truncate_from_start(Offset(14)));
        assert!(cache.truncate_from_start(Offset(20)));
        assert_eq!(pairs(&cache), [(3, 20)]);
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
            log in log(), start in any::<prop::sample::Index>(),
        ) {
            let mut cache = EpochCache::default();
            let end = log.len();
            for (offset, epoch) in (0..).zip(&log) {
                cache.observe(LeaderEpoch(*epoch), Offset(offset));
            }
            let start = start.index(end);
            cache.truncate_from_start(Offset(start as i64));

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
    }
}
