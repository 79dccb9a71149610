//! How far a partition may be seen: the marks that its replicas and transactions decide. Pure.

use crate::log::Marks;
use crate::model::Offset;

/// What a consumer may see (`isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Nothing of a transaction that is still open: everything below the last stable offset.
    ReadCommitted,
}

impl Isolation {
    /// By Kafka's number; none for one that has no meaning.
    pub fn from_number(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::ReadUncommitted),
            1 => Some(Self::ReadCommitted),
            _ => None,
        }
    }
}

/// The marks of a partition, in their order.
///
/// The log knows what this replica holds, *durable*. The rest is the partition's: with one replica
/// the high watermark is the durable offset, and without an open transaction the last stable offset
/// is the high watermark. A log with batches that end at 3, 7 and 9, all but the last one
/// durable, stands at log start 0, last stable 7, high watermark 7, durable 7, log end 9; when
/// DeleteRecords has cut it at 5, at 5, 7, 7, 7, 9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that may be read.
    pub log_start: Offset,
    /// Everything below is decided: of no transaction that is still open.
    pub last_stable: Offset,
    /// Everything below is durable on all replicas in sync.
    pub high_watermark: Offset,
    /// Everything below is as safe here as the durability level promises.
    pub durable: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
}

impl Watermarks {
    /// Where the partition stands when its log stands at `marks`. An error says which order is
    /// broken, or which mark has gone back.
    pub fn follow(&self, marks: &Marks) -> Result<Self, String> {
        let high_watermark = marks.durable;
        let next = Self {
            log_start: marks.log_start,
            last_stable: high_watermark,
            high_watermark,
            durable: marks.durable,
            log_end: marks.log_end,
        };
        match next.in_order() && self.may_become(&next) {
            true => Ok(next),
            false => Err(format!("marks out of order: {next:?} after {self:?}")),
        }
    }

    /// First offset that a consumer may not see.
    pub fn end_for(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }

    /// The order of design: log start ≤ last stable ≤ high watermark ≤ durable ≤ log end.
    fn in_order(&self) -> bool {
        self.log_start <= self.last_stable
            && self.last_stable <= self.high_watermark
            && self.high_watermark <= self.durable
            && self.durable <= self.log_end
    }

    /// What was shown once stays: no mark that consumers see goes back.
    fn may_become(&self, next: &Self) -> bool {
        self.log_start <= next.log_start
            && self.last_stable <= next.last_stable
            && self.high_watermark <= next.high_watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(log_start: i64, durable: i64, log_end: i64) -> Marks {
        Marks {
            log_start: Offset(log_start),
            segment_durable: Offset(0),
            durable: Offset(durable),
            log_end: Offset(log_end),
        }
    }

    #[test]
    fn with_one_replica_everything_durable_may_be_seen() {
        let at = Watermarks::default().follow(&marks(0, 7, 9)).unwrap();
        let at = at.follow(&marks(5, 7, 9)).unwrap();
        let seen = [Isolation::ReadUncommitted, Isolation::ReadCommitted].map(|i| at.end_for(i));
        assert_eq!(seen, [Offset(7); 2]);
        let all = [at.log_start, at.last_stable, at.high_watermark, at.durable];
        assert_eq!(all, [5, 7, 7, 7].map(Offset));
        assert_eq!(at.log_end, Offset(9));
    }

    #[test]
    fn no_order_is_broken_unseen() {
        let at = Watermarks::default().follow(&marks(2, 7, 9)).unwrap();
        for bad in [
            marks(8, 7, 9),
            marks(2, 10, 9),
            marks(1, 7, 9),
            marks(2, 6, 9),
        ] {
            assert!(at.follow(&bad).is_err(), "{bad:?}");
        }
        assert!(at.follow(&marks(7, 7, 7)).is_ok());
    }

    #[test]
    fn isolation_has_two_numbers() {
        let levels = [-1, 0, 1, 2].map(Isolation::from_number);
        let known = [Isolation::ReadUncommitted, Isolation::ReadCommitted].map(Some);
        assert_eq!(levels, [None, known[0], known[1], None]);
    }
}
