//! Clients that ask and do not take what they asked for, and what a Fetch waits for.

use std::time::{Duration, Instant};

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
