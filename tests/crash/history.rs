//! What a producer knows of a partition, against what is there.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::common::Read;

/// Everything that one producer sent, in numbers from 0 on.
#[derive(Debug, Default)]
pub struct History {
    /// Offset of each acknowledged record.
    offsets: BTreeMap<u64, i64>,
    /// Batches that were sent more than once.
    pub sent_again: u64,
}

/// What is wrong with a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub acknowledged: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// There behind a later one.
    pub out_of_order: u64,
    /// There, at another offset than was acknowledged.
    pub moved: u64,
    /// There, and never sent.
    pub foreign: u64,
}

/// The value of a producer's record: who, which, and bytes that follow from both.
pub fn value(producer: i32, number: u64, len: usize) -> Vec<u8> {
    let mut value = format!("{producer} {number} ").into_bytes();
    let filler = (0..len as u64).map(|at| (number.wrapping_mul(31) + at) as u8);
    value.extend(filler);
    value
}

impl History {
    /// A batch of `count` records from `first` on was acknowledged at `offset`.
    pub fn acknowledged(&mut self, first: u64, count: u64, offset: i64) {
        for nth in 0..count {
            self.offsets.insert(first + nth, offset + nth as i64);
        }
    }

    /// Compares with everything that is in the partition.
    pub fn compare(&self, producer: i32, read: &[Read]) -> Found {
        let mut found = Found {
            acknowledged: self.offsets.len() as u64,
            ..Found::default()
        };
        let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
        for record in read {
            let Some(number) = number_of(producer, record) else {
                found.foreign += 1;
                continue;
            };
            if seen
                .last_key_value()
                .is_some_and(|(last, _)| *last > number)
            {
                found.out_of_order += 1;
            }
            if seen.insert(number, record.offset).is_some() {
                found.duplicated += 1;
            }
        }
        for (number, offset) in &self.offsets {
            match seen.get(number) {
                None => found.lost += 1,
                Some(at) if at != offset => found.moved += 1,
                Some(_) => {}
            }
        }
        found
    }
}

impl Found {
    pub fn is_clean(self) -> bool {
        let acknowledged = self.acknowledged;
        self == Self {
            acknowledged,
            ..Self::default()
        }
    }
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.moved += other.moved;
        self.foreign += other.foreign;
    }
}

/// The number of a record, if it is byte for byte what this producer sent.
fn number_of(producer: i32, record: &Read) -> Option<u64> {
    let found = record.value.as_ref()?;
    let mut words = found.splitn(3, |byte| *byte == b' ');
    let (_, number, filler) = (words.next()?, words.next()?, words.next()?);
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    (*found == value(producer, number, filler.len())).then_some(number)
}

#[test]
fn what_is_wrong_is_seen() {
    let mut history = History::default();
    history.acknowledged(0, 4, 0);
    let there = |numbers: &[u64]| -> Vec<Read> {
        let record = |(offset, number): (usize, &u64)| Read {
            offset: offset as i64,
            timestamp_ms: 0,
            key: None,
            value: Some(value(7, *number, 3)),
        };
        numbers.iter().enumerate().map(record).collect()
    };
    assert!(history.compare(7, &there(&[0, 1, 2, 3])).is_clean());
    // One that was not acknowledged may be there.
    assert!(history.compare(7, &there(&[0, 1, 2, 3, 4])).is_clean());
    assert_eq!(history.compare(7, &there(&[0, 1, 2])).lost, 1);
    assert_eq!(history.compare(7, &there(&[0, 1, 2, 3, 3])).duplicated, 1);
    assert_eq!(history.compare(7, &there(&[0, 2, 1, 3])).out_of_order, 1);
    assert_eq!(history.compare(7, &there(&[0, 1, 3])).moved, 1);
    assert_eq!(history.compare(8, &there(&[0, 1, 2, 3])).foreign, 4);
}
