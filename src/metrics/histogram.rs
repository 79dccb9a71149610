//! How often each value came, in buckets that grow with the values.

use std::cell::Cell;

/// Buckets for each doubling: 2^4, so that a bucket is at most 1/16 of its least value wide.
const STEPS_BITS: u32 = 4;
const STEPS: usize = 1 << STEPS_BITS;
/// Values from 2^40 on share the last bucket: in nanoseconds, 18 minutes.
const VALUE_BITS: u32 = 40;
const BUCKETS: usize = STEPS * (VALUE_BITS - STEPS_BITS + 1) as usize;

/// Counts of values below 2^40 by bucket; each is told as the largest of its bucket, which is at
/// most 1/16 more than it was. 4.7 KiB, whatever comes.
///
/// Values below 16 have a bucket each. Above, each doubling has 16: from 1,024 to 2,047 they are 64
/// wide, so that 1,500 falls into [1,472, 1,535], bucket 16 × 7 + 7 = 119, and is told as 1,535.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[Cell<u64>]>,
    count: Cell<u64>,
    longest: Cell<u64>,
}

/// A histogram in a few numbers, in its own unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    /// Exact, also beyond 2^40.
    pub longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: (0..BUCKETS).map(|_| Cell::default()).collect(),
            count: Cell::default(),
            longest: Cell::default(),
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn record(&self, value: u64) {
        let bucket = &self.counts[bucket_of(value)];
        bucket.set(bucket.get() + 1);
        self.count.set(self.count.get() + 1);
        if value > self.longest.get() {
            self.longest.set(value);
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The value that `per_mille` of all values do not exceed, as the largest of its bucket; no
    /// more than the longest there was. 0 without values.
    ///
    /// Of 1,000 values, `quantile(990)` is the 990th of them in their order.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, in_it) in self.counts.iter().enumerate() {
            seen += u128::from(in_it.get());
            if seen >= rank {
                return largest_of(bucket).min(self.longest.get());
            }
        }
        self.longest.get()
    }

    /// Its figures. It is empty then.
    pub fn take(&self) -> Quantiles {
        let quantiles = self.quantiles();
        self.counts.iter().for_each(|bucket| bucket.set(0));
        self.count.set(0);
        self.longest.set(0);
        quantiles
    }

    /// Its figures.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count(),
            p50: self.quantile(500),
            p99: self.quantile(990),
            p999: self.quantile(999),
            longest: self.longest.get(),
        }
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    // How often it is halved until it is below 32; its last five bits are then 16 to 31, and
    // values below 16 stand before them.
    let halved = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS_BITS + 1);
    halved as usize * STEPS + (value >> halved) as usize
}

/// The largest value of a bucket. Of the last one, whatever is more was.
fn largest_of(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let halved = (bucket / STEPS).saturating_sub(1);
    let steps = (bucket - halved * STEPS) as u64;
    ((steps + 1) << halved) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_worked_example_holds() {
        assert_eq!(bucket_of(1_500), 119);
        assert_eq!((largest_of(118), largest_of(119)), (1_471, 1_535));
        assert_eq!((bucket_of(15), largest_of(15)), (15, 15));
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of((1 << VALUE_BITS) - 1), BUCKETS - 1);
        let empty = Histogram::default();
        assert_eq!(empty.quantiles(), Quantiles::default());
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS - 1 {
            let least = largest_of(bucket - 1) + 1;
            assert_eq!(bucket_of(least), bucket);
            assert_eq!(bucket_of(largest_of(bucket)), bucket);
        }
    }

    fn values() -> impl Strategy<Value = u64> {
        // As many small ones as large ones.
        (0..VALUE_BITS, any::<u64>()).prop_map(|(bits, value)| value & ((2 << bits) - 1))
    }

    /// What a histogram may say instead of `value`.
    fn is_close(told: u64, value: u64) -> bool {
        told >= value && told - value <= value / 16
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(value in 0..(1_u64 << VALUE_BITS) * 15 / 16) {
            let bucket = bucket_of(value);
            prop_assert!(is_close(largest_of(bucket), value));
            prop_assert!(bucket == 0 || largest_of(bucket - 1) < value);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in proptest::collection::vec(values(), 1..400),
            per_mille in 0..=1000_u64,
        ) {
            let histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * per_mille).div_ceil(1000).max(1);
            let (exact, longest) = (values[rank as usize - 1], values[values.len() - 1]);
            let told = histogram.quantile(per_mille);
            if bucket_of(exact) < BUCKETS - 1 {
                prop_assert!(is_close(told, exact), "{told} for {exact}");
            }
            prop_assert!(told <= longest);
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.take().longest, longest);
            prop_assert_eq!(histogram.quantiles(), Quantiles::default());
        }
    }
}
