//! A data directory in which something is lost or damaged: the start is refused, and nothing is
//! removed; or a topic cannot be used, and can be deleted.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corelane::wire::ErrorCode;

use crate::common::{Batch, Broker, Connection, Options, read_all};
use crate::settings::{refused, says};

const RECORDS: usize = 20;

/// A directory with records in two topics, stopped cleanly.
fn with_records(dir: &tempfile::TempDir, options: &Options) -> PathBuf {
    let data = dir.path().join("data");
    let broker = Broker::start(&data, options);
    let mut connection = broker.connect();
    for topic in ["first", "last"] {
        assert_eq!(connection.create_topic(topic, 1, &[]), ErrorCode::None);
        let leaders = connection.leaders(topic).expect("metadata");
        let mut leader = Connection::open(leaders[&0]).expect("accepted");
        let values = (0..RECORDS).map(|n| n.to_string().into_bytes());
        leader
            .produce(topic, 0, &Batch::of(values).bytes())
            .expect("written");
    }
    assert!(broker.stop().success());
    data
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.expect("the file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

/// Where the last block with anything in it begins, `back` blocks before the end.
fn last_block(path: &Path, back: u64) -> u64 {
    let bytes = fs::read(path).expect("the file");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("bytes");
    used as u64 / 4096 * 4096 - back * 4096
}

#[track_caller]
fn everything_is_there(data: &Path, options: &Options) {
    let broker = Broker::start(data, options);
    for topic in ["first", "last"] {
        let partitions = read_all(broker.address(), topic);
        assert_eq!(partitions[&0].len(), RECORDS, "{topic}");
    }
    assert!(broker.stop().success());
}

#[test]
fn lost_metadata_refuses_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1);
    let data = with_records(&dir, &options);
    let log = data.join("metadata/log");
    // The last record's own block, before that of its seal.
    let last = last_block(&log, 1);
    flip(&log, last + 46);
    says(&refused(&options, &data), 3, &["metadata/log", "damaged"]);
    flip(&log, last + 46);

    let aside = dir.path().join("log");
    fs::rename(&log, &aside).expect("renamed");
    says(&refused(&options, &data), 3, &["metadata/log", "-0"]);
    fs::rename(&aside, &log).expect("renamed");
    everything_is_there(&data, &options);
}

#[test]
fn a_lost_run_refuses_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1);
    let data = with_records(&dir, &options);
    let (run, aside) = (data.join("run"), dir.path().join("run"));
    fs::rename(&run, &aside).expect("renamed");
    says(&refused(&options, &data), 3, &["/run", "no run"]);
    fs::rename(&aside, &run).expect("renamed");
    // One of its two blocks costs nothing.
    flip(&run, 20);
    everything_is_there(&data, &options);
    for block in [0, 4096] {
        flip(&run, block + 20);
    }
    says(&refused(&options, &data), 3, &["/run", "neither slot"]);
    for block in [0, 4096] {
        flip(&run, block + 20);
    }
    everything_is_there(&data, &options);
}

#[test]
fn somebody_elses_partitions_refuse_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1);
    let data = with_records(&dir, &options);
    let foreign = data.join("orders-0");
    fs::create_dir(&foreign).expect("made");
    let segment = foreign.join("00000000000000000000.log");
    fs::write(&segment, b"records of another broker").expect("written");
    says(&refused(&options, &data), 3, &["orders-0", "move it away"]);
    assert!(segment.exists());
    fs::rename(&foreign, dir.path().join("orders-0")).expect("renamed");
    everything_is_there(&data, &options);
}

/// Changes a bit of the first place in a journal where these bytes are.
fn rot_journal(data: &Path, bytes: &[u8]) {
    for entry in fs::read_dir(data.join("shard-0/journal")).expect("the journal") {
        let path = entry.expect("a file").path();
        let journal = fs::read(&path).expect("a journal file");
        let found = journal.windows(bytes.len()).position(|at| at == bytes);
        if let Some(at) = found {
            return flip(&path, at as u64);
        }
    }
    panic!("not in the journal");
}

/// Deletes a topic whose partition is not as it should be, and makes it again, with other records.
#[track_caller]
fn made_again(broker: &Broker, data: &Path, topic: &str) {
    let mut connection = broker.connect();
    assert_eq!(connection.delete_topic(topic), ErrorCode::None);
    assert!(!data.join(format!("{topic}-0")).exists());
    assert_eq!(connection.create_topic(topic, 1, &[]), ErrorCode::None);
    let values = (0..RECORDS).map(|n| n.to_string().into_bytes());
    let written = connection.produce(topic, 0, &Batch::of(values).bytes());
    assert_eq!(written, Ok(0));
}

fn described(broker: &Broker, topic: &str) -> String {
    let mut corelane = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let address = broker.address().to_string();
    corelane.args(["topic", "describe", topic, "-b", &address]);
    let output = corelane.output().expect("corelane runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn topics_that_cannot_be_used_are_deleted_and_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("log.retention.check.interval.ms", 50);
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &options);
    let mut connection = broker.connect();
    for topic in ["first", "last"] {
        assert_eq!(connection.create_topic(topic, 1, &[]), ErrorCode::None);
        let value = format!("a value in {topic}").into_bytes();
        let written = connection.produce(topic, 0, &Batch::of([value]).bytes());
        assert_eq!(written, Ok(0));
    }
    // An idle shard notes that all was flushed.
    std::thread::sleep(Duration::from_millis(500));
    broker.kill();
    rot_journal(&data, b"a value in first");

    let broker = Broker::start(&data, &options);
    let one = Batch::of([b"one more".to_vec()]).bytes();
    let refused = broker.connect().produce("first", 0, &one);
    assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
    assert!(described(&broker, "first").contains("OFFLINE"));
    assert!(described(&broker, "last").contains("online"));
    // Several rounds of making what is missing.
    std::thread::sleep(Duration::from_millis(300));
    let log = broker.log();
    assert_eq!(
        log.matches("until the topic is deleted").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("cannot be created"), "{log}");
    made_again(&broker, &data, "first");
    fs::rename(data.join("last-0"), dir.path().join("last-0")).expect("renamed");
    made_again(&broker, &data, "last");
    assert!(broker.stop().success());
    everything_is_there(&data, &options);
}

#[test]
fn a_topic_cannot_have_the_name_of_the_shards() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let mut connection = broker.connect();
    assert_eq!(
        connection.create_topic("shard", 1, &[]),
        ErrorCode::InvalidTopicException
    );
}
