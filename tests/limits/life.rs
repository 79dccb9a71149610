//! Start, idleness, stop.

use std::time::{Duration, Instant};

use corelane::wire::ErrorCode;

use crate::common::{Batch, Broker, Connection, Options, is_full, percentile};

/// Bounds of a release build on a quiet machine; the gate's are looser.
const IDLE_CPU_PERCENT: f64 = 1.0;
const IDLE_RESIDENT_BYTES: u64 = 100 << 20;
const FIRST_ANSWER: Duration = Duration::from_millis(200);

fn bound<T>(full: T, gate: T) -> T {
    if is_full() { full } else { gate }
}

#[test]
fn a_stop_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1);
    let mut broker = Broker::start(&dir.path().join("data"), &options);
    broker.signal_stop();
    assert!(broker.wait(Duration::from_secs(60)).success());
    let last = broker.log().lines().last().map(str::to_owned);
    assert_eq!(
        last.as_deref(),
        Some("stopped in good order"),
        "{}",
        broker.log()
    );
}

/// What the broker's first shard tells of at its stop.
fn figures_at_the_stop(broker: &mut Broker) -> serde_json::Value {
    broker.signal_stop();
    assert!(broker.wait(Duration::from_secs(60)).success());
    let log = broker.log();
    let figures = log.lines().find_map(|line| {
        let (_, figures) = line.split_once("what was measured shard=0 figures=")?;
        serde_json::from_str::<serde_json::Value>(figures).ok()
    });
    figures.expect("figures in the log")
}

/// What was measured is told at the stop: every request once in each stage that it has.
#[test]
fn every_request_is_measured() {
    const ALONE: u64 = 30;
    const TOGETHER: u64 = 20;
    const FETCHES: u64 = 7;
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("t", 1, &[]), ErrorCode::None);
    let batch = Batch::of([b"value".to_vec()]).bytes();
    for _ in 0..ALONE {
        connection.produce("t", 0, &batch).expect("written");
    }
    for _ in 0..TOGETHER {
        connection.send_batch("t", 0, &batch).expect("sent");
    }
    for _ in 0..TOGETHER {
        connection.receive_ack().expect("read").expect("written");
    }
    for _ in 0..FETCHES {
        connection.fetch("t", 0, 0).expect("read").expect("records");
    }
    let figures = figures_at_the_stop(&mut broker);
    let counted = |api: &str, what: &str| figures["requests"][api][what].as_u64();
    let sent = u64::try_from(batch.len()).expect("a length");
    assert_eq!(counted("Produce", "requests"), Some(ALONE + TOGETHER));
    assert!(counted("Produce", "bytes_in") > Some((ALONE + TOGETHER) * sent));
    assert_eq!(counted("Fetch", "requests"), Some(FETCHES), "{figures}");
    assert!(counted("Fetch", "bytes_out") > Some(FETCHES * sent));
    for api in ["Produce", "Fetch", "CreateTopics"] {
        let failed = ["refused", "errors"].map(|what| counted(api, what));
        assert_eq!(failed, [Some(0); 2], "{api}");
    }
    let of = |kind: &str, stage: &str| figures["requests_ns"][kind][stage].clone();
    let count = |kind: &str, stage: &str| of(kind, stage)["count"].as_u64();
    for stage in [
        "read",
        "checked",
        "accepted",
        "journaled",
        "answered",
        "whole",
    ] {
        assert_eq!(
            count("produce", stage),
            Some(ALONE + TOGETHER),
            "{stage}\n{figures}"
        );
    }
    for stage in ["read", "accepted", "answered", "whole"] {
        assert_eq!(count("fetch", stage), Some(FETCHES), "{stage}\n{figures}");
    }
    assert_eq!(of("fetch", "checked"), serde_json::Value::Null);
    // A record is not safe before the disk says so, and it is written before it is answered.
    for stage in ["checked", "accepted", "journaled", "answered"] {
        assert!(
            of("produce", stage)["p50"].as_u64() > Some(0),
            "{stage}\n{figures}"
        );
    }
    let steps = &figures["steps_ns"]["serving"];
    assert!(steps["count"].as_u64() >= Some(2 * ALONE), "{figures}");
    assert!(
        steps["longest"].as_u64() >= steps["p999"].as_u64(),
        "{figures}"
    );
    println!("{figures:#}");
}

#[test]
fn a_thousand_idle_connections_cost_next_to_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(2);
    options.settings.clear();
    let broker = Broker::start(&dir.path().join("data"), &options);
    let open = |nth: u16| Connection::open(broker.address_of(nth % 2)).expect("accepted");
    let mut connections: Vec<_> = (0..1_000).map(open).collect();
    for connection in &mut connections {
        assert!(connection.answers());
    }
    // What the start left to do behind (journal files) is no idleness.
    std::thread::sleep(Duration::from_secs(bound(15, 3)));
    let (cpu, began) = (broker.cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(bound(20, 4)));
    let used = (broker.cpu_time() - cpu).as_secs_f64();
    let percent = 100.0 * used / began.elapsed().as_secs_f64();
    let resident = broker.resident_bytes();
    println!(
        "idle with 1000 connections: {percent:.2} % of a CPU, {:.1} MiB resident, {} open files",
        resident as f64 / f64::from(1 << 20),
        broker.open_files()
    );
    assert!(connections.iter_mut().all(Connection::answers));
    assert!(percent < bound(IDLE_CPU_PERCENT, 10.0), "{percent} %");
    assert!(
        resident < bound(IDLE_RESIDENT_BYTES, 2 * IDLE_RESIDENT_BYTES),
        "{resident} bytes"
    );
}

#[test]
fn the_first_answer_comes_soon_after_the_start() {
    let mut times: Vec<_> = (0..bound(20, 5)).map(|_| time_to_first_answer()).collect();
    let (median, worst) = (percentile(&mut times, 50), percentile(&mut times, 100));
    println!(
        "start on an empty directory to first ApiVersions: median {median:?}, worst {worst:?}"
    );
    assert!(
        median < bound(FIRST_ANSWER, Duration::from_secs(2)),
        "{median:?}"
    );
}

fn time_to_first_answer() -> Duration {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(2);
    options.settings.clear();
    let broker = Broker::spawn(&dir.path().join("data"), &options);
    loop {
        let connection = Connection::open(broker.address());
        if connection.is_ok_and(|mut connection| connection.answers()) {
            return broker.started.elapsed();
        }
        assert!(
            broker.started.elapsed() < Duration::from_secs(30),
            "{}",
            broker.log()
        );
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Every request that the broker took is answered before it ends, and what was answered stays.
#[test]
fn a_graceful_stop_loses_no_accepted_request() {
    for round in 0..bound(20, 4) {
        stop_under_load(round);
    }
}

fn stop_under_load(round: u64) {
    const TOPIC: &str = "stopped";
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let options = Options::new(2);
    let mut broker = Broker::start(&data, &options);
    assert_eq!(
        broker.connect().create_topic(TOPIC, 4, &[]),
        ErrorCode::None
    );
    let leaders = broker.connect().leaders(TOPIC).expect("metadata");
    let producers: Vec<_> = leaders
        .into_iter()
        .map(|(partition, leader)| {
            let connection = Connection::open(leader).expect("accepted");
            std::thread::spawn(move || answered_until_the_end(connection, TOPIC, partition))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100 + 37 * round));
    let began = Instant::now();
    broker.signal_stop();
    let status = broker.wait(Duration::from_secs(30));
    let took = began.elapsed();
    assert!(status.success(), "{status}\n{}", broker.log());
    drop(broker);
    let answered: Vec<i64> = producers
        .into_iter()
        .map(|p| p.join().expect("a producer"))
        .collect();
    let broker = Broker::start(&data, &options);
    let read = crate::common::read_all(broker.address(), TOPIC);
    for (partition, answered) in answered.iter().enumerate() {
        let there = read[&(partition as i32)].len() as i64;
        assert_eq!(
            there, *answered,
            "partition {partition}: there, and answered"
        );
    }
    let last = broker
        .log()
        .lines()
        .last()
        .map(str::to_string)
        .unwrap_or_default();
    assert!(last.contains(r#""clean_stop":true"#), "{last}");
    println!(
        "stop under load: {took:?}, {} requests answered, all there",
        answered.iter().sum::<i64>()
    );
}

/// Keeps ten requests under way until the broker hangs up; gives how many were answered.
fn answered_until_the_end(mut connection: Connection, topic: &str, partition: i32) -> i64 {
    let (mut sent, mut answered) = (0i64, 0i64);
    let mut open = true;
    loop {
        while open && sent - answered < 10 {
            let value = format!("{partition} {sent}").into_bytes();
            open = connection
                .send_batch(topic, partition, &Batch::of([value]).bytes())
                .is_ok();
            sent += i64::from(open);
        }
        match connection.receive_ack() {
            Ok(Ok(offset)) => {
                assert_eq!(offset, answered);
                answered += 1;
            }
            // Refused while stopping: not accepted.
            Ok(Err(code)) => assert!(code.is_retriable(), "{code:?}"),
            Err(_) => return answered,
        }
    }
}

#[test]
fn a_clean_stop_leaves_segments_with_nothing_behind_their_batches() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, options) = (dir.path().join("data"), Options::new(1));
    let segment = data.join("t-0/00000000000000000000.log");
    let mut batches = 0;
    for _ in 0..2 {
        let broker = Broker::start(&data, &options);
        let mut connection = broker.connect();
        if batches == 0 {
            assert_eq!(connection.create_topic("t", 1, &[]), ErrorCode::None);
        }
        for _ in 0..3 {
            let batch = Batch::of([vec![1; 1000]]).bytes();
            assert_eq!(connection.produce("t", 0, &batch), Ok(batches));
            batches += 1;
        }
        let reserved = std::fs::metadata(&segment).expect("the segment").len();
        assert!(reserved > 100_000, "{reserved} bytes are not reserved ones");
        assert!(broker.stop().success());
        let bytes = std::fs::read(&segment).expect("the segment");
        let found = corelane::model::batch::Batches::new(&bytes);
        let found: Result<Vec<_>, _> = found.collect();
        assert_eq!(found.expect("batches to the end").len() as i64, batches);
    }
}

/// More connections than there are file descriptors for: those that are open go on, and the broker
/// can still open the files it needs.
#[test]
fn connections_leave_descriptors_for_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(1);
    options.open_files = Some(400);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let mut first = broker.connect();
    let mut others: Vec<_> = (0..300)
        .filter_map(|_| Connection::open(broker.address()).ok())
        .collect();
    let served = others
        .iter_mut()
        .filter_map(|other| other.answers().then_some(()));
    let served = served.count();
    assert!((100..200).contains(&served), "{served} are served");
    assert!(broker.log().contains("RLIMIT_NOFILE"), "{}", broker.log());
    assert_eq!(first.create_topic("t", 20, &[]), ErrorCode::None);
    for partition in 0..20 {
        let batch = Batch::of([b"value".to_vec()]).bytes();
        assert_eq!(first.produce("t", partition, &batch), Ok(0));
    }
    drop(others);
    let began = Instant::now();
    while !broker.connect().answers() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "no new connection is served"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a process takes beside `corelane.memory`: so much with two shards, ...
const BESIDE_BYTES: u64 = 40 << 20;
/// ... and so much for each partition, be it one of a thousand or the only one of its topic.
const BESIDE_PARTITION_BYTES: u64 = 6 << 10;

#[test]
fn what_lies_beside_the_memory_is_small() {
    const OF_ONE: i32 = 1_000;
    const ALONE: usize = 500;
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &Options::new(2));
    let empty = broker.resident_bytes();
    let mut connection = broker.connect();
    assert_eq!(
        connection.create_topic("many", OF_ONE, &[]),
        ErrorCode::None
    );
    for nth in 0..ALONE {
        let created = connection.create_topic(&format!("alone-{nth}"), 1, &[]);
        assert_eq!(created, ErrorCode::None);
    }
    let made = broker.resident_bytes();
    broker.kill();
    let broker = Broker::start(&data, &Options::new(2));
    let recovered = broker.resident_bytes();
    let partitions = OF_ONE as u64 + ALONE as u64;
    let of_each = [made, recovered].map(|bytes| bytes.saturating_sub(empty) / partitions);
    println!(
        "beside corelane.memory: {:.1} MiB, and {of_each:?} bytes for each partition, made and recovered",
        empty as f64 / f64::from(1 << 20)
    );
    assert!(empty < bound(BESIDE_BYTES, 2 * BESIDE_BYTES), "{empty}");
    for bytes in of_each {
        assert!(bytes < BESIDE_PARTITION_BYTES, "{bytes}");
    }
}
