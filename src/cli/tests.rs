//! The frame: that clap's definitions hold together, and errors as users see them.

use super::*;

#[test]
fn the_definition_holds_together() {
    Arguments::command().debug_assert();
}

#[test]
fn errors_carry_cause_and_fix() {
    let error = CliError::new(Exit::Host, "io_uring is blocked")
        .cause("kernel.io_uring_disabled=2")
        .fix("sudo sysctl kernel.io_uring_disabled=0");
    assert_eq!(
        error.to_string(),
        "error: io_uring is blocked\n  \
           cause   kernel.io_uring_disabled=2\n  \
           fix     sudo sysctl kernel.io_uring_disabled=0"
    );
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert_eq!(CliError::from(closed).exit_code(), 0);
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(CliError::from(full).exit_code(), 1);
}

#[test]
fn suggestions_are_close() {
    let topics = ["logs", "metrics"];
    assert_eq!(suggest("lgos", topics), Some("logs"));
    assert_eq!(suggest("metricss", topics), Some("metrics"));
    assert_eq!(suggest("orders", topics), None);
    assert_eq!(suggest("ab", ["xy"]), None, "nothing in common");
}
