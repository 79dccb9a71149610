//! Settings that make no sense, and ports and directories that are taken.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Broker, Options};

/// How long a start that fails may take.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Runs a broker that must not start, and gives what it said.
pub fn refused(options: &Options, dir: &Path) -> Output {
    ended(Broker::command(dir, options))
}

/// Runs to the end, which must come.
fn ended(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the broker's binary");
    let began = Instant::now();
    while child.try_wait().expect("the child's state").is_none() {
        if began.elapsed() > END_LIMIT {
            child.kill().expect("kill");
            panic!(
                "still running: {:?}",
                words(&child.wait_with_output().expect("its words"))
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its words")
}

/// Exit code, and everything on both streams.
fn words(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[track_caller]
pub fn says(output: &Output, exit: i32, parts: &[&str]) {
    let (code, text) = words(output);
    assert_eq!(code, Some(exit), "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn settings_that_make_no_sense_refuse_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |key: &str, value: &str| {
        refused(&Options::new(2).set(key, value), &dir.path().join("data"))
    };
    says(
        &with("num.partition", "4"),
        2,
        &["num.partition", "num.partitions"],
    );
    says(
        &with("num.partitions", "four"),
        2,
        &["num.partitions", "four"],
    );
    says(&with("num.partitions", "-1"), 2, &["num.partitions", "-1"]);
    says(
        &with("ssl.keystore.location", "/k"),
        2,
        &["ssl.keystore.location", "TLS"],
    );
    says(
        &with("authorizer.class.name", "x"),
        2,
        &["authorizer.class.name"],
    );
    says(
        &with("log.cleanup.policy", "compact"),
        2,
        &["log.cleanup.policy"],
    );
    let mut options = Options::new(2);
    options.durability = "maybe";
    says(
        &refused(&options, &dir.path().join("data")),
        2,
        &["corelane.durability", "maybe"],
    );
    says(
        &refused(&Options::new(2), Path::new("/a,/b")),
        2,
        &["log.dirs"],
    );
    assert!(
        !dir.path().join("data").exists(),
        "a refused start left a directory"
    );
}

#[test]
fn keys_without_meaning_are_named_and_ignored() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(
        &dir.path().join("data"),
        &Options::new(1)
            .set("num.io.threads", 8)
            .set("zookeeper.connect", "x:1"),
    );
    let log = broker.log();
    assert!(
        log.contains("num.io.threads") && log.contains("zookeeper.connect"),
        "{log}"
    );
}

#[test]
fn ports_in_use_refuse_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(2);
    let taken = std::net::TcpListener::bind(("127.0.0.1", options.port + 1)).expect("a free port");
    let output = refused(&options, &dir.path().join("data"));
    let port = (options.port + 1).to_string();
    says(&output, 3, &[&port, "in use", "stop what listens there"]);
    assert!(!dir.path().join("data").exists(), "the directory was made");
    drop(taken);
    // Nothing of the refused start is in the way of the next.
    let _broker = Broker::start(&dir.path().join("data"), &options);
}

#[test]
fn addresses_that_are_none_of_this_host_get_a_fix_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["serve", "--shards", "2", "--listen", address]);
        command.arg("--data-dir").arg(dir.path().join("data"));
        ended(command)
    };
    // 192.0.2.0/24 is for documentation (RFC 5737), .invalid for no host (RFC 2606).
    let elsewhere = refused("192.0.2.1:23000");
    says(
        &elsewhere,
        3,
        &["192.0.2.1:23000", "this host has no such address"],
    );
    let nowhere = refused("no.invalid:23000");
    says(
        &nowhere,
        3,
        &["no.invalid:23000", "choose an address of this host"],
    );
    let no_port = refused("127.0.0.1");
    says(
        &no_port,
        2,
        &["--listen", "HOST:PORT, such as 127.0.0.1:9092"],
    );
    assert!(!dir.path().join("data").exists(), "the directory was made");
}

#[test]
fn directories_that_cannot_be_used_are_told_with_a_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(1);
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("is written");
    let fix = "choose another directory: --data-dir DIR (log.dirs)";
    says(
        &refused(&options, &file),
        3,
        &["is a file, not a directory", fix],
    );
    let nowhere = refused(&options, Path::new("/proc/none"));
    says(&nowhere, 3, &["/proc/none cannot be made", fix]);
    let data = dir.path().join("data");
    Broker::start(&data, &options).stop();
    let other = refused(&options.clone().set("node.id", 7), &data);
    says(&other, 3, &["belongs to node 0", "--set node.id=0"]);
    // Kafka's old way to change broker.id. Everything would look empty to another node.
    std::fs::remove_file(data.join("meta.properties")).expect("is removed");
    let other = refused(&options.clone().set("node.id", 7), &data);
    says(&other, 3, &["belongs to node 0", "--set node.id=0"]);
    assert!(!data.join("meta.properties").exists(), "it was given away");
    std::fs::write(data.join("meta.properties"), "version=1\n").expect("is written");
    says(
        &refused(&options, &data),
        3,
        &["meta.properties", "write it again"],
    );
}

#[test]
fn a_directory_has_one_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut broker = Broker::start(&data, &Options::new(1));
    let mut second = Broker::spawn(&data, &Options::new(1));
    // It waits a little, since the first may be about to stop.
    let status = second.wait(END_LIMIT);
    let log = second.log();
    assert_eq!(status.code(), Some(3), "{log}");
    let holder = format!("data is in use by process {} (corelane", broker.pid());
    assert!(log.contains(&holder), "{log}");
    let fix = format!("kill {}", broker.pid());
    assert!(log.contains(&fix), "{log}");
    assert!(broker.is_alive() && broker.connect().answers());
}

#[test]
fn overlapping_listeners_are_both_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(3);
    let port = options.port;
    let listeners = format!("listeners=A://127.0.0.1:{port},B://127.0.0.1:{}", port + 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command
        .args(["serve", "--shards", "3", "--data-dir"])
        .arg(dir.path().join("data"));
    command.args(["--set", &listeners]);
    command.args([
        "--set",
        "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT",
    ]);
    let output = command.output().expect("the broker's binary");
    says(
        &output,
        2,
        &[&port.to_string(), &(port + 1).to_string(), "listeners"],
    );
}

#[test]
fn limits_that_the_memory_does_not_allow_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(&dir.path().join("data"), &Options::new(1));
    let told = "socket.request.max.bytes=104857600 does not fit corelane.memory";
    assert!(broker.log().contains(told), "{}", broker.log());
    let mut connection = broker.connect();
    let prefix = (33u32 << 20).to_be_bytes();
    std::io::Write::write_all(&mut connection.stream, &prefix).expect("sent");
    assert!(
        connection.receive().is_err(),
        "a request that does not fit is refused"
    );
    let said = "a frame of 34603008 bytes is not accepted, 33554432 is the limit";
    assert!(broker.log().contains(said), "{}", broker.log());
}
