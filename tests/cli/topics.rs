//! What `topic` changes on a broker, and what it refuses.

use super::reading::{ask, broker, printed};

#[test]
fn configs_are_set_as_in_create_and_unset_where_they_exist() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    let done = |words: &[&str]| printed(&broker, &[&["topic"], words].concat(), "");
    done(&["create", "logs", "-c", "retention.ms=1000"]);
    for flag in ["-c", "--config", "--set"] {
        let altered = done(&["alter", "logs", flag, "retention.ms=2000"]);
        assert_eq!(altered, "logs: retention.ms=2000\n", "{flag}");
    }
    let unset = done(&["alter", "logs", "--unset", "retention.ms"]);
    assert_eq!(unset, "logs: retention.ms as on the broker\n");
    let altered = done(&[
        "alter",
        "logs",
        "-c",
        "retention.ms=1",
        "--dry-run",
        "--json",
    ]);
    let changes = r#""changes":[{"key":"retention.ms","value":"1"}]"#;
    assert!(altered.contains(changes), "{altered}");
    let words = ["topic", "alter", "logs", "--unset", "retention.sm"];
    let refused = ask(&broker, &words, "").assert().code(6);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert_eq!(
        said,
        "error: topic 'logs' has no config 'retention.sm'.  Did you mean 'retention.ms'?\n"
    );
}

#[test]
fn what_was_not_created_has_no_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = broker(dir.path());
    let words = ["topic", "create", "logs", "--dry-run", "--json"];
    let created = printed(&broker, &words, "");
    assert!(created.contains(r#""name":"logs","id":null"#), "{created}");
    let created = printed(&broker, &["topic", "create", "logs", "--json"], "");
    assert!(created.contains(r#""name":"logs","id":""#), "{created}");
}
