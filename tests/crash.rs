//! `kill -9` under load, again and again: no acknowledged record is lost, none is there twice,
//! and their order stands.
//!
//! Idempotent producers, one per partition, keep five batches in flight and send again what was
//! not acknowledged. At the end everything is read and compared with what they know. The gate
//! runs ten cycles of each kind, `scripts/full` a hundred (CORELANE_CRASH_CYCLES).

#![expect(clippy::disallowed_methods, reason = "real threads and real time")]

#[path = "crash/history.rs"]
mod history;
#[path = "crash/producer.rs"]
mod producer;

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Batch, Broker, Noise, Options, percentile, read_all, scale};
use corelane::wire::ErrorCode;
use history::History;
use producer::{Load, produce_until_stopped};

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 6;

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let mut options = Options::new(2);
    // Segments are rolled and the journal goes round within a run.
    options = options.set("log.segment.bytes", 4 << 20);
    cycle("2 shards", options, |_| 2);
}

#[test]
fn kill_9_loses_nothing_when_the_number_of_shards_changes() {
    let options = Options::new(3).set("log.segment.bytes", 4 << 20);
    cycle("2, 1, 3 shards", options, |nth| [2, 1, 3][nth % 3]);
}

/// The control: a level that promises nothing is seen to lose.
#[test]
fn the_memory_level_is_seen_to_lose() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut options = Options::new(1).set("corelane.flush.ms", 60_000);
    options.durability = "memory";
    let broker = Broker::start(&data, &options);
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let mut history = History::default();
    for number in 0..50 {
        let value = history::value(0, number, 100);
        let offset = connection.produce(TOPIC, 0, &Batch::of([value]).bytes());
        history.acknowledged(number, 1, offset.expect("an acknowledgement"));
    }
    broker.kill();
    let broker = Broker::start(&data, &options);
    let found = history.compare(0, &read_all(broker.address(), TOPIC)[&0]);
    assert!(found.lost > 0, "nothing lost: {found:?}");
}

fn cycle(name: &str, mut options: Options, shards_of: impl Fn(usize) -> u16) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut noise = Noise::from_environment();
    options.shards = shards_of(0);
    let mut broker = Broker::start(&data, &options);
    let created = broker.connect().create_topic(TOPIC, PARTITIONS, &[]);
    assert_eq!(created, ErrorCode::None);
    let load = Arc::new(Load::new(broker.address()));
    let producers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let load = load.clone();
            std::thread::spawn(move || produce_until_stopped(&load, TOPIC, partition))
        })
        .collect();
    let mut first_acks = Vec::new();
    let cycles = scale("CORELANE_CRASH_CYCLES", 10, 100);
    for nth in 1..=cycles {
        std::thread::sleep(Duration::from_millis(50 + noise.below(600) as u64));
        broker.kill();
        options.shards = shards_of(nth);
        if noise.below(4) == 0 {
            interrupt_start(&data, &options, noise.below(120) as u64);
        }
        load.restarted();
        broker = Broker::spawn(&data, &options);
        first_acks.push(load.wait_for_ack(broker.started, &broker));
    }
    load.stop();
    let histories: Vec<History> = producers
        .into_iter()
        .map(|producer| producer.join().expect("a producer that ends well"))
        .collect();
    let read = read_all(broker.address(), TOPIC);
    report(name, &broker, &mut first_acks, &histories, &read);
}

/// Starts a broker and kills it, most often while it recovers.
fn interrupt_start(data: &Path, options: &Options, after_ms: u64) {
    let broker = Broker::spawn(data, options);
    std::thread::sleep(Duration::from_millis(after_ms));
    broker.kill();
}

fn report(
    name: &str,
    broker: &Broker,
    first_acks: &mut [Duration],
    histories: &[History],
    read: &BTreeMap<i32, Vec<common::Read>>,
) {
    let mut found = history::Found::default();
    for (partition, history) in histories.iter().enumerate() {
        found += history.compare(partition as i32, &read[&(partition as i32)]);
    }
    let mut replayed = replayed_bytes(&broker.log());
    replayed.sort_unstable();
    let cycles = first_acks.len();
    println!(
        "crash, {name}: {cycles} kills, {} records acknowledged, {} sent again, lost {}, duplicated {}, \
         out of order {}, elsewhere than acknowledged {}",
        found.acknowledged,
        histories
            .iter()
            .map(|history| history.sent_again)
            .sum::<u64>(),
        found.lost,
        found.duplicated,
        found.out_of_order,
        found.moved,
    );
    println!(
        "crash, {name}: journal bytes replayed per start p50 {:?}, most {:?}; restart to first acknowledgement \
         p50 {:?}, p99 {:?}",
        replayed.get(replayed.len() / 2),
        replayed.last(),
        percentile(first_acks, 50),
        percentile(first_acks, 99),
    );
    assert!(
        found.acknowledged > 100 * cycles as u64,
        "too little load: {found:?}"
    );
    assert!(found.is_clean(), "{found:?}");
}

/// What each start said that it had replayed.
fn replayed_bytes(log: &str) -> Vec<u64> {
    let figure = |line: &str| {
        let (_, rest) = line.split_once(r#""journal_bytes_replayed":"#)?;
        rest.split(',').next()?.parse().ok()
    };
    log.lines().filter_map(figure).collect()
}
