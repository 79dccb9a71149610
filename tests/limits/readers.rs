//! Clients that ask and do not take what they asked for, and what a Fetch waits for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corelane::model::batch::Batches;
use corelane::model::{Offset, PartitionIndex};
use corelane::wire::messages::*;
use corelane::wire::{ErrorCode, decode_response};
use rustix::net::sockopt;

use crate::common::{Batch, Broker, Connection, Options};

const VERSION: i16 = 12;
const RECORD_BYTES: usize = 1_000_000;

fn topic(name: &str, partition: i32, offset: i64) -> FetchTopic<'_> {
    FetchTopic {
        topic: name.into(),
        partitions: FetchPartition {
            partition: PartitionIndex(partition),
            fetch_offset: Offset(offset),
            partition_max_bytes: 50 << 20,
            ..Default::default()
        }
        .into(),
        ..Default::default()
    }
}

fn ask(topics: impl IntoIterator<Item = FetchTopic<'static>>) -> FetchRequest<'static> {
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: topics.into_iter().collect(),
        ..Default::default()
    }
}

/// A connection that asks for the records of `t` from an offset on, and reads nothing.
fn silent_reader(broker: &Broker, offset: i64) -> Connection {
    let mut connection = broker.connect();
    sockopt::set_socket_recv_buffer_size(&connection.stream, 4096).expect("SO_RCVBUF");
    let asked = connection.send(VERSION, &ask([topic("t", 0, offset)]));
    asked.expect("sent");
    connection
}

fn fill(broker: &Broker, records: usize) {
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("t", 1, &[]), ErrorCode::None);
    for nth in 0..records {
        let batch = Batch::of([vec![nth as u8; RECORD_BYTES]]).bytes();
        assert!(connection.produce("t", 0, &batch).is_ok());
    }
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("connections.max.idle.ms", 1_000);
    let broker = Broker::start(&dir.path().join("data"), &options);
    fill(&broker, 40);
    let before = broker.open_files();
    let readers: Vec<_> = (0..4).map(|nth| silent_reader(&broker, nth)).collect();
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert!(broker.open_files() >= before + readers.len() - 1);
    while broker.open_files() > before {
        let waited = began.elapsed();
        assert!(
            waited < Duration::from_secs(10),
            "still there after {waited:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long a Fetch took, and the error of each topic.
fn fetched(connection: &mut Connection, request: &FetchRequest) -> (Duration, Vec<ErrorCode>) {
    let began = Instant::now();
    let frame = connection.call(VERSION, request).expect("an answer");
    let (_, response) = decode_response::<FetchResponse>(&frame, VERSION).expect("a response");
    let codes = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
    (
        began.elapsed(),
        codes.map(|partition| partition.error_code).collect(),
    )
}

/// Kafka answers a Fetch at once for an error of reading, not for a topic that it does not know
/// (`KafkaApis.handleFetchRequest`, `ReplicaManager.fetchMessages`).
#[test]
fn an_unknown_topic_beside_a_known_one_does_not_end_the_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("known", 1, &[]), ErrorCode::None);
    let (took, codes) = fetched(
        &mut connection,
        &ask([topic("gone", 0, 0), topic("known", 0, 0)]),
    );
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition, ErrorCode::None]);
    assert!(
        took >= Duration::from_millis(450),
        "answered after {took:?}"
    );
    let (took, codes) = fetched(&mut connection, &ask([topic("gone", 0, 0)]));
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition]);
    assert!(
        took < Duration::from_millis(300),
        "nothing to wait for: {took:?}"
    );
    let (took, codes) = fetched(
        &mut connection,
        &ask([topic("gone", 0, 0), topic("known", 0, 7)]),
    );
    assert_eq!(codes[1], ErrorCode::OffsetOutOfRange);
    assert!(took < Duration::from_millis(300), "told at once: {took:?}");
}

/// The same in a session, whose later requests name nothing.
#[test]
fn a_session_with_an_unknown_topic_waits_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("known", 1, &[]), ErrorCode::None);
    let opening = FetchRequest {
        session_epoch: 0,
        ..ask([topic("gone", 0, 0), topic("known", 0, 0)])
    };
    let frame = connection.call(VERSION, &opening).expect("an answer");
    let (_, response) = decode_response::<FetchResponse>(&frame, VERSION).expect("a response");
    assert_ne!(response.session_id, 0);
    for epoch in 1..4 {
        let next = FetchRequest {
            session_id: response.session_id,
            session_epoch: epoch,
            ..ask([])
        };
        let (took, codes) = fetched(&mut connection, &next);
        assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition]);
        assert!(
            took >= Duration::from_millis(450),
            "answered after {took:?}"
        );
    }
}

/// Records of `t` as they are read by one who goes from its beginning to its end, and how long that
/// took.
fn read_through(connection: &mut Connection, partition: i32, records: i64) -> Duration {
    let began = Instant::now();
    let mut next = 0;
    while next < records {
        let asked = ask([topic("t", partition, next)]);
        let frame = connection.call(VERSION, &asked).expect("an answer");
        let (_, response) = decode_response::<FetchResponse>(&frame, VERSION).expect("a response");
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::None);
        let records = partition
            .records
            .as_ref()
            .map_or(&[][..], |records| records.bytes());
        for batch in Batches::new(records) {
            next = batch.expect("a whole batch").1.end_offset().0;
        }
    }
    began.elapsed()
}

/// What eight readers that do not read hold, each of other records, keeps nobody from writing and
/// reading, nor the broker from stopping.
#[test]
fn readers_that_do_not_read_stop_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("corelane.memory", 96 << 20);
    let broker = Broker::start(&dir.path().join("data"), &options);
    fill(&broker, 80);
    let readers: Vec<_> = (0..8).map(|nth| silent_reader(&broker, nth * 8)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("other", 1, &[]), ErrorCode::None);
    for bytes in [1_000, 400_000, 1_000, 400_000] {
        let batch = Batch::of([vec![3; bytes]]).bytes();
        assert!(connection.produce("other", 0, &batch).is_ok());
    }
    assert_eq!(connection.read_partition("other", 0, 0).len(), 4);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let took = read_through(&mut connection, 0, 80);
    println!("80 MB from disk beside readers that do not read: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        broker.resident_bytes() < 160 << 20,
        "{} bytes",
        broker.resident_bytes()
    );
    drop(readers);
    assert!(broker.stop().success());
}

/// Consumers that catch up on many partitions at once, more than there is memory for.
#[test]
fn consumers_that_catch_up_share_what_memory_there_is() {
    const PARTITIONS: i32 = 60;
    const RECORDS: i64 = 12;
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("corelane.memory", 96 << 20);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let mut connection = broker.connect();
    assert_eq!(
        connection.create_topic("t", PARTITIONS, &[]),
        ErrorCode::None
    );
    for partition in 0..PARTITIONS {
        for _ in 0..RECORDS {
            let batch = Batch::of([vec![partition as u8; 100_000]]).bytes();
            assert!(connection.produce("t", partition, &batch).is_ok());
        }
    }
    let address = broker.address();
    let consumers: Vec<_> = (0..10)
        .map(|_| std::thread::spawn(move || catch_up(address, PARTITIONS, RECORDS)))
        .collect();
    let began = Instant::now();
    while consumers.iter().any(|consumer| !consumer.is_finished()) {
        let waited = began.elapsed();
        assert!(
            waited < Duration::from_secs(60),
            "not done after {waited:?}"
        );
        let asked = Instant::now();
        let batch = Batch::of([vec![3; 1_000]]).bytes();
        assert!(connection.produce("t", 0, &batch).is_ok());
        let took = asked.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "a write beside them took {took:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("ten consumers caught up in {:?}", began.elapsed());
    for consumer in consumers {
        consumer.join().expect("no error on the way");
    }
}

/// Reads all partitions from their beginning in one request after another, and fails at any error.
fn catch_up(address: SocketAddr, partitions: i32, records: i64) {
    let mut connection = Connection::open(address).expect("the broker accepts");
    let mut next = vec![0; partitions as usize];
    while next.iter().any(|offset| *offset < records) {
        let wanted = |(partition, offset): (usize, &i64)| FetchPartition {
            partition: PartitionIndex(partition as i32),
            fetch_offset: Offset(*offset),
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let mut partitions: Vec<_> = next.iter().enumerate().map(wanted).collect();
        partitions.sort_by_key(|partition| partition.fetch_offset);
        let asked = ask([FetchTopic {
            topic: "t".into(),
            partitions: partitions.into_iter().collect(),
            ..Default::default()
        }]);
        let frame = connection.call(VERSION, &asked).expect("an answer");
        let (_, response) = decode_response::<FetchResponse>(&frame, VERSION).expect("a response");
        for partition in response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            assert_eq!(partition.error_code, ErrorCode::None);
            let bytes = partition
                .records
                .as_ref()
                .map_or(&[][..], |records| records.bytes());
            for batch in Batches::new(bytes) {
                let end = batch.expect("a whole batch").1.end_offset().0;
                next[partition.partition_index.0 as usize] = end;
            }
        }
    }
}
