//! What the broker makes of records: checked, corrected, or, for measuring, taken unseen.

use corelane::model::Codec;
use corelane::model::batch::{BatchFields, BatchView};
use corelane::wire::ErrorCode;

use crate::common::{Batch, Broker, Options, now_ms};

const TOPIC: &str = "records";

/// The batch with another header, resealed.
fn resealed(mut batch: Vec<u8>, change: impl FnOnce(&mut BatchFields)) -> Vec<u8> {
    let mut fields = BatchFields::of(&BatchView::first(&batch).expect("a batch"));
    change(&mut fields);
    fields.seal(&mut batch).expect("room for a header");
    batch
}

#[test]
fn a_lookup_by_time_finds_records_of_clients_that_leave_the_max_timestamp_unset() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let began_ms = now_ms();
    for nth in 0..3 {
        let batch = Batch {
            timestamp_ms: began_ms + 10 * nth,
            ..Batch::of([b"one".to_vec(), b"two".to_vec()])
        };
        let unset = resealed(batch.bytes(), |fields| fields.max_timestamp_ms = -1);
        assert_eq!(connection.produce(TOPIC, 0, &unset), Ok(2 * nth));
    }
    for (at_ms, offset) in [(0, 0), (1, 2), (10, 2), (11, 4), (21, -1)] {
        let found = connection.offset(TOPIC, 0, began_ms + at_ms);
        assert_eq!(found, Ok(offset), "at {at_ms} ms");
    }
}

#[test]
fn records_taken_unseen_are_told_of_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("corelane.validate.records", false);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let log = broker.log();
    assert!(
        log.contains("warning: corelane.validate.records=false"),
        "{log}"
    );
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let counts_3 = resealed(Batch::of([b"one".to_vec()]).bytes(), |fields| {
        (fields.record_count, fields.last_offset_delta) = (3, 2);
    });
    assert_eq!(connection.produce(TOPIC, 0, &counts_3), Ok(0));
}

/// `clients/04` of the faults that users found: 30 MB that became 2 KB.
#[test]
fn what_expands_far_is_stored_in_the_topics_codec() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    let lz4 = ["compression.type=lz4"];
    assert_eq!(connection.create_topic(TOPIC, 1, &lz4), ErrorCode::None);
    let batch = Batch {
        compression: Codec::Zstd,
        ..Batch::of((0..60).map(|_| vec![b'a'; 500_000]))
    };
    let resident = broker.resident_bytes();
    assert_eq!(connection.produce(TOPIC, 0, &batch.bytes()), Ok(0));
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "{grown} bytes for one batch");
    let read = connection.read_partition(TOPIC, 0, 0);
    assert_eq!(read.len(), 60);
    assert!(
        read.iter()
            .all(|record| record.value == Some(vec![b'a'; 500_000]))
    );
    // A lookup by time opens it, too, and holds no more of it.
    let resident = broker.resident_bytes();
    let later_ms = batch.timestamp_ms + 1;
    assert_eq!(connection.offset(TOPIC, 0, batch.timestamp_ms), Ok(0));
    assert_eq!(connection.offset(TOPIC, 0, later_ms), Ok(-1));
    let last = Batch {
        timestamp_ms: later_ms,
        ..Batch::of([b"later".to_vec()])
    };
    assert_eq!(connection.produce(TOPIC, 0, &last.bytes()), Ok(60));
    assert_eq!(connection.offset(TOPIC, 0, later_ms), Ok(60));
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "{grown} bytes for a lookup");
    // Not compressed it is too large: clients split it.
    let plain = ["compression.type=uncompressed"];
    assert_eq!(connection.create_topic("plain", 1, &plain), ErrorCode::None);
    let answer = connection.produce("plain", 0, &batch.bytes());
    assert_eq!(answer, Err(ErrorCode::MessageTooLarge));
}
