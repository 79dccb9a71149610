//! Batches with a valid checksum that lie about what they hold.

use std::time::Instant;

use corelane::model::Codec;
use corelane::model::batch::BatchView;
use corelane::wire::ErrorCode;

use crate::common::{Batch, Connection, Options, is_full};
use crate::target::Target;

const TOPIC: &str = "lies";

/// Where header fields of a record batch lie (Kafka's record batch format, version 2).
const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;
const RECORDS: usize = 61;

/// A batch of three records, changed, with its length and checksum mended.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Batch::of([b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]).bytes();
    change(&mut bytes);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as u32;
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Every lie that is visible without opening the records, by name.
fn header_lies() -> Vec<(&'static str, Vec<u8>)> {
    let int = |at: usize, value: i32| changed(|bytes| put(bytes, at, value.to_be_bytes()));
    let attributes = |bits: i16| changed(|bytes| put(bytes, ATTRIBUTES, bits.to_be_bytes()));
    let mut damaged = changed(|_| {});
    damaged[RECORDS] ^= 1;
    let one = changed(|_| {});
    vec![
        ("no records", int(RECORD_COUNT, 0)),
        ("−1 records", int(RECORD_COUNT, -1)),
        ("fewer records than offsets", int(RECORD_COUNT, 2)),
        ("more records than offsets", int(RECORD_COUNT, 4)),
        ("2³¹−1 records", int(RECORD_COUNT, i32::MAX)),
        ("last offset delta −1", int(LAST_OFFSET_DELTA, -1)),
        ("last offset delta 2³¹−1", int(LAST_OFFSET_DELTA, i32::MAX)),
        ("a control batch", attributes(0x20)),
        ("a transactional batch without a producer", attributes(0x10)),
        (
            "a transactional batch",
            changed(|bytes| {
                put(bytes, ATTRIBUTES, 0x10i16.to_be_bytes());
                put(bytes, PRODUCER_ID, 5i64.to_be_bytes());
                put(bytes, PRODUCER_EPOCH, 0i16.to_be_bytes());
                put(bytes, BASE_SEQUENCE, 0i32.to_be_bytes());
            }),
        ),
        ("an unknown codec", attributes(0x07)),
        ("magic 0", changed(|bytes| bytes[MAGIC] = 0)),
        ("magic 1", changed(|bytes| bytes[MAGIC] = 1)),
        ("magic 3", changed(|bytes| bytes[MAGIC] = 3)),
        (
            "a producer without a sequence",
            changed(|bytes| {
                put(bytes, PRODUCER_ID, 5i64.to_be_bytes());
                put(bytes, PRODUCER_EPOCH, 0i16.to_be_bytes());
                put(bytes, BASE_SEQUENCE, (-1i32).to_be_bytes());
            }),
        ),
        (
            "a base offset",
            changed(|bytes| put(bytes, BASE_OFFSET, 7i64.to_be_bytes())),
        ),
        ("a wrong checksum", damaged),
        ("two batches", [one.clone(), one.clone()].concat()),
        ("a cut header", one[..40].to_vec()),
        ("a cut batch", one[..one.len() - 3].to_vec()),
        ("bytes behind the batch", [&one[..], &[0; 9]].concat()),
        ("nothing", Vec::new()),
        ("too large", Batch::of([vec![0; 1_100_000]]).bytes()),
    ]
}

/// Lies within the records, which the broker sees where it opens them.
fn record_lies() -> Vec<(&'static str, Vec<u8>)> {
    let record = |body: &'static [u8]| {
        changed(move |bytes| {
            bytes.truncate(RECORDS);
            bytes.extend_from_slice(body);
            put(bytes, RECORD_COUNT, 1i32.to_be_bytes());
            put(bytes, LAST_OFFSET_DELTA, 0i32.to_be_bytes());
        })
    };
    // length, attributes, timestamp delta, offset delta, key, value, headers; zigzag varints.
    vec![
        (
            "a record longer than the batch",
            record(&[100, 0, 0, 0, 1, 1, 0]),
        ),
        (
            "a record shorter than its fields",
            record(&[4, 0, 0, 0, 1, 1, 0]),
        ),
        (
            "a record longer than its fields",
            record(&[14, 0, 0, 0, 1, 1, 0, 9]),
        ),
        ("a record of length −1", record(&[1, 0, 0, 0, 1, 1, 0])),
        (
            "a key longer than its record",
            record(&[12, 0, 0, 0, 100, 1, 0]),
        ),
        ("a key of length −2", record(&[12, 0, 0, 0, 3, 1, 0])),
        (
            "a value of 2³¹−1",
            record(&[20, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0]),
        ),
        ("more headers than fit", record(&[12, 0, 0, 0, 1, 1, 100])),
        ("−1 headers", record(&[12, 0, 0, 0, 1, 1, 1])),
        (
            "an endless varint",
            record(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("an offset delta of 5", record(&[12, 0, 0, 10, 1, 1, 0])),
        ("no bytes at all", record(&[])),
        ("plain bytes called gzip", claims_codec(1)),
        ("plain bytes called snappy", claims_codec(2)),
        ("plain bytes called lz4", claims_codec(3)),
        ("plain bytes called zstd", claims_codec(4)),
    ]
}

fn claims_codec(number: i16) -> Vec<u8> {
    changed(|bytes| put(bytes, ATTRIBUTES, number.to_be_bytes()))
}

/// Whether the CRC, at its place in whatever this is, covers what follows.
fn holds_crc(batch: &[u8]) -> bool {
    BatchView::first(batch).is_ok_and(|view| view.crc_holds())
}

fn refuses(connection: &mut Connection, lies: &[(&'static str, Vec<u8>)]) {
    let end = connection.offset(TOPIC, 0, -1).expect("the log end");
    for (lie, batch) in lies {
        let answer = connection.produce(TOPIC, 0, batch);
        let code = answer.expect_err(lie);
        // Only what the way may have damaged is worth another try.
        let may_be_sent_again = code == ErrorCode::CorruptMessage && !holds_crc(batch);
        assert!(!code.is_retriable() || may_be_sent_again, "{lie}: {code:?}");
    }
    assert_eq!(
        connection.offset(TOPIC, 0, -1),
        Ok(end),
        "something was appended"
    );
}

#[test]
fn batches_that_lie_are_refused_and_nothing_is_appended() {
    let mut target = Target::start(Options::new(1));
    let mut connection = target.broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let honest = changed(|_| {});
    assert_eq!(connection.produce(TOPIC, 0, &honest), Ok(0));
    let lies = header_lies();
    refuses(&mut connection, &lies);
    target.survived("batches that lie", lies.len());
}

#[test]
fn records_that_lie_are_refused() {
    let mut target = Target::start(Options::new(1));
    let mut connection = target.broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    refuses(&mut connection, &record_lies());
    assert_eq!(connection.delete_topic(TOPIC), ErrorCode::None);
    let codec = ["compression.type=zstd"];
    assert_eq!(connection.create_topic(TOPIC, 1, &codec), ErrorCode::None);
    refuses(&mut connection, &record_lies());
    target.survived("records that lie", 2 * record_lies().len());
}

/// Little that becomes much, and is a batch like any other: Kafka stores it, however far it expands. It is
/// looked at piece by piece, and others are served meanwhile.
#[test]
fn decompression_bombs() {
    let mut target = Target::start(Options::new(1));
    let mut connection = target.broker.connect();
    let large = "max.message.bytes=8388608";
    let mebibytes = if is_full() { 1024 } else { 48 };
    for compression in Codec::COMPRESSING {
        let codec = match compression {
            Codec::Gzip => "compression.type=zstd",
            _ => "compression.type=gzip",
        };
        assert_eq!(
            connection.create_topic(TOPIC, 1, &[large, codec]),
            ErrorCode::None
        );
        let batch = bomb(compression, mebibytes << 20);
        let (cpu, began) = (target.broker.cpu_time(), Instant::now());
        connection.send_batch(TOPIC, 0, &batch).expect("sent");
        target.serves();
        let served = began.elapsed();
        let answer = connection.receive_ack().expect("an answer");
        println!(
            "hostile, bomb: {} bytes of {compression} for {mebibytes} MiB: {:?} after {:?}, others after \
             {served:?}, CPU {:?}",
            batch.len(),
            answer,
            began.elapsed(),
            target.broker.cpu_time() - cpu,
        );
        assert_eq!(answer, Ok(0), "{compression}");
        target.survived(compression.name(), 1);
        assert_eq!(connection.delete_topic(TOPIC), ErrorCode::None);
    }
}

/// A batch of one record whose value is nothing but zeros.
fn bomb(compression: Codec, plain_bytes: usize) -> Vec<u8> {
    let plain_bytes = match compression {
        // At most 21 times smaller: as much as a batch may weigh.
        Codec::Snappy => plain_bytes.min(96 << 20),
        _ => plain_bytes,
    };
    let mut batch = Batch::of([vec![0; plain_bytes]]);
    batch.compression = compression;
    batch.bytes()
}
