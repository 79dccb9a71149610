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
    let words = ["topic", "alter", "logs", "--unset", "retention.sm"];
    let refused = ask(&broker, &words, "").assert().code(6);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert_eq!(
        said,
        "error: topic 'logs' has no config 'retention.sm'.  Did you mean 'retention.ms'?\n"
    );
}
