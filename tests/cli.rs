//! The binary's words and exit codes.

#![expect(clippy::disallowed_methods, reason = "real processes and real time")]

mod common;
#[path = "cli/reading.rs"]
mod reading;
#[path = "cli/topics.rs"]
mod topics;
#[path = "cli/writing.rs"]
mod writing;

use assert_cmd::Command;

fn corelane(words: &[&str]) -> Command {
    let mut command = Command::cargo_bin("corelane").expect("is built");
    command.args(words).env_clear();
    command
}

/// Output and errors of a run that ends with this code.
fn run(words: &[&str], code: i32) -> (String, String) {
    let output = corelane(words).assert().code(code).get_output().clone();
    let text = |bytes| String::from_utf8(bytes).expect("is UTF-8");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn version_as_text_and_as_json() {
    let (out, err) = run(&["version"], 0);
    assert!(
        out.starts_with(concat!("corelane ", env!("CARGO_PKG_VERSION"), " (")),
        "{out}"
    );
    assert_eq!(err, "");
    for words in [
        ["version", "--json"],
        ["--json", "version"],
        ["version", "--format=json"],
    ] {
        let (out, _) = run(&words, 0);
        let start = concat!(
            r#"{"schema":"corelane.version/1","version":""#,
            env!("CARGO_PKG_VERSION"),
            r#"","target":""#
        );
        assert!(out.starts_with(start), "{out}");
    }
}

#[test]
fn api_lists_what_is_spoken() {
    let (out, _) = run(&["api"], 0);
    let mut lines = out.lines();
    assert_eq!(
        lines.next(),
        Some("KEY  API                      VERSIONS  FLEXIBLE FROM")
    );
    assert_eq!(
        lines.next(),
        Some("  0  Produce                  3-13                  9")
    );
    let (out, _) = run(&["api", "--format", "json"], 0);
    let first = r#"{"schema":"corelane.api/1","apis":[{"key":0,"name":"Produce","min_version":3,"#;
    assert!(out.starts_with(first), "{out}");
}

#[test]
fn slips_get_a_suggestion() {
    let is = |words: &[&str], expected: &str| {
        let (out, err) = run(words, 2);
        assert_eq!((out.as_str(), err.as_str()), ("", expected));
    };
    is(
        &["verison"],
        "error: no command 'verison'.  Did you mean 'version'?\n  more    corelane --help\n",
    );
    is(
        &["nonsense"],
        "error: no command 'nonsense'\n  more    corelane --help\n",
    );
    is(
        &["version", "--fromat", "json"],
        "error: no argument '--fromat' for 'corelane version'.  Did you mean '--format'?\n  \
         more    corelane version --help\n",
    );
    is(
        &["version", "--format", "jsn"],
        "error: --format <FORMAT> cannot be 'jsn'.  Did you mean 'json'?\n  \
         one of  table, json\n  more    corelane version --help\n",
    );
    is(
        &["version", "--timeout", "10"],
        "error: invalid value '10' for '--timeout <TIMEOUT>': \
         a duration is a number with ms, s, m or h, such as 10s\n  \
         more    corelane version --help\n",
    );
}

/// Nothing listens on port 1.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn a_broker_that_does_not_answer_is_exit_4() {
    let expected = "error: no broker answers at 127.0.0.1:1: connection to 127.0.0.1:1: \
                    Connection refused (os error 111)\n  \
                    fix     corelane serve, or name another broker: -b HOST:PORT\n";
    let commands: [&[&str]; 7] = [
        &["info"],
        &["api"],
        &["topic", "list"],
        &["topic", "describe", "t"],
        &["topic", "create", "t", "-p", "3", "-c", "retention.ms=1"],
        &["consume", "t", "-o", "-10:end"],
        &["produce", "t", "/dev/null", "-z", "zstd:1"],
    ];
    for words in commands {
        let (out, err) = run(&[words, &["-b", NOBODY]].concat(), 4);
        assert_eq!((out.as_str(), err.as_str()), ("", expected), "{words:?}");
    }
    for command in ["info", "api"] {
        let mut command = corelane(&[command]);
        let done = command.env("CORELANE_BROKERS", NOBODY).assert().code(4);
        assert_eq!(String::from_utf8_lossy(&done.get_output().stderr), expected);
    }
    // A name that does not resolve is no slip of the command line: it may tomorrow (RFC 2606).
    let (_, err) = run(&["info", "-b", "no.invalid"], 4);
    let expected = "error: no broker answers at no.invalid: no.invalid: failed to lookup";
    assert!(err.starts_with(expected), "{err}");
    for address in ["127.0.0.1:99999", "no host", ":9092"] {
        let (_, err) = run(&["info", "-b", address], 2);
        let expected = format!("error: broker address '{address}' is not HOST:PORT\n  fix ");
        assert!(err.starts_with(&expected), "{err}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_is_asked() {
    let refused = |words: &[&str], expected: &str| {
        let (out, err) = run(&[words, &["-b", NOBODY]].concat(), 2);
        let first = err.lines().next().unwrap_or_default();
        assert_eq!((out.as_str(), first), ("", expected), "{words:?}");
    };
    refused(
        &["consume", "t", "-g", "group"],
        "error: consumer groups do not exist yet",
    );
    refused(
        &["consume", "t", "-o", "stored"],
        "error: invalid value 'stored' for '--offset <OFFSET>': consumer groups do not exist yet, \
         and with them no stored offsets",
    );
    refused(
        &["consume", "t", "-o", "yesterday"],
        "error: invalid value 'yesterday' for '--offset <OFFSET>': 'yesterday' is no offset: \
         start, end, 47, +2, -3, 10:20, @2024-05-01, @-1h:end",
    );
    refused(
        &["consume", "t", "-f", "%y"],
        "error: invalid value '%y' for '--record-format <FORMAT>': %y is unknown; there are %t %p \
         %o %k %s %v %K %S %T %h %%",
    );
    refused(
        &["produce", "t", "-z", "ztsd"],
        "error: invalid value 'ztsd' for '--compression <CODEC[:LEVEL]>': one of none, gzip, \
         snappy, lz4, zstd, did you mean zstd?",
    );
    refused(&["topic", "alter", "t"], "error: nothing to change");
    refused(
        &["topic", "descrbe", "t"],
        "error: no command 'topic descrbe'.  Did you mean 'describe'?",
    );
}

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 12] = [
        &["demo"],
        &["topic"],
        &["topic", "list"],
        &["topic", "create"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "delete"],
        &["topic", "add-partitions"],
        &["produce"],
        &["consume"],
        &["info"],
        &["serve"],
    ];
    for words in commands {
        let (out, err) = run(&[words, &["-h"]].concat(), 0);
        assert!(
            out.contains("Usage: corelane") && err.is_empty(),
            "{words:?}: {out}{err}"
        );
    }
    let (out, _) = run(&["consume", "--help"], 0);
    assert!(out.contains("s@TIME e@TIME  from, up to a time"), "{out}");
}

#[test]
fn errors_are_json_where_results_are() {
    let (_, err) = run(&["verison", "--json"], 2);
    let expected = concat!(
        r#"{"schema":"corelane.error/1","error":"no command 'verison'.  Did you mean 'version'?","#,
        r#""more":"corelane --help","exit_code":2}"#
    );
    assert_eq!(err.trim_end(), expected);
}

#[test]
fn help_is_a_result_and_no_command_is_not() {
    let (out, err) = run(&["--help"], 0);
    assert!(out.contains("Examples:") && err.is_empty(), "{out}{err}");
    for code in [0, 1, 2, 3, 4, 5, 6, 130] {
        assert!(out.contains(&format!("\n  {code:<5}")), "{code}: {out}");
    }
    let (out, err) = run(&[], 2);
    assert!(out.is_empty() && err.contains("Usage:"), "{out}{err}");
}

#[test]
fn colour_is_asked_for() {
    let help = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = corelane(words);
        command.envs(variables.iter().copied());
        let output = command.assert().code(0).get_output().clone();
        output.stdout.contains(&0x1b)
    };
    let error = |words: &[&str]| run(words, 2).1.contains("\x1b[1;31merror:");
    assert!(!error(&["nonsense"]));
    assert!(error(&["nonsense", "--color", "always"]));
    assert!(error(&["topic", "alter", "t", "--color=always"]));
    assert!(!help(&[], &["--help"]));
    assert!(help(&[], &["--help", "--color", "always"]));
    assert!(help(&[("CLICOLOR_FORCE", "1")], &["--help"]));
    assert!(!help(
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
        &["--help"]
    ));
    assert!(!help(
        &[("CLICOLOR_FORCE", "1")],
        &["--help", "--color=never"]
    ));
}

/// Standard output that nobody reads ends a command without complaint, as under `head`.
#[test]
fn a_closed_pipe_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("makes a pipe");
    drop(reader);
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("corelane"));
    let output = command
        .arg("api")
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output();
    let output = output.expect("runs");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
}
