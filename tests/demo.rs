//! `corelane demo`: the main job in one command, and that it notices what is not as it was sent.

mod common;

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["--no-progress", "demo", "--data-dir"])
        .arg(dir.path())
        .args(arguments)
        .output()
        .expect("the demo runs")
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn every_record_comes_back() {
    // One partition per topic: which shard has which follows from random ids, several times over.
    for partitions in ["1", "1", "1", "3"] {
        let output = demo(&["-p", partitions, "--size", "2MB"]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{talk}");
        let line = last_line(&output);
        let count = line
            .strip_prefix("verified ")
            .and_then(|rest| rest.strip_suffix(" records"));
        let count: u64 = count.expect(&line).parse().expect(&line);
        assert!(count > 10_000, "{line}");
    }
}

#[test]
fn wrong_input_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").expect("is written");
    let data = dir.path().join("data");
    for (input, code) in [(dir.path().join("none"), 6), (empty, 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["demo", "--data-dir"])
            .arg(&data)
            .arg("--input")
            .arg(&input)
            .output()
            .expect("the demo runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{talk}");
        assert!(talk.starts_with("error: ") && !data.exists(), "{talk}");
    }
}

#[test]
fn one_flipped_byte_is_noticed() {
    let flip = "f=$(find \"$DEMO_DATA\" -path '*demo-none-*' -name '*.log' -size +200k | head -n 1) && \
                printf '\\377\\376\\375' | dd of=\"$f\" bs=1 seek=100000 conv=notrunc status=none";
    let output = demo(&[
        "-p",
        "1",
        "--size",
        "2MB",
        "--timeout",
        "3s",
        "--before-cold-read",
        flip,
    ]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "nobody noticed: {talk}");
    assert!(talk.contains("demo-none"), "{talk}");
    assert!(!last_line(&output).starts_with("verified"));
}
