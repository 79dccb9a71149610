//! Real clients write and read, record by record, each what every other one wrote.
//!
//! kcat, confluent-kafka, kafka-python and aiokafka; each codec; keys, headers, tombstones,
//! timestamps; idempotent producers; readers that assign explicit offsets; a broker with two
//! shards. The scripts are in `clients/`; they were calibrated on Apache Kafka 4.3.1, and run on
//! any broker: `run.py` says how. The gate writes some thousand records per client and codec,
//! `scripts/full` a hundred thousand (CORELANE_CLIENT_RECORDS).

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Batch, Broker, Noise, Options, now_ms, repository, scale, skip, tool_exists};
use corelane::model::Codec;
use corelane::wire::ErrorCode;

const CLIENTS: [&str; 4] = ["confluent", "kafka_python", "aio", "kcat"];
const PARTITIONS: &str = "5";

#[test]
fn what_each_client_writes_every_client_reads() {
    let Some(python) = python() else {
        return skip("real clients: no .venv (scripts/test makes it)");
    };
    if !tool_exists("kcat", "-V") {
        return skip("real clients: no kcat");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(2));
    let count = scale("CORELANE_CLIENT_RECORDS", 3_000, 100_000).to_string();
    let base_ms = now_ms().to_string();
    let run = |command: &str, client: &str| {
        let bootstrap = broker.address().to_string();
        let script = repository().join("tests/clients/run.py");
        let mut process = Command::new(&python);
        process
            .arg(script)
            .args([command, client, &bootstrap, "clients"]);
        process.args([&count, PARTITIONS, &base_ms]);
        // The sources are not the place for compiled scripts.
        process.env("PYTHONDONTWRITEBYTECODE", "1");
        let status = process.status().expect("the script");
        assert!(
            status.success(),
            "{client} cannot {command}\n{}",
            broker.log()
        );
    };
    run("create", "none");
    CLIENTS.iter().for_each(|client| run("write", client));
    CLIENTS.iter().for_each(|client| run("read", client));
    assert!(broker.stop().success());
}

/// The Python of the virtual environment that has the clients.
fn python() -> Option<PathBuf> {
    let path = repository().join(".venv/bin/python");
    path.exists().then_some(path)
}

#[test]
fn kafka_reads_our_segments_without_complaint() {
    if !tool_exists("java", "-version") || !tool_exists("mvn", "-version") {
        return skip("Kafka's DumpLogSegments: no Java or no Maven");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &Options::new(1).set("log.segment.bytes", 1 << 20));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic("dumped", 1, &[]), ErrorCode::None);
    let (id, epoch) = connection.producer_id().expect("a producer id");
    let (mut sequence, mut noise) = (0, Noise::new(1));
    for nth in 0..400u32 {
        let mut batch = Batch::of((0..40).map(|_| noise.bytes(200)));
        batch.compression = Codec::ALL[nth as usize % 5];
        batch.producer = Some((id, epoch, sequence));
        sequence += 40;
        connection
            .produce("dumped", 0, &batch.bytes())
            .expect("an acknowledgement");
    }
    assert!(broker.stop().success());
    let partition = data.join("dumped-0");
    let files = segment_files(&partition);
    let segments: Vec<&PathBuf> = files
        .iter()
        .filter(|path| has_extension(path, "log"))
        .collect();
    assert!(segments.len() >= 3, "too few segments: {files:?}");
    let (output, errors) = dump(&files).unwrap_or_else(|(_, errors)| panic!("{errors}"));
    assert_eq!(
        output.matches("Log starting offset:").count(),
        segments.len(),
        "{errors}"
    );
    let batches = output.matches(" isvalid: true").count();
    assert!(batches > 200, "{batches} batches");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        assert!(
            output.contains(&format!("compresscodec: {codec}")),
            "{codec}"
        );
    }
    println!(
        "DumpLogSegments: {} files, {batches} batches, no complaint",
        files.len()
    );
    // The control: damage is seen.
    let mut bytes = std::fs::read(segments[0]).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(segments[0], bytes).expect("a damaged segment");
    assert!(dump(&files).is_err(), "a flipped bit was not seen");
}

/// The files of every segment, the one that was appended to when the broker stopped as well.
fn segment_files(partition: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(partition).expect("the partition's directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.retain(|path| {
        let extensions = ["log", "index", "timeindex", "snapshot"];
        extensions.iter().any(|e| has_extension(path, e))
    });
    files
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// What DumpLogSegments prints, on both streams; an error where it complains.
fn dump(files: &[PathBuf]) -> Result<(String, String), (String, String)> {
    let script = repository().join("scripts/dump-log-segments");
    let output = Command::new(script)
        .args(files)
        .output()
        .expect("the script");
    let [text, errors] =
        [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned());
    match output.status.success() {
        true => Ok((text, errors)),
        false => Err((text, errors)),
    }
}
