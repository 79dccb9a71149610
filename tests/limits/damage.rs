//! A data directory in which something is lost or damaged: the start is refused, and nothing is
//! removed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
    flip(&run, 20);
    says(&refused(&options, &data), 3, &["/run", "no run"]);
    flip(&run, 20);
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
