//! Record batches and codecs together: round trips, batches that Apache Kafka wrote, and the crate
//! `kafka-protocol` as the oracle in both directions.

use corelane::compress::{Codecs, Level};
use corelane::model::batch::{
    BatchBuilder, BatchFields, BatchView, Header, ProduceRules, RecordRules, Records,
    TimestampType, check_produced, check_records, recompress,
};
use corelane::model::{Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Every record of a batch, opened with our codecs.
fn read(batch: &BatchView<'_>) -> Vec<Owned> {
    let mut plain = Vec::new();
    Codecs::new()
        .decompress(batch.compression(), batch.records(), &mut plain, 1 << 20)
        .unwrap();
    Records::new(&plain, batch.record_count())
        .map(|record| {
            let record = record.unwrap();
            Owned {
                offset: batch.offset_of(&record).0,
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
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .append(record.timestamp_ms, key, value, &headers)
            .unwrap();
    }
    builder
}

fn packed(records: &[Owned], compression: Codec) -> Vec<u8> {
    let builder = build(records);
    let mut out = Vec::new();
    let at = BatchFields::reserve(&mut out);
    Codecs::new()
        .compress(Level::default_of(compression), builder.records(), &mut out)
        .unwrap();
    let fields = BatchFields {
        compression,
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(1),
        base_sequence: 0,
        ..builder.fields().unwrap()
    };
    fields.seal(&mut out[at..]).unwrap();
    out
}

/// Records as both sides can hold them: the oracle keeps headers in a map with string keys.
fn records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let header = ("[a-z]{1,6}", prop::option::of(bytes()));
    let record = (
        0i64..4_000_000_000_000,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::btree_map(header.0, header.1, 0..3),
    );
    prop::collection::vec(record, 1..30).prop_map(|records| {
        (0..)
            .zip(records)
            .map(|(offset, (timestamp_ms, key, value, headers))| Owned {
                offset,
                timestamp_ms,
                key,
                value,
                headers: headers
                    .into_iter()
                    .map(|(key, value)| (key.into_bytes(), value))
                    .collect(),
            })
            .collect()
    })
}

fn to_oracle(record: &Owned) -> oracle::Record {
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 7,
        producer_epoch: 1,
        timestamp_type: oracle::TimestampType::Creation,
        offset: record.offset,
        sequence: record.offset as i32,
        timestamp: record.timestamp_ms,
        key: record.key.clone().map(Into::into),
        value: record.value.clone().map(Into::into),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| {
                let key = StrBytes::from_string(String::from_utf8(key.clone()).unwrap());
                (key, value.clone().map(Into::into))
            })
            .collect(),
    }
}

const CODECS: [(Codec, oracle::Compression); 5] = [
    (Codec::None, oracle::Compression::None),
    (Codec::Gzip, oracle::Compression::Gzip),
    (Codec::Snappy, oracle::Compression::Snappy),
    (Codec::Lz4, oracle::Compression::Lz4),
    (Codec::Zstd, oracle::Compression::Zstd),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_codec_round_trips(records in records()) {
        let rules = ProduceRules { max_batch_bytes: 1 << 20, is_zstd_allowed: true };
        for compression in Codec::ALL {
            let bytes = packed(&records, compression);
            let batch = check_produced(&bytes, rules).unwrap();
            prop_assert_eq!(read(&batch), records.clone());
        }
    }

    #[test]
    fn the_oracle_reads_ours(records in records()) {
        let expected: Vec<_> = records.iter().map(to_oracle).collect();
        for (compression, _) in CODECS {
            let mut bytes = bytes::Bytes::from(packed(&records, compression));
            let set = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
            prop_assert_eq!(set.records, expected.clone());
        }
    }

    #[test]
    fn ours_reads_the_oracles(records in records()) {
        let theirs: Vec<_> = records.iter().map(to_oracle).collect();
        for (codec, compression) in CODECS {
            let mut bytes = bytes::BytesMut::new();
            let options = oracle::RecordEncodeOptions { version: 2, compression };
            oracle::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
            let batch = BatchView::first_verified(&bytes).unwrap();
            prop_assert_eq!(batch.compression(), codec);
            prop_assert_eq!(batch.bytes().len(), bytes.len());
            prop_assert_eq!(read(&batch), records.clone());
        }
    }
}

/// The records in `fixtures/kafka-4.1-batches.hex`, one line per codec, as
/// `MemoryRecords.withRecords` of kafka-clients 4.1.0 wrote them.
fn in_fixtures() -> Vec<Owned> {
    let of_record = |index: i64| Owned {
        offset: 1_000 + index,
        timestamp_ms: 1_700_000_000_000
            + if index % 2 == 0 {
                10 * index
            } else {
                -3 * index
            },
        key: (index % 3 != 0).then(|| format!("key-{index}").into_bytes()),
        value: (index % 4 != 3)
            .then(|| format!("value-{index}-{}", "ab".repeat(5 * index as usize)).into_bytes()),
        headers: (0..index % 3)
            .map(|header| {
                let value = (header != 1).then(|| vec![index as u8, 0xff]);
                (format!("h{header}").into_bytes(), value)
            })
            .collect(),
    };
    (0..8).map(of_record).collect()
}

fn fixtures() -> Vec<Vec<u8>> {
    include_str!("fixtures/kafka-4.1-batches.hex")
        .lines()
        .map(|line| {
            let (_, digits) = line.split_once(' ').unwrap();
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect()
        })
        .collect()
}

#[test]
fn what_kafka_wrote_is_read() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), Codec::ALL.len());
    for (compression, bytes) in Codec::ALL.into_iter().zip(fixtures) {
        let batch = BatchView::first_verified(&bytes).unwrap();
        let expected = BatchFields {
            base_offset: Offset(1_000),
            leader_epoch: LeaderEpoch(9),
            compression,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: true,
            is_control: false,
            has_delete_horizon: false,
            last_offset_delta: 7,
            base_timestamp_ms: 1_700_000_000_000,
            max_timestamp_ms: 1_700_000_000_060,
            producer_id: ProducerId(4711),
            producer_epoch: ProducerEpoch(3),
            base_sequence: i32::MAX - 2,
            record_count: 8,
        };
        assert_eq!(BatchFields::of(&batch), expected);
        assert_eq!(batch.last_sequence(), 4);
        assert_eq!(batch.bytes().len(), bytes.len());
        assert_eq!(read(&batch), in_fixtures());
    }
}

/// Uncompressed, ours and Kafka's are the same bytes.
#[test]
fn what_kafka_wrote_is_written() {
    let theirs = &fixtures()[0];
    let fields = BatchFields::of(&BatchView::first(theirs).unwrap());
    let builder = build(&in_fixtures());
    let built = builder.fields().unwrap();
    assert_eq!(built.base_timestamp_ms, fields.base_timestamp_ms);
    assert_eq!(built.max_timestamp_ms, fields.max_timestamp_ms);
    let mut ours = Vec::new();
    fields.append(builder.records(), &mut ours).unwrap();
    assert_eq!(ours, *theirs);
}

#[test]
fn a_broker_recompresses_what_a_producer_sent() {
    let records = in_fixtures();
    let mut codecs = Codecs::new();
    for from in Codec::ALL {
        let sent = packed(&records, from);
        let batch = BatchView::first_verified(&sent).unwrap();
        let mut plain = Vec::new();
        codecs
            .decompress(from, batch.records(), &mut plain, 1 << 20)
            .unwrap();
        let facts = check_records(&plain, &batch, &RecordRules::default()).unwrap();
        assert_eq!(facts.max_timestamp_ms, batch.max_timestamp_ms());
        for to in Codec::ALL {
            let mut out = Vec::new();
            let at = BatchFields::reserve(&mut out);
            codecs
                .compress(Level::default_of(to), &plain, &mut out)
                .unwrap();
            recompress(&batch, to, &mut out[at..]).unwrap();
            let stored = BatchView::first_verified(&out).unwrap();
            assert_eq!(stored.producer_id(), batch.producer_id());
            assert_eq!(read(&stored), read(&batch));
        }
    }
}
