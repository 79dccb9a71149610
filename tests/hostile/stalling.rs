//! Connections that take and do not give.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Options, scale};
use crate::target::Target;

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
    let prefix = 104_857_600u32.to_be_bytes();
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
    let prefix = 104_857_600u32.to_be_bytes();
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
