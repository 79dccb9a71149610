//! Batches as a whole: built, read, checked, rewritten, walked, damaged.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::super::{Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use super::*;

const RULES: ProduceRules = ProduceRules {
    max_batch_bytes: 1 << 20,
    is_zstd_allowed: true,
};

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn record() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let header = (bytes(), prop::option::of(bytes()));
    (
        -1i64..i64::MAX / 2,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp_ms, key, value, headers)| Owned {
            timestamp_ms,
            key,
            value,
            headers,
        })
}

fn build(records: &[Owned]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        builder
            .append(
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )
            .unwrap();
    }
    builder
}

fn read(batch: &BatchView<'_>) -> Vec<Owned> {
    Records::new(batch.records(), batch.record_count())
        .map(|record| {
            let record = record.unwrap();
            Owned {
                timestamp_ms: batch.timestamp_ms_of(&record),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

fn some_records() -> Vec<Owned> {
    (0..5u8)
        .map(|index| Owned {
            timestamp_ms: 1_700_000_000_000 + i64::from(index % 4) * 1_000,
            key: (index > 0).then(|| vec![index; 3]),
            value: (index != 2).then(|| vec![index; 200]),
            headers: vec![(b"h".to_vec(), None); usize::from(index % 3)],
        })
        .collect()
}

fn some_batch() -> Vec<u8> {
    let mut out = Vec::new();
    build(&some_records()).append_batch(&mut out).unwrap();
    out
}

/// A batch of [`some_records`] whose header `change` has changed.
fn batch_with(change: impl FnOnce(&mut BatchFields)) -> Vec<u8> {
    let builder = build(&some_records());
    let mut fields = builder.fields().unwrap();
    change(&mut fields);
    let mut out = Vec::new();
    fields.append(builder.records(), &mut out).unwrap();
    out
}

fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

proptest! {
    #[test]
    fn what_is_built_is_read(records in prop::collection::vec(record(), 1..20)) {
        let builder = build(&records);
        let mut out = b"before".to_vec();
        builder.append_batch(&mut out).unwrap();
        prop_assert_eq!(out.len() - 6, builder.batch_bytes());
        let batch = check_produced(&out[6..], RULES).unwrap();
        prop_assert_eq!(read(&batch), records.clone());

        let facts = check_records(batch.records(), &batch, &RecordRules::default()).unwrap();
        let latest = records.iter().map(|record| record.timestamp_ms).max();
        prop_assert_eq!(Some(facts.max_timestamp_ms), latest);
        prop_assert_eq!(batch.max_timestamp_ms(), facts.max_timestamp_ms);
        let first = records.iter().position(|record| Some(record.timestamp_ms) == latest);
        let expected = first.filter(|_| latest > Some(-1)).map(|at| at as i32);
        prop_assert_eq!(facts.max_timestamp_offset_delta, expected);
    }

    #[test]
    fn fields_are_written_where_they_are_read(
        base_offset: i64, leader_epoch: i32, times: (i64, i64), producer: (i64, i16, i32),
        flags: [bool; 4], codec in 0usize..5, last_offset_delta in 0..i32::MAX,
        record_count in 0..i32::MAX,
    ) {
        let log_append = if flags[0] { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let fields = BatchFields {
            base_offset: Offset(base_offset),
            leader_epoch: LeaderEpoch(leader_epoch),
            compression: Codec::ALL[codec],
            timestamp_type: log_append,
            is_transactional: flags[1],
            is_control: flags[2],
            has_delete_horizon: flags[3],
            last_offset_delta,
            base_timestamp_ms: times.0,
            max_timestamp_ms: times.1,
            producer_id: ProducerId(producer.0),
            producer_epoch: ProducerEpoch(producer.1),
            base_sequence: producer.2,
            record_count,
        };
        let mut out = Vec::new();
        fields.append(b"records", &mut out).unwrap();
        let batch = BatchView::first_verified(&out).unwrap();
        prop_assert_eq!(BatchFields::of(&batch), fields);
        prop_assert_eq!(batch.records(), b"records");
    }

    #[test]
    fn any_bytes_are_read_within_bounds(bytes: Vec<u8>, count: i32) {
        for record in Records::new(&bytes, count).flatten() {
            let _ = record.headers.count();
        }
    }

    #[test]
    fn damaged_records_are_read_within_bounds(
        at: prop::sample::Index, to: u8, cut: prop::sample::Index, count in -1i32..8,
    ) {
        let batch = some_batch();
        let mut records = batch[HEADER_BYTES..].to_vec();
        *at.get_mut(&mut records) = to;
        records.truncate(cut.index(records.len() + 1));
        let read = Records::new(&records, count).collect::<Vec<_>>();
        prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
    }

    #[test]
    fn a_damaged_batch_is_corrupt_or_not_one_batch(at: prop::sample::Index, bit in 0..8) {
        let mut batch = some_batch();
        // Base offset and leader epoch lie outside the CRC.
        let at = at.index(batch.len());
        prop_assume!(!(0..8).contains(&at) && !(12..16).contains(&at));
        batch[at] ^= 1u8 << bit;
        let kind = check_produced(&batch, RULES).unwrap_err().kind();
        let is_framing = (8..12).contains(&at) || at == 16;
        prop_assert!(is_framing || kind == InvalidBatchKind::CorruptMessage, "{kind:?}");
    }
}

#[test]
fn records_cut_short_at_any_byte_are_an_error() {
    let batch = some_batch();
    let records = &batch[HEADER_BYTES..];
    for cut in 0..records.len() {
        let last = Records::new(&records[..cut], 5).last();
        assert!(matches!(last, Some(Err(RecordError::Truncated))), "{cut}");
    }
}

#[test]
fn counts_that_lie_are_errors() {
    let batch = some_batch();
    let records = &batch[HEADER_BYTES..];
    let last = |count| Records::new(records, count).last().unwrap();
    assert!(last(5).is_ok());
    assert_eq!(last(6).unwrap_err(), RecordError::Truncated);
    assert_eq!(last(i32::MAX).unwrap_err(), RecordError::Truncated);
    assert!(matches!(last(4), Err(RecordError::TrailingRecords(_))));
    assert_eq!(
        last(0).unwrap_err(),
        RecordError::TrailingRecords(records.len())
    );
    assert_eq!(
        last(-1).unwrap_err(),
        RecordError::TrailingRecords(records.len())
    );
    assert!(Records::new(&[], 0).next().is_none());
}

#[test]
fn records_that_lie_inside_are_errors() {
    let error = |record: &[u8]| Records::new(record, 1).next().unwrap().unwrap_err();
    // length, attributes, timestamp delta, offset delta, key, value, header count, …
    assert!(Records::new(&[12, 0, 0, 0, 1, 1, 0], 1).all(|record| record.is_ok()));
    assert_eq!(error(&[1, 0, 0, 0, 1, 1, 0]), RecordError::Length(-1));
    assert_eq!(error(&[10, 0, 0, 0, 1, 1, 0]), RecordError::Truncated);
    assert_eq!(error(&[14, 0, 0, 0, 1, 1, 0, 0]), RecordError::Trailing(1));
    assert_eq!(error(&[12, 0, 0, 0, 3, 1, 0]), RecordError::Length(-2));
    assert_eq!(error(&[12, 0, 0, 0, 1, 1, 1]), RecordError::Length(-1));
    assert_eq!(error(&[12, 0, 0, 0, 1, 1, 2]), RecordError::Truncated);
    assert_eq!(error(&[12, 0, 0, 0, 8, 1, 0]), RecordError::Truncated);
    // A header with a null key.
    assert_eq!(
        error(&[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        RecordError::Length(-1)
    );
    // Two billion headers.
    let many = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(error(&many), RecordError::Truncated);
}

#[test]
fn a_producer_sends_exactly_one_whole_batch() {
    let batch = some_batch();
    let check = |bytes: &[u8]| check_produced(bytes, RULES).map(|batch| batch.record_count());
    assert_eq!(check(&batch), Ok(5));
    assert_eq!(check(&[]), Err(InvalidBatch::Missing));
    for cut in 1..batch.len() {
        assert_eq!(check(&batch[..cut]), Err(InvalidBatch::Truncated), "{cut}");
    }
    assert_eq!(check(&batch.repeat(2)), Err(InvalidBatch::Several));
    assert_eq!(
        check(&[&batch[..], b"x"].concat()),
        Err(InvalidBatch::Several)
    );

    let mut other = batch.clone();
    other[16] = 1;
    assert_eq!(check(&other), Err(InvalidBatch::Magic(1)));
    other[16] = 2;
    other[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(check(&other), Err(InvalidBatch::Length(48)));
    other[8..12].copy_from_slice(&i32::MIN.to_be_bytes());
    assert_eq!(check(&other), Err(InvalidBatch::Length(i32::MIN)));
    let rules = ProduceRules {
        max_batch_bytes: batch.len() - 1,
        ..RULES
    };
    let error = check_produced(&batch, rules).unwrap_err();
    assert_eq!(error.kind(), InvalidBatchKind::MessageTooLarge);
}

#[test]
fn a_producer_leaves_the_brokers_fields_alone() {
    type Change = fn(&mut BatchFields);
    let cases: [(Change, InvalidBatch); 10] = [
        (|f| f.base_offset = Offset(1), InvalidBatch::BaseOffset(1)),
        (|f| f.is_control = true, InvalidBatch::Control),
        (
            |f| f.has_delete_horizon = true,
            InvalidBatch::Attributes(0x40),
        ),
        (
            |f| f.timestamp_type = TimestampType::LogAppendTime,
            InvalidBatch::LogAppendTime,
        ),
        (|f| f.is_transactional = true, InvalidBatch::Transactional),
        (
            |f| f.producer_id = ProducerId(0),
            InvalidBatch::Sequence(-1),
        ),
        (
            |f| f.record_count = 0,
            InvalidBatch::Counts {
                count: 0,
                last_offset_delta: 4,
            },
        ),
        (
            |f| f.record_count = 6,
            InvalidBatch::Counts {
                count: 6,
                last_offset_delta: 4,
            },
        ),
        (
            |f| f.record_count = -3,
            InvalidBatch::Counts {
                count: -3,
                last_offset_delta: 4,
            },
        ),
        (
            |f| f.last_offset_delta = i32::MIN,
            InvalidBatch::Counts {
                count: 5,
                last_offset_delta: i32::MIN,
            },
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(
            check_produced(&batch_with(change), RULES).unwrap_err(),
            expected
        );
    }
    let idempotent = batch_with(|f| {
        (f.producer_id, f.producer_epoch) = (ProducerId(7), ProducerEpoch(0));
        f.base_sequence = i32::MAX - 1;
    });
    let batch = check_produced(&idempotent, RULES).unwrap();
    assert_eq!(
        (batch.base_sequence(), batch.last_sequence()),
        (i32::MAX - 1, 2)
    );
}

#[test]
fn codecs_are_known_and_allowed() {
    let zstd = batch_with(|f| f.compression = Codec::Zstd);
    check_produced(&zstd, RULES).unwrap();
    let before_7 = ProduceRules {
        is_zstd_allowed: false,
        ..RULES
    };
    assert_eq!(
        check_produced(&zstd, before_7).unwrap_err(),
        InvalidBatch::Codec(4)
    );
    let mut unknown = some_batch();
    for codec in 5..8 {
        unknown[22] = codec;
        reseal(&mut unknown);
        assert_eq!(
            check_produced(&unknown, RULES).unwrap_err(),
            InvalidBatch::Codec(codec)
        );
    }
    unknown[22] = 0x80;
    reseal(&mut unknown);
    let reserved = check_produced(&unknown, RULES).unwrap_err();
    assert_eq!(reserved, InvalidBatch::Attributes(0x80));
}

/// The check as it reads in a book: every record decoded, then judged.
fn decoded_and_checked(
    records: &[u8],
    batch: &BatchView<'_>,
    allowed_ms: RangeInclusive<i64>,
) -> Result<RecordFacts, InvalidRecords> {
    let mut facts = RecordFacts {
        max_timestamp_ms: -1,
        max_timestamp_offset_delta: None,
    };
    let mut rejected = Vec::new();
    for (index, record) in (0..).zip(Records::new(records, batch.record_count())) {
        let record = record.map_err(|error| MalformedRecord { index, error })?;
        let (offset_delta, timestamp_ms) = (record.offset_delta, batch.timestamp_ms_of(&record));
        if offset_delta != index {
            return Err(InvalidRecords::OffsetDelta {
                index,
                offset_delta,
            });
        }
        let (first_ms, last_ms) = (*allowed_ms.start(), *allowed_ms.end());
        let reason = if record.key.is_none() {
            Some(RejectReason::NullKey)
        } else if timestamp_ms != -1 && !allowed_ms.contains(&timestamp_ms) {
            Some(RejectReason::Timestamp {
                timestamp_ms,
                first_ms,
                last_ms,
            })
        } else {
            None
        };
        rejected.extend(reason.map(|reason| RejectedRecord { index, reason }));
        if timestamp_ms > facts.max_timestamp_ms {
            facts.max_timestamp_ms = timestamp_ms;
            facts.max_timestamp_offset_delta = Some(index);
        }
    }
    rejected.truncate(16);
    match rejected.is_empty() {
        true => Ok(facts),
        false => Err(InvalidRecords::Rejected(rejected)),
    }
}

/// Of a record that is cut off, the walk may see another fault than the decoder does.
fn without_reason(error: InvalidRecords) -> InvalidRecords {
    match error {
        InvalidRecords::Malformed(MalformedRecord { index, .. }) => MalformedRecord {
            index,
            error: RecordError::Truncated,
        }
        .into(),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_walk_judges_as_the_decoder_does(
        records in prop::collection::vec(record(), 1..20),
        has_keys: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        kept in prop::option::of(any::<prop::sample::Index>()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut records = records;
        for record in records.iter_mut().filter(|_| has_keys) {
            record.key.get_or_insert_default();
        }
        let builder = build(&records);
        let mut plain = builder.records().to_vec();
        for (at, to) in changes {
            *at.get_mut(&mut plain) = to;
        }
        plain.truncate(kept.map_or(plain.len(), |kept| kept.index(plain.len() + 1)));
        let mut bytes = Vec::new();
        builder.fields().unwrap().append(&plain, &mut bytes).unwrap();
        let batch = BatchView::first(&bytes).unwrap();
        let allowed_ms = 0..=i64::MAX / 4;
        let rules = RecordRules {
            is_key_required: true,
            timestamps_ms: Some(allowed_ms.clone()),
        };
        let expected = decoded_and_checked(&plain, &batch, allowed_ms).map_err(without_reason);
        let whole = check_records(&plain, &batch, &rules).map_err(without_reason);
        prop_assert_eq!(&whole, &expected);

        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(plain.len() + 1)).collect();
        cuts.extend([0, plain.len()]);
        cuts.sort_unstable();
        let mut check = RecordCheck::new(&batch, &rules);
        let pushed = cuts.windows(2).try_for_each(|piece| check.push(&plain[piece[0]..piece[1]]));
        let in_pieces = pushed.and_then(|()| check.finish()).map_err(without_reason);
        prop_assert_eq!(&in_pieces, &expected);
        // And with every byte by itself.
        let mut check = RecordCheck::new(&batch, &rules);
        let pushed = plain.chunks(1).try_for_each(|piece| check.push(piece));
        let by_bytes = pushed.and_then(|()| check.finish()).map_err(without_reason);
        prop_assert_eq!(&by_bytes, &expected);
    }
}

#[test]
fn topics_rules_are_checked_record_by_record() {
    let bytes = some_batch();
    let batch = BatchView::first(&bytes).unwrap();
    let check = |rules: RecordRules| check_records(batch.records(), &batch, &rules);
    let facts = check(RecordRules::default()).unwrap();
    assert_eq!(facts.max_timestamp_ms, 1_700_000_003_000);
    assert_eq!(facts.max_timestamp_offset_delta, Some(3));

    let compacted = check(RecordRules {
        is_key_required: true,
        timestamps_ms: None,
    });
    let null_key = RejectedRecord {
        index: 0,
        reason: RejectReason::NullKey,
    };
    assert_eq!(compacted, Err(InvalidRecords::Rejected(vec![null_key])));

    let (first_ms, last_ms) = (1_700_000_001_000, 1_700_000_002_000);
    let late = check(RecordRules {
        is_key_required: false,
        timestamps_ms: Some(first_ms..=last_ms),
    });
    let Err(InvalidRecords::Rejected(rejected)) = late else {
        panic!("{late:?}");
    };
    let indexes: Vec<_> = rejected.iter().map(|record| record.index).collect();
    assert_eq!(indexes, [0, 3, 4]);

    let mut gap = batch.records().to_vec();
    gap[3 + 1] = 2 << 1;
    let error = check_records(&gap, &batch, &RecordRules::default());
    assert_eq!(
        error,
        Err(InvalidRecords::OffsetDelta {
            index: 0,
            offset_delta: 2
        })
    );
}

#[test]
fn log_append_time_is_set_in_place() {
    let mut bytes = some_batch();
    stamp(&mut bytes, Offset(70), LeaderEpoch(5));
    let before = bytes.clone();
    set_log_append_time(&mut bytes, 99).unwrap();
    let batch = BatchView::first_verified(&bytes).unwrap();
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(
        (batch.base_offset(), batch.end_offset()),
        (Offset(70), Offset(75))
    );
    assert_eq!(bytes[HEADER_BYTES..], before[HEADER_BYTES..]);
    assert!(read(&batch).iter().all(|record| record.timestamp_ms == 99));
    assert_eq!(
        set_log_append_time(&mut [0; 80], 1),
        Err(BatchError::Magic(0))
    );

    let mut lying = batch_with(|f| f.max_timestamp_ms = i64::MAX);
    set_max_timestamp(&mut lying, 1_700_000_003_000).unwrap();
    assert_eq!(lying, some_batch());
}

#[test]
fn recompressing_keeps_everything_but_codec_and_size() {
    let bytes = batch_with(|f| {
        (f.producer_id, f.base_sequence) = (ProducerId(3), 8);
        f.base_offset = Offset(1_000);
    });
    let batch = BatchView::first_verified(&bytes).unwrap();
    let mut out = b"before".to_vec();
    let at = BatchFields::reserve(&mut out);
    out.extend_from_slice(b"packed");
    recompress(&batch, Codec::Snappy, &mut out[at..]).unwrap();
    let packed = BatchView::first_verified(&out[at..]).unwrap();
    assert_eq!(packed.records(), b"packed");
    let expected = BatchFields {
        compression: Codec::Snappy,
        ..BatchFields::of(&batch)
    };
    assert_eq!(BatchFields::of(&packed), expected);
    assert_eq!(
        recompress(&batch, Codec::Gzip, &mut [0; 60]),
        Err(SealError::NoRoom)
    );
}

#[test]
fn a_walk_ends_where_batches_end() {
    let one = some_batch();
    let three = one.repeat(3);
    let positions = |bytes: &[u8]| -> Vec<_> {
        Batches::new(bytes)
            .map(|step| step.map(|(position, _)| position))
            .collect()
    };
    assert_eq!(positions(&three), [Ok(0), Ok(one.len()), Ok(2 * one.len())]);
    let zeros = [&one[..], &[0; 100]].concat();
    let position = one.len();
    let error = BatchError::Magic(0);
    assert_eq!(
        positions(&zeros),
        [Ok(0), Err(BatchBreak { position, error })]
    );
    let error = BatchError::Truncated;
    for cut in one.len() + 1..2 * one.len() {
        assert_eq!(
            positions(&three[..cut]),
            [Ok(0), Err(BatchBreak { position, error })]
        );
    }

    let mut rotten = three.clone();
    rotten[2 * one.len() - 1] ^= 1;
    assert_eq!(Batches::new(&rotten).count(), 3);
    let mut walk = Batches::verified(&rotten);
    assert!(walk.next().unwrap().is_ok());
    let error = BatchError::Crc;
    assert_eq!(
        walk.next().unwrap().unwrap_err(),
        BatchBreak { position, error }
    );
    assert!(walk.next().is_none());
    assert_eq!(walk.position(), one.len());
}

#[test]
fn a_builder_refuses_what_does_not_fit_and_can_be_reused() {
    let mut builder = BatchBuilder::new();
    assert_eq!(builder.fields(), Err(BuildError::Empty));
    builder.append(i64::MIN, None, None, &[]).unwrap();
    let before = builder.clone();
    let far = builder.append(1, None, None, &[]);
    assert_eq!(far, Err(BuildError::Timestamp(1)));
    assert_eq!(builder.records(), before.records());
    builder.clear();
    assert!(builder.is_empty());
    builder.append(5, None, Some(b"v"), &[]).unwrap();
    let fields = builder.fields().unwrap();
    assert_eq!((fields.base_timestamp_ms, fields.max_timestamp_ms), (5, 5));
}
