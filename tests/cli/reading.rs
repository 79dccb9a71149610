//! What `consume` reads of a broker, and when it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::corelane;
use crate::common::{Broker, Options};

/// A command that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A broker with one shard on a directory that does not exist yet.
pub fn broker(dir: &Path) -> Broker {
    Broker::start(&dir.join("data"), &Options::new(1))
}

/// A command that asks this broker, with its standard input.
pub fn ask(broker: &Broker, words: &[&str], input: &str) -> assert_cmd::Command {
    let address = broker.address().to_string();
    let mut command = corelane(&[words, &["-b", &address]].concat());
    command.write_stdin(input).timeout(LIMIT);
    command
}

/// What a command that succeeds prints.
pub fn printed(broker: &Broker, words: &[&str], input: &str) -> String {
    let done = ask(broker, words, input).assert().success();
    String::from_utf8(done.get_output().stdout.clone()).expect("is UTF-8")
}

#[test]
fn exit_ends_a_range_where_the_log_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "numbers", "-p", "1"], "");
    printed(&broker, &["topic", "create", "spread", "-p", "2"], "");
    printed(&broker, &["produce", "numbers"], "0\n1\n2\n");
    printed(&broker, &["produce", "spread", "-p", "1"], "a\n");
    let read = |words: &[&str]| printed(&broker, &[&["consume", "-e"], words].concat(), "");
    assert_eq!(read(&["numbers", "-o", "1:10"]), "1\n2\n");
    assert_eq!(read(&["numbers", "-o", ":10"]), "0\n1\n2\n");
    assert_eq!(read(&["numbers", "-o", "5:10"]), "");
    assert_eq!(read(&["numbers", "-o", ":2"]), "0\n1\n");
    assert_eq!(read(&["spread", "-o", "0:1"]), "a\n");
}

#[test]
fn partitions_that_are_added_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "logs", "-p", "1"], "");
    let address = broker.address().to_string();
    let mut reader = std::process::Command::new(assert_cmd::cargo::cargo_bin("corelane"))
        .args([
            "consume",
            "logs",
            "-o",
            "end",
            "-n",
            "1",
            "--metadata-age",
            "100ms",
        ])
        .args(["-b", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("consume starts");
    printed(&broker, &["topic", "add-partitions", "logs", "1"], "");
    printed(&broker, &["produce", "logs", "-p", "1"], "a\n");
    let began = Instant::now();
    while reader.try_wait().expect("its state").is_none() {
        // It may have begun behind the first line, had the partition been there by then.
        printed(&broker, &["produce", "logs", "-p", "1"], "a\n");
        if began.elapsed() > LIMIT {
            reader.kill().expect("is killed");
        }
    }
    let output = reader.wait_with_output().expect("consume ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\n");
}

/// Records that come into a partition below the offset asked for are none of the range's.
#[test]
fn a_range_behind_the_end_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "numbers", "-p", "1"], "");
    printed(&broker, &["produce", "numbers"], "0\n1\n2\n");
    let mut reader = std::process::Command::new(assert_cmd::cargo::cargo_bin("corelane"))
        .args([
            "consume",
            "numbers",
            "-o",
            "5:7",
            "-b",
            &broker.address().to_string(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("consume starts");
    // It says that it waits, and from then on it reads.
    let mut said = String::new();
    let talk = reader.stderr.as_mut().expect("is piped");
    BufReader::new(talk).read_line(&mut said).expect("is UTF-8");
    assert_eq!(said, "partition 0 ends at offset 3: waiting for offset 5\n");
    for line in ["3\n", "4\n5\n", "6\n7\n"] {
        printed(&broker, &["produce", "numbers"], line);
    }
    let output = reader.wait_with_output().expect("consume ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n6\n");
}
