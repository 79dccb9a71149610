//! What the broker does before and after a key is altered, a function per key.

use std::time::Duration;

use corelane::model::Codec;
use corelane::model::batch::BatchView;
use corelane::wire::ErrorCode;

use crate::common::{Batch, Connection, Noise, now_ms};
use crate::dynamic::{Case, TOPIC};

const MIB: usize = 1 << 20;

/// Appends records of so many bytes, one per batch, until there are `total_bytes` of them.
fn append(case: &mut Case, total_bytes: usize, record_bytes: usize) {
    let mut noise = Noise::new(total_bytes as u64);
    for _ in 0..total_bytes / record_bytes {
        let batch = Batch::of([noise.bytes(record_bytes)]);
        case.connection
            .produce(TOPIC, 0, &batch.bytes())
            .expect("an acknowledgement");
    }
}

fn produce(case: &mut Case, batch: &Batch) -> Result<i64, ErrorCode> {
    case.connection.produce(TOPIC, 0, &batch.bytes())
}

/// Segments, as the log's directory shows them.
fn segments(case: &Case) -> usize {
    case.files(".log").len()
}

fn log_start(case: &mut Case) -> i64 {
    case.connection.offset(TOPIC, 0, -2).expect("the log start")
}

pub fn segment_bytes(case: &mut Case) {
    append(case, 3 * MIB, MIB / 4);
    assert_eq!(segments(case), 1);
    case.alter(MIB);
    append(case, 3 * MIB, MIB / 4);
    case.eventually("smaller segments", |case| segments(case) >= 3);
}

pub fn segment_ms(case: &mut Case) {
    let pause = || std::thread::sleep(Duration::from_millis(30));
    for _ in 0..3 {
        append(case, 100, 100);
        pause();
    }
    assert_eq!(segments(case), 1);
    case.alter(10);
    for _ in 0..3 {
        append(case, 100, 100);
        pause();
    }
    case.eventually("younger segments", |case| segments(case) >= 3);
}

/// Segments live for `segment.ms` less a random part of the jitter.
pub fn segment_jitter_ms(case: &mut Case) {
    case.with("segment.ms", 60_000);
    let later = |case: &mut Case, timestamp_ms: i64| {
        let batch = Batch {
            timestamp_ms,
            ..Batch::of([b"later".to_vec()])
        };
        produce(case, &batch).expect("an acknowledgement");
    };
    let began = now_ms();
    (0..20).for_each(|nth| later(case, began + nth * 100));
    assert_eq!(segments(case), 1);
    case.alter(60_000);
    // Each batch is 30 s later than the one before: about half the segments end before.
    (0..40).for_each(|nth| later(case, began + nth * 30_000));
    case.eventually("segments ended early", |case| segments(case) > 20);
    assert!(
        segments(case) < 40,
        "the whole jitter was taken each time: {}",
        segments(case)
    );
}

pub fn segment_index_bytes(case: &mut Case) {
    case.with("index.interval.bytes", 0);
    append(case, 100 * 200, 200);
    assert_eq!(segments(case), 1);
    case.alter(120);
    append(case, 100 * 200, 200);
    case.eventually("segments that end with their index", |case| {
        segments(case) >= 5
    });
}

pub fn index_interval_bytes(case: &mut Case) {
    case.with("segment.bytes", MIB);
    let index_bytes = |case: &Case, nth: usize| {
        case.files(".index")[nth]
            .metadata()
            .expect("an index")
            .len()
    };
    append(case, 2 * MIB, 1_000);
    case.eventually("a sealed segment", |case| segments(case) >= 2);
    let sparse = index_bytes(case, 0);
    case.alter(0);
    append(case, 3 * MIB, 1_000);
    case.eventually("further sealed segments", |case| segments(case) >= 5);
    let dense = index_bytes(case, 2);
    assert!(dense > 2 * sparse, "{dense} bytes, {sparse} before");
}

pub fn retention_bytes(case: &mut Case) {
    case.with("segment.bytes", MIB);
    append(case, 4 * MIB, MIB / 4);
    assert_eq!(log_start(case), 0);
    case.alter(MIB);
    case.eventually("old segments go", |case| log_start(case) > 0);
}

pub fn retention_ms(case: &mut Case) {
    case.with("segment.bytes", MIB);
    append(case, 3 * MIB, MIB / 4);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(log_start(case), 0);
    case.alter(1);
    case.eventually("old segments go", |case| log_start(case) > 0);
}

/// The files of a deleted topic stay for a while, under another name.
pub fn file_delete_delay_ms(case: &mut Case) {
    let put_aside = |case: &Case| {
        let entries = std::fs::read_dir(&case.data)
            .expect("the data directory")
            .flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().ends_with("-delete"))
            .count()
    };
    let delete = |case: &mut Case| {
        append(case, 100, 100);
        assert_eq!(case.connection.delete_topic(TOPIC), ErrorCode::None);
    };
    case.alter(0);
    delete(case);
    case.eventually("files go at once", |case| put_aside(case) == 0);
    assert_eq!(case.connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    case.alter(3_600_000);
    delete(case);
    case.eventually("files are put aside", |case| put_aside(case) == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(put_aside(case), 1, "they are gone already");
}

pub fn max_message_bytes(case: &mut Case) {
    let batch = Batch::of([vec![7; 5_000]]);
    assert_eq!(produce(case, &batch), Ok(0));
    case.alter(4_000);
    assert_eq!(produce(case, &batch), Err(ErrorCode::MessageTooLarge));
    case.reset();
    assert_eq!(produce(case, &batch), Ok(1));
}

/// The last batch, as it is stored.
fn stored(case: &mut Case, offset: i64) -> (Codec, usize) {
    let fetched = case
        .connection
        .fetch(TOPIC, 0, offset)
        .expect("an answer")
        .expect("records");
    let batch = BatchView::first(&fetched).expect("a batch");
    (batch.compression(), batch.bytes().len())
}

pub fn compression_type(case: &mut Case) {
    let batch = Batch::of([vec![7; 5_000]]);
    assert_eq!(produce(case, &batch), Ok(0));
    assert_eq!(stored(case, 0).0, Codec::None);
    for (nth, compression) in (1..).zip(Codec::COMPRESSING) {
        case.alter(compression.name());
        assert_eq!(produce(case, &batch), Ok(nth));
        assert_eq!(stored(case, nth).0, compression);
    }
    let read = case.connection.read_partition(TOPIC, 0, 0);
    assert!(
        read.len() == 5
            && read
                .iter()
                .all(|record| record.value == Some(vec![7; 5_000]))
    );
}

/// Text that a better level makes smaller.
fn text() -> Batch {
    let mut noise = Noise::new(3);
    let words = [
        "GET",
        "POST",
        "/index.html",
        "/api/v1/users",
        "200",
        "404",
        "Mozilla/5.0",
    ];
    let line = |_| {
        (0..40)
            .map(|_| words[noise.below(words.len())])
            .collect::<Vec<_>>()
            .join(" ")
    };
    Batch::of((0..200).map(line).map(String::into_bytes))
}

fn level(case: &mut Case, codec: &str, fast: i32, small: i32) {
    case.with("compression.type", codec);
    case.alter(fast);
    produce(case, &text()).expect("an acknowledgement");
    let larger = stored(case, 0).1;
    case.alter(small);
    produce(case, &text()).expect("an acknowledgement");
    let smaller = stored(case, 200).1;
    assert!(
        smaller < larger,
        "level {small}: {smaller} bytes, level {fast}: {larger}"
    );
}

pub fn gzip_level(case: &mut Case) {
    level(case, "gzip", 1, 9);
}

pub fn zstd_level(case: &mut Case) {
    level(case, "zstd", -20, 19);
}

pub fn timestamp_type(case: &mut Case) {
    let sent = now_ms() - 1_000_000;
    let batch = Batch {
        timestamp_ms: sent,
        ..Batch::of([b"timed".to_vec()])
    };
    let time =
        |case: &mut Case, offset| case.connection.read_partition(TOPIC, 0, offset)[0].timestamp_ms;
    assert_eq!(produce(case, &batch), Ok(0));
    assert_eq!(time(case, 0), sent);
    case.alter("LogAppendTime");
    assert_eq!(produce(case, &batch), Ok(1));
    assert!(
        (time(case, 1) - now_ms()).abs() < 60_000,
        "{}",
        time(case, 1)
    );
}

fn distance(case: &mut Case, milliseconds: i64) {
    let batch = Batch {
        timestamp_ms: now_ms() + milliseconds,
        ..Batch::of([b"far".to_vec()])
    };
    assert_eq!(produce(case, &batch), Ok(0));
    case.alter(60_000);
    assert_eq!(produce(case, &batch), Err(ErrorCode::InvalidTimestamp));
    assert_eq!(produce(case, &Batch::of([b"near".to_vec()])), Ok(1));
}

pub fn timestamp_before_max_ms(case: &mut Case) {
    distance(case, -1_800_000);
}

pub fn timestamp_after_max_ms(case: &mut Case) {
    distance(case, 1_800_000);
}

/// Only one value exists yet; the others must not be taken.
pub fn cleanup_policy(case: &mut Case) {
    case.alter("delete");
    assert_eq!(case.try_alter("compact"), ErrorCode::InvalidConfig);
    assert_eq!(case.try_alter("delete,compact"), ErrorCode::InvalidConfig);
}

pub fn max_connections(case: &mut Case) {
    let address = case.broker.address();
    let served = || Connection::open(address).is_ok_and(|mut connection| connection.answers());
    let _more: Vec<_> = (0..5).map(|_| case.broker.connect()).collect();
    assert!(served());
    case.alter(4);
    assert!(!served(), "one more than allowed is served");
    case.alter(100);
    case.eventually("room again", |_| served());
}

/// An expired producer may begin with any sequence (KIP-360).
pub fn producer_id_expiration_ms(case: &mut Case) {
    let (id, epoch) = case.connection.producer_id().expect("a producer id");
    let batch = |sequence| Batch {
        producer: Some((id, epoch, sequence)),
        ..Batch::of([b"idempotent".to_vec()])
    };
    assert_eq!(produce(case, &batch(0)), Ok(0));
    assert_eq!(
        produce(case, &batch(5)),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    case.alter(1);
    case.eventually("the producer is forgotten", |case| {
        produce(case, &batch(5)).is_ok()
    });
}
