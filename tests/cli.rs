//! The binary's words and exit codes.

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

#[test]
fn flags_that_mean_nothing_are_refused() {
    let (_, err) = run(&["api", "-b", "localhost:9092"], 2);
    assert_eq!(
        err,
        "error: 'corelane api' asks no broker: --brokers means nothing\n"
    );
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
