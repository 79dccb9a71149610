//! What `produce` writes to a broker, and what it says when it cannot.

use std::io::Write;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::reading::{ask, broker, printed};
use crate::common::{Broker, Options};

/// A producer whose input comes bit by bit.
fn producer(broker: &Broker, words: &[&str]) -> Child {
    std::process::Command::new(assert_cmd::cargo::cargo_bin("corelane"))
        .args(["-b", &broker.address().to_string(), "produce"])
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("produce starts")
}

/// Gives a producer its next input and waits until it has read it.
fn type_in(producer: &mut Child, text: &str) {
    let input = producer.stdin.as_mut().expect("is piped");
    input.write_all(text.as_bytes()).expect("is read");
    while rustix::io::ioctl_fionread(&*input).expect("is a pipe") > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process");
    kill_process(pid, signal).expect("is ours");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn all_of(broker: &Broker, topic: &str) -> String {
    printed(broker, &["consume", topic, "-e"], "")
}

#[test]
fn what_was_written_is_counted_without_what_the_format_adds() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "logs", "-p", "1"], "");
    let told = |input: &str| {
        let done = ask(&broker, &["produce", "logs", "-H", "a=bc"], input).assert();
        said(done.success().get_output())
    };
    assert!(told("").starts_with("0 records, 0 B in 0."), "{}", told(""));
    assert!(!told("").contains("ack"), "nothing was acknowledged");
    assert!(told("\n").starts_with("1 record, 3 B in 0."));
    assert!(told("x\ny\n").starts_with("2 records, 8 B in 0."));
}

#[test]
fn the_timeout_bounds_the_wait_for_acknowledgements() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "logs", "-p", "1"], "");
    let mut producer = producer(&broker, &["logs", "--timeout", "3s"]);
    type_in(&mut producer, "a\nb\n");
    while all_of(&broker, "logs") != "a\nb\n" {}
    signal(broker.pid(), Signal::STOP);
    let silent_since = Instant::now();
    type_in(&mut producer, "c\n");
    let output = producer.wait_with_output().expect("produce ends");
    let took = silent_since.elapsed();
    assert!(took < TIMEOUT * 2, "{took:?}");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        said(&output).contains("written 2 of the 3 lines read, all up to line 2 among them"),
        "{}",
        said(&output)
    );
}

#[test]
fn who_interrupts_loses_no_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "logs", "-p", "1"], "");
    for (how, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut producer = producer(&broker, &["logs", "--linger", "1h"]);
        type_in(&mut producer, "a\nb\nunfinished");
        // The end of the input would end the command as well.
        let input = producer.stdin.take();
        signal(producer.id(), how);
        let output = producer.wait_with_output().expect("produce ends");
        drop(input);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let expected = "an unfinished line of 10 bytes is left out\nstopped: 2 records, ";
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(all_of(&broker, "logs"), "a\nb\na\nb\n");
}

#[test]
fn a_line_that_is_too_large_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    printed(&broker, &["topic", "create", "logs", "-p", "1"], "");
    // The first is refused by the broker, the second by the client: no request may be as large.
    for size in [2 << 20, 101 << 20] {
        let input = format!("a\n{}\nb\n", "x".repeat(size));
        let file = dir.path().join("input");
        std::fs::write(&file, input).expect("is written");
        let words = ["produce", "logs", file.to_str().expect("is UTF-8")];
        let done = ask(&broker, &words, "").assert().code(1);
        let said = said(done.get_output());
        assert!(said.contains("\n  line    2\n"), "{said}");
        assert!(said.contains("all up to line 1 among them"), "{said}");
    }
    assert_eq!(all_of(&broker, "logs"), "a\na\n");
}

#[test]
fn a_broker_that_creates_no_topics_is_told_from_one_that_is_slow() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1).set("auto.create.topics.enable", false);
    let broker = Broker::start(&dir.path().join("data"), &options);
    let done = ask(&broker, &["produce", "nope", "--create"], "a\n").assert();
    let output = done.get_output();
    assert_eq!(output.status.code(), Some(6), "{}", said(output));
    let fix = "fix     corelane topic create nope\n";
    assert!(said(output).ends_with(fix), "{}", said(output));
}
