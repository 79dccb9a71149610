//! Fetch sessions (KIP-227) over real sockets: what is at rest is left alone, and nothing that
//! changes is missed.

#![expect(clippy::disallowed_methods, reason = "real processes and real time")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{Batch, Broker, Connection, Noise, Options};
use corelane::model::batch::Batches;
use corelane::model::{Offset, PartitionIndex};
use corelane::wire::messages::*;
use corelane::wire::{ErrorCode, List, decode_response};

const VERSION: i16 = 12;
const PARTITIONS: i32 = 40;
const RECORD_BYTES: usize = 300;

/// A consumer of all partitions of some topics in one session.
struct Session {
    connection: Connection,
    id: i32,
    epoch: i32,
    /// Next offset of each partition.
    positions: Vec<i64>,
    /// Partitions to be named in the next request.
    moved: BTreeSet<i32>,
}

/// What a response says of one partition.
#[derive(Debug)]
struct Said {
    index: i32,
    code: ErrorCode,
    records: i64,
    log_start: i64,
}

impl Session {
    fn open(broker: &Broker) -> Self {
        Self {
            connection: Connection::open(broker.address()).expect("accepted"),
            id: 0,
            epoch: 0,
            positions: vec![0; PARTITIONS as usize],
            moved: (0..PARTITIONS).collect(),
        }
    }

    fn send(&mut self, max_wait_ms: i32, max_bytes: i32) {
        let partition = |index: &i32| FetchPartition {
            partition: PartitionIndex(*index),
            fetch_offset: Offset(self.positions[*index as usize]),
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: "t".into(),
            partitions: self.moved.iter().map(partition).collect(),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes,
            session_id: self.id,
            session_epoch: self.epoch,
            topics: match self.moved.is_empty() {
                true => List::default(),
                false => List::from(topic),
            },
            ..Default::default()
        };
        self.connection.send(VERSION, &request).expect("sent");
        self.moved.clear();
        self.epoch += 1;
    }

    fn receive(&mut self) -> Vec<Said> {
        let frame = self.connection.receive().expect("an answer");
        let (_, answer) = decode_response::<FetchResponse<'_>>(&frame, VERSION).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::None);
        assert_ne!(answer.session_id, 0);
        self.id = answer.session_id;
        let mut said = Vec::new();
        for data in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let index = data.partition_index.0;
            let position = &mut self.positions[index as usize];
            let before = *position;
            for batch in Batches::new(data.records.map_or(&[][..], |records| records.bytes())) {
                let (_, batch) = batch.expect("a batch");
                assert_eq!(batch.base_offset().0, *position, "partition {index}");
                *position = batch.end_offset().0;
            }
            if *position > before {
                self.moved.insert(index);
            }
            said.push(Said {
                index,
                code: data.error_code,
                records: *position - before,
                log_start: data.log_start_offset.0,
            });
        }
        said
    }

    fn fetch(&mut self, max_wait_ms: i32, max_bytes: i32) -> Vec<Said> {
        self.send(max_wait_ms, max_bytes);
        self.receive()
    }
}

fn start(dir: &tempfile::TempDir) -> (Broker, Connection) {
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut writer = Connection::open(broker.address()).expect("accepted");
    assert_eq!(writer.create_topic("t", PARTITIONS, &[]), ErrorCode::None);
    (broker, writer)
}

fn record() -> Vec<u8> {
    Batch::of([vec![7; RECORD_BYTES]]).bytes()
}

#[test]
fn everything_written_is_read_and_the_rest_is_not_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, mut writer) = start(&dir);
    let mut noise = Noise::from_environment();
    let mut session = Session::open(&broker);
    let mut ends = vec![0; PARTITIONS as usize];
    assert_eq!(session.fetch(0, 1 << 20).len(), PARTITIONS as usize);
    for _ in 0..400 {
        for _ in 0..noise.below(5) {
            let partition = noise.below(PARTITIONS as usize);
            let base = writer.produce("t", partition as i32, &record());
            assert_eq!(base, Ok(ends[partition]));
            ends[partition] += 1;
        }
        // A small answer leaves some partitions unread, for requests to come.
        let max_bytes = [1, 1000, 1 << 20][noise.below(3)];
        let behind: Vec<_> = (0..PARTITIONS)
            .filter(|index| session.positions[*index as usize] < ends[*index as usize])
            .collect();
        let said = session.fetch(0, max_bytes);
        let read = said.iter().filter(|said| said.records > 0).count();
        assert!(read > 0 || behind.is_empty(), "{behind:?} not read");
        for said in said {
            // The high watermark of a partition that was left unread is news as well.
            assert!(behind.contains(&said.index), "{said:?} is no news");
        }
    }
    while session
        .fetch(0, 1 << 20)
        .iter()
        .any(|said| said.records > 0)
    {}
    assert_eq!(session.positions, ends);
}

#[test]
fn a_waiting_request_hears_of_a_partition_at_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, mut writer) = start(&dir);
    let mut session = Session::open(&broker);
    session.fetch(0, 1 << 20);
    assert!(session.fetch(0, 1 << 20).is_empty());
    for index in [31, 2, 2] {
        let began = Instant::now();
        session.send(25_000, 1 << 20);
        std::thread::sleep(Duration::from_millis(50));
        writer.produce("t", index, &record()).expect("accepted");
        let said = session.receive();
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].index, said[0].records), (index, 1));
        assert!(began.elapsed() < Duration::from_secs(15), "not woken");
    }
}

#[test]
fn a_raised_log_start_and_a_deleted_topic_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, mut writer) = start(&dir);
    for _ in 0..3 {
        writer.produce("t", 5, &record()).expect("accepted");
    }
    let mut session = Session::open(&broker);
    session.fetch(0, 1 << 20);
    assert!(session.fetch(0, 1 << 20).is_empty());
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: PartitionIndex(5),
                offset: Offset(2),
            }],
        }],
        timeout_ms: 30_000,
    };
    writer.call(2, &request).expect("an answer");
    let said = session.fetch(0, 1 << 20);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].index, said[0].log_start), (5, 2));
    assert!(session.fetch(0, 1 << 20).is_empty());

    session.send(25_000, 1 << 20);
    assert_eq!(writer.delete_topic("t"), ErrorCode::None);
    let said = session.receive();
    let unknown = |said: &Said| said.code == ErrorCode::UnknownTopicOrPartition;
    assert!(!said.is_empty() && said.iter().all(unknown), "{said:?}");
}

/// A request of version 12 that names so many partitions of `t`.
fn full_fetch(partitions: i32, session_epoch: i32) -> FetchRequest<'static> {
    let partition = |index: i32| FetchPartition {
        partition: PartitionIndex(index),
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        session_epoch,
        topics: List::from(FetchTopic {
            topic: "t".into(),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What is said of the partitions of a full fetch, in the order of the request, and its session.
fn fetch_all(connection: &mut Connection, request: &FetchRequest<'_>) -> (i32, Vec<Said>) {
    connection.send(VERSION, request).expect("sent");
    let frame = connection.receive().expect("an answer");
    let (_, answer) = decode_response::<FetchResponse<'_>>(&frame, VERSION).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::None);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let said = partitions.map(|data| Said {
        index: data.partition_index.0,
        code: data.error_code,
        records: data.records.map_or(0, |records| records.bytes().len()) as i64,
        log_start: data.log_start_offset.0,
    });
    (answer.session_id, said.collect())
}

#[test]
fn a_hundred_thousand_partitions_are_served_and_let_go_again() {
    const MANY: i32 = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("corelane.memory", 2_u64 << 30);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let mut writer = broker.connect();
    assert_eq!(writer.create_topic("t", PARTITIONS, &[]), ErrorCode::None);
    for index in [3, 8] {
        writer.produce("t", index, &record()).expect("accepted");
    }
    for (epoch, has_session) in [(-1, false), (0, true)] {
        let mut reader = broker.connect();
        let (session_id, said) = fetch_all(&mut reader, &full_fetch(MANY, epoch));
        assert_eq!(session_id != 0, has_session);
        assert!(said.iter().map(|said| said.index).eq(0..MANY));
        for said in said {
            let is_there = said.index < PARTITIONS;
            assert_eq!(said.code == ErrorCode::None, is_there, "{said:?}");
            assert_eq!(said.records > 0, [3, 8].contains(&said.index), "{said:?}");
        }
    }
    assert!(!broker.log().contains("refused"), "{}", broker.log());
}

#[test]
fn what_there_is_no_memory_for_is_refused_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("corelane.memory", 96 << 20);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let mut writer = broker.connect();
    assert_eq!(writer.create_topic("t", PARTITIONS, &[]), ErrorCode::None);
    // 96 / 32 * 2 = 6 MiB of sessions, of 320 bytes for each partition.
    let mut sessions: Vec<_> = (0..6).map(|_| broker.connect()).collect();
    let ids = sessions.iter_mut().map(|connection| {
        let (id, said) = fetch_all(connection, &full_fetch(4_000, 0));
        assert_eq!(said.len(), 4_000);
        id
    });
    let ids = Vec::from_iter(ids);
    assert_eq!(ids.iter().filter(|id| **id == 0).count(), 2, "{ids:?}");
    assert!(broker.log().contains("fetch session refused"));
    drop(sessions);
    let mut reader = broker.connect();
    let began = Instant::now();
    while fetch_all(&mut reader, &full_fetch(4_000, 0)).0 == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is free");
        std::thread::sleep(Duration::from_millis(20));
    }
    // One refusal a second is told of.
    std::thread::sleep(Duration::from_millis(1100));
    let too_large = full_fetch(100_000, -1);
    reader.send(VERSION, &too_large).expect("sent");
    assert!(reader.receive().is_err(), "the connection is closed");
    let log = broker.log();
    assert!(log.contains("its partitions need"), "{log}");
}
