//! What `consume` reads of a broker, and when it ends.

use std::path::Path;
use std::time::Duration;

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
