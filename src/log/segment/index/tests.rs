//! Tests of the indexes: lookups, what a file must be to be believed, and rebuilding.

use proptest::prelude::*;

use super::*;
use crate::model::batch::{HEADER_BYTES, MAGIC};

const BASE: Offset = Offset(1000);

/// A segment's batches from (records, timestamp, bytes).
fn segment(batches: &[(i64, i64, u32)]) -> Vec<IndexedBatch> {
    let (mut end, mut position) = (BASE, 0);
    let lay = |&(records, max_timestamp_ms, size_bytes): &(i64, i64, u32)| {
        end = end.plus(records);
        position += size_bytes;
        IndexedBatch {
            last_offset: end.plus(-1),
            max_timestamp_ms,
            position: position - size_bytes,
            size_bytes,
        }
    };
    batches.iter().map(lay).collect()
}

fn indexed(batches: &[IndexedBatch], interval_bytes: u64) -> SegmentIndex {
    let mut index = SegmentIndex::new(BASE);
    batches.iter().for_each(|b| index.append(b, interval_bytes));
    index
}

fn files(index: &SegmentIndex) -> (Vec<u8>, Vec<u8>) {
    let (offsets, times) = (index.offsets(), index.times());
    (
        offsets.encode(0..offsets.len()),
        times.encode(0..times.len()),
    )
}

fn entry(offset: i64, position: u32) -> OffsetEntry {
    OffsetEntry {
        offset: Offset(offset),
        position,
    }
}

#[test]
fn entries_lie_where_kafka_puts_them() {
    // The first batch gets none; the second no more than the interval later gets none either.
    let batches = segment(&[(10, 50, 4096), (10, 40, 1), (10, 60, 100), (5, 55, 100)]);
    let mut index = indexed(&batches, 4096);
    index.finish();
    let (offsets, times) = files(&index);
    let expected = [&29u32.to_be_bytes()[..], &4097u32.to_be_bytes()].concat();
    assert_eq!(offsets, expected);
    let expected = [&60i64.to_be_bytes()[..], &29u32.to_be_bytes()].concat();
    assert_eq!(times, expected);
}

#[test]
fn the_largest_timestamp_is_written_at_the_end() {
    let mut index = indexed(&segment(&[(1, 50, 10), (1, 70, 10), (1, 60, 10)]), 4096);
    assert!(index.times().is_empty());
    index.finish();
    index.finish();
    let last = TimeEntry {
        timestamp_ms: 70,
        offset: Offset(1001),
    };
    assert_eq!((index.times().len(), index.times().last()), (1, last));
}

#[test]
fn floors() {
    let index = indexed(
        &segment(&[(10, 50, 10), (10, 70, 10), (10, 60, 10), (10, 90, 10)]),
        0,
    );
    let at = |offset| index.floor_offset(Offset(offset));
    assert_eq!(at(0), entry(1000, 0));
    assert_eq!(at(1018), entry(1000, 0));
    assert_eq!(at(1019), entry(1019, 10));
    assert_eq!(at(i64::MAX), entry(1039, 30));
    let from = |timestamp_ms, offset| index.floor_timestamp(timestamp_ms, Offset(offset));
    assert_eq!(from(69, 0), entry(1000, 0));
    assert_eq!(from(70, 0), entry(1019, 10));
    assert_eq!(from(70, 1029), entry(1029, 20));
    assert_eq!(from(90, 0), entry(1039, 30));
}

#[test]
fn batches_without_timestamps_leave_the_time_index_empty() {
    let mut index = indexed(&segment(&[(1, -1, 10), (1, -1, 10)]), 0);
    index.finish();
    assert!(index.times().is_empty());
    assert_eq!(index.largest_timestamp().timestamp_ms, -1);
    assert_eq!(index.offsets().len(), 1);
}

#[test]
fn offsets_too_far_from_the_base_get_no_entry() {
    let mut index = SegmentIndex::new(BASE);
    for (n, far) in [(0, i64::from(i32::MAX)), (1, i64::from(i32::MAX) + 1)] {
        let batch = IndexedBatch {
            last_offset: BASE.plus(far),
            max_timestamp_ms: n,
            position: 100 * (n as u32 + 1),
            size_bytes: 10,
        };
        index.bytes_since_entry = 1;
        index.append(&batch, 0);
    }
    assert_eq!((index.offsets().len(), index.times().len()), (1, 1));
}

#[test]
fn fullness_counts_both_files_and_the_entry_of_the_end() {
    let index = indexed(&segment(&[(1, 1, 9), (1, 2, 9), (1, 3, 9)]), 0);
    assert_eq!((index.offsets().len(), index.times().len()), (2, 2));
    assert!(!index.is_full(48));
    assert!(index.is_full(47), "three time entries do not fit");
    let index = indexed(&segment(&[(1, -1, 9), (1, -1, 9), (1, -1, 9)]), 0);
    assert!(!index.is_full(24));
    assert!(index.is_full(23), "two offset entries are in");
}

#[test]
fn files_count_up_to_the_first_entry_that_is_none() {
    let load = |offsets: &[(u32, u32)], times: &[(i64, u32)]| {
        let offset_file: Vec<u8> = offsets
            .iter()
            .flat_map(|(o, p)| [o.to_be_bytes(), p.to_be_bytes()].concat())
            .collect();
        let time_file: Vec<u8> = times
            .iter()
            .flat_map(|(t, o)| [&t.to_be_bytes()[..], &o.to_be_bytes()].concat())
            .collect();
        let index = SegmentIndex::load(BASE, Offset(1100), 500, &offset_file, &time_file);
        (index.offsets().len(), index.times().len())
    };
    assert_eq!(load(&[(1, 1), (99, 499)], &[(0, 0), (5, 99)]), (2, 2));
    assert_eq!(load(&[(0, 1)], &[(-1, 0)]), (0, 0));
    assert_eq!(load(&[(1, 0)], &[(5, 100)]), (0, 0));
    assert_eq!(load(&[(5, 5), (5, 9)], &[(5, 5), (5, 6)]), (1, 1));
    assert_eq!(load(&[(5, 5), (9, 5)], &[(5, 5), (6, 5)]), (1, 1));
    assert_eq!(load(&[(5, 5), (9, 500), (10, 40)], &[]), (1, 0));
    assert_eq!(load(&[(5, 5), (100, 9)], &[(5, 5), (6, 100)]), (1, 1));
    let whole = [0, 0, 0, 5, 0, 0, 0, 5];
    let cut = [&whole[..], &whole[..7]].concat();
    let index = SegmentIndex::load(BASE, Offset(1100), 500, &cut, &[0; 13]);
    assert_eq!((index.offsets().len(), index.times().len()), (1, 1));
    let preallocated = [&whole[..], &[0; 64]].concat();
    let index = SegmentIndex::load(BASE, Offset(1100), 500, &preallocated, &[]);
    assert_eq!(index.offsets().len(), 1);
}

#[test]
fn entries_are_held_against_the_batch_they_name() {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&1000i64.to_be_bytes());
    bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
    bytes[16] = MAGIC as u8;
    bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
    bytes[35..43].copy_from_slice(&77i64.to_be_bytes());
    let batch = BatchView::first(&bytes).unwrap();
    assert!(entry(1009, 5).matches(&batch) && entry(1000, 0).matches(&batch));
    assert!(!entry(1008, 5).matches(&batch));
    let time = |timestamp_ms, offset| TimeEntry {
        timestamp_ms,
        offset: Offset(offset),
    };
    assert!(time(77, 1009).matches(&batch) && time(-1, 1000).matches(&batch));
    assert!(!time(78, 1009).matches(&batch) && !time(77, 1008).matches(&batch));
    let facts = IndexedBatch {
        last_offset: Offset(1009),
        max_timestamp_ms: 77,
        position: 5,
        size_bytes: 61,
    };
    assert_eq!(IndexedBatch::of(&batch, 5), facts);
}

fn batches() -> impl Strategy<Value = Vec<IndexedBatch>> {
    prop::collection::vec((1..5i64, -1..40i64, 61..400u32), 1..60).prop_map(|b| segment(&b))
}

proptest! {
    #[test]
    fn floors_agree_with_a_walk(batches in batches(), interval_bytes in 0..1500u64) {
        let mut index = indexed(&batches, interval_bytes);
        index.finish();
        let end = batches.last().unwrap().last_offset.plus(1);
        let longest = batches.iter().map(|b| b.size_bytes).max().unwrap();
        for offset in BASE.0..end.0 {
            let floor = index.floor_offset(Offset(offset));
            let holds = batches.iter().find(|b| b.last_offset.0 >= offset).unwrap();
            prop_assert!(floor.position <= holds.position);
            let walked = holds.position - floor.position;
            prop_assert!(u64::from(walked) <= interval_bytes + 2 * u64::from(longest));
            if floor.position > 0 {
                let named = batches.iter().find(|b| b.position == floor.position);
                prop_assert_eq!(named.map(|b| b.last_offset), Some(floor.offset));
            }
        }
        for timestamp_ms in 0..41 {
            let floor = index.floor_timestamp(timestamp_ms, BASE);
            if let Some(first) = batches.iter().find(|b| b.max_timestamp_ms >= timestamp_ms) {
                prop_assert!(floor.position <= first.position);
            }
        }
        let largest = batches.iter().map(|b| b.max_timestamp_ms).max().unwrap();
        prop_assert_eq!(index.times().last().timestamp_ms, largest);
    }

    #[test]
    fn a_loaded_index_goes_on_as_if_never_stopped(
        batches in batches(), interval_bytes in 0..1500u64, cut in any::<prop::sample::Index>(),
    ) {
        let whole = indexed(&batches, interval_bytes);
        // What may be written when everything below the cut is safe, in two parts.
        let safe = batches[cut.index(batches.len())].last_offset.plus(1);
        let (offsets, times) = (whole.offsets(), whole.times());
        let (n, m) = (offsets.entries_below(safe), times.entries_below(safe));
        let offset_file = [offsets.encode(0..n / 2), offsets.encode(n / 2..n)].concat();
        let time_file = [times.encode(0..m / 2), times.encode(m / 2..m)].concat();
        let bytes = batches.iter().map(|b| u64::from(b.size_bytes)).sum();
        let mut loaded = SegmentIndex::load(BASE, safe, bytes, &offset_file, &time_file);
        let from = loaded.offsets().last().position;
        for batch in batches.iter().filter(|b| b.position >= from) {
            loaded.append(batch, interval_bytes);
        }
        prop_assert_eq!(loaded, whole);
    }

    #[test]
    fn what_is_put_before_joins_what_follows(
        batches in batches(), interval_bytes in 0..1500u64, cut in any::<prop::sample::Index>(),
    ) {
        let first = &batches[cut.index(batches.len())];
        let (before, behind) = batches.split_at(cut.index(batches.len()));
        let start = IndexStart {
            offset: before.last().map_or(BASE, |batch| batch.last_offset.plus(1)),
            position: u64::from(first.position),
        };
        let mut index = SegmentIndex::from_start(BASE, start);
        prop_assert_eq!(index.starts_behind().is_some(), first.position > 0);
        behind.iter().for_each(|batch| index.append(batch, interval_bytes));
        index.put_before(indexed(before, interval_bytes));
        prop_assert_eq!(index.starts_behind(), None);
        let longest = batches.iter().map(|b| b.size_bytes).max().unwrap();
        for batch in &batches {
            let floor = index.floor_offset(batch.last_offset);
            prop_assert!(floor.position <= batch.position);
            let walked = u64::from(batch.position - floor.position);
            prop_assert!(walked <= 2 * (interval_bytes + 2 * u64::from(longest)));
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_caught_on_landing_or_harmless(
        batches in batches(), at in any::<prop::sample::Index>(),
    ) {
        let mut index = indexed(&batches, 200);
        index.finish();
        let (mut offset_file, mut time_file) = files(&index);
        let bit = at.index((offset_file.len() + time_file.len()).max(1) * 8);
        match bit / 8 {
            byte if byte < offset_file.len() => offset_file[byte] ^= 1 << (bit % 8),
            byte => match time_file.get_mut(byte - offset_file.len()) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => return Ok(()),
            },
        }
        let end = batches.last().unwrap().last_offset.plus(1);
        let bytes = batches.iter().map(|b| u64::from(b.size_bytes)).sum();
        let index = SegmentIndex::load(BASE, end, bytes, &offset_file, &time_file);
        let caught = |floor: &OffsetEntry| {
            let named = batches.iter().find(|b| b.position == floor.position);
            named.is_none_or(|b| floor.position > 0 && b.last_offset != floor.offset)
        };
        for offset in BASE.0..end.0 {
            let floor = index.floor_offset(Offset(offset));
            let holds = batches.iter().find(|b| b.last_offset.0 >= offset).unwrap();
            prop_assert!(caught(&floor) || floor.position <= holds.position);
        }
        for timestamp_ms in 0..41 {
            let time = index.times().floor(timestamp_ms);
            let named = batches.iter().find(|b| b.last_offset == time.offset);
            let told = named.map(|b| b.max_timestamp_ms) == Some(time.timestamp_ms);
            let floor = index.floor_timestamp(timestamp_ms, BASE);
            if let Some(first) = batches.iter().find(|b| b.max_timestamp_ms >= timestamp_ms)
                && (told || time.timestamp_ms < 0)
            {
                prop_assert!(caught(&floor) || floor.position <= first.position);
            }
        }
    }

    #[test]
    fn arbitrary_files_never_panic(offsets in prop::collection::vec(any::<u8>(), 0..64), times in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = SegmentIndex::load(BASE, Offset(i64::MAX), u64::MAX, &offsets, &times);
    }
}
