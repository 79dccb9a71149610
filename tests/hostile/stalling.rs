//! Connections that take and do not give.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corelane::wire::ErrorCode;

use crate::common::{Batch, Options, scale};
use crate::target::Target;

/// The largest request that a shard of 256 MiB takes.
const LARGEST_BYTES: u32 = 32 << 20;

/// A large request of a client that means well is served, and soon.
fn serves_a_large_one(target: &Target) {
    let began = Instant::now();
    let mut connection = target.broker.connect();
    let batch = Batch::of([vec![1; 200 << 10]]).bytes();
    assert!(connection.produce("large", 0, &batch).is_ok());
    let took = began.elapsed();
    println!("hostile, a large request of another client: {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

fn with_a_topic_for_large_ones() -> Target {
    let target = Target::start(Options::new(1));
    let created = target.broker.connect().create_topic("large", 1, &[]);
    assert_eq!(created, ErrorCode::None);
    target
}

/// The largest request there may be is announced, and a byte of it comes now and then.
#[test]
fn a_largest_request_that_dribbles() {
    let mut target = with_a_topic_for_large_ones();
    let mut streams: Vec<TcpStream> = (0..4).map(|_| target.socket()).collect();
    for stream in &mut streams {
        stream
            .write_all(&LARGEST_BYTES.to_be_bytes())
            .expect("a prefix");
    }
    for _ in 0..5 {
        for stream in &mut streams {
            stream.write_all(&[0]).expect("a byte");
        }
        serves_a_large_one(&target);
        std::thread::sleep(Duration::from_millis(300));
    }
    target.survived("largest requests that dribble", streams.len());
}

/// More halves of requests than there is memory for.
#[test]
fn halves_of_many_requests() {
    let mut target = with_a_topic_for_large_ones();
    let half = [&(1u32 << 20).to_be_bytes()[..], &[0; 512 << 10]].concat();
    let mut streams: Vec<TcpStream> = (0..60).map(|_| target.socket()).collect();
    for stream in &mut streams {
        let limit = Some(Duration::from_millis(100));
        stream.set_write_timeout(limit).expect("a timeout");
        // The broker may stop reading: that is back-pressure.
        let _ = stream.write_all(&half);
    }
    for _ in 0..3 {
        serves_a_large_one(&target);
    }
    target.survived("halves of many requests", streams.len());
}

/// One byte now and then, of requests that never end.
#[test]
fn slow_loris() {
    let mut target = Target::start(Options::new(1));
    let count = scale("CORELANE_HOSTILE_CONNECTIONS", 500, 5_000);
    let mut streams: Vec<TcpStream> = (0..count).map(|_| target.socket()).collect();
    let request = [&1_000u32.to_be_bytes()[..], &[0, 3, 0, 9], &[0; 992]].concat();
    for byte in request.chunks(1).take(20) {
        for stream in &mut streams {
            let _ = stream.write_all(byte);
        }
        target.serves();
    }
    target.survived("slow loris", count);
}

/// The largest request there may be is announced on every connection, and does not come.
#[test]
fn many_largest_requests_announced_and_not_sent() {
    let mut target = Target::start(Options::new(1));
    let count = scale("CORELANE_HOSTILE_CONNECTIONS", 500, 5_000);
    let prefix = LARGEST_BYTES.to_be_bytes();
    let mut streams: Vec<TcpStream> = (0..count).map(|_| target.socket()).collect();
    for stream in &mut streams {
        stream.write_all(&prefix).expect("a prefix");
        stream
            .write_all(&[0, 0, 0, 9, 0, 0, 0, 1])
            .expect("the beginning of a header");
    }
    std::thread::sleep(Duration::from_millis(200));
    target.survived("largest requests announced, then silence", count);
}

/// Some megabytes of each of many requests come, and no more.
#[test]
fn many_large_requests_that_stop_halfway() {
    let mut target = Target::start(Options::new(1));
    let count = scale("CORELANE_HOSTILE_CONNECTIONS", 50, 200);
    let part = vec![0; 4 << 20];
    let prefix = LARGEST_BYTES.to_be_bytes();
    let mut streams: Vec<TcpStream> = (0..count).map(|_| target.socket()).collect();
    for stream in &mut streams {
        stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        stream.write_all(&prefix).expect("a prefix");
        // The broker may stop reading: that is back-pressure.
        let _ = stream.write_all(&part);
    }
    target.survived("4 MiB of each largest request", count);
}

/// Answers that nobody reads must not pile up.
#[test]
fn answers_that_nobody_reads() {
    let mut target = Target::start(Options::new(1));
    let count = scale("CORELANE_HOSTILE_CONNECTIONS", 50, 200);
    // Metadata of all topics, version 1.
    let request = [
        &[0, 0, 0, 14],
        &[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff][..],
        &[0xff; 4],
    ]
    .concat();
    let many = request.repeat(100_000);
    let mut streams: Vec<TcpStream> = (0..count).map(|_| target.socket()).collect();
    let began = Instant::now();
    for stream in &mut streams {
        stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        let _ = stream.write_all(&many);
    }
    println!(
        "hostile, requests without readers: written in {:?}",
        began.elapsed()
    );
    target.survived("answers that nobody reads", count);
}
