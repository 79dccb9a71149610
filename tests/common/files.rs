//! Where things are on the machine that tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The root of the source tree.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Says that something was not tested; `scripts/test` counts these lines.
pub fn skip(what: &str) {
    println!("SKIPPED: {what}");
}

/// Whether a program can be run.
pub fn tool_exists(name: &str, version_flag: &str) -> bool {
    let mut command = Command::new(name);
    command.arg(version_flag);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
