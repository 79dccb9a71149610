//! The question before what cannot be undone.

use std::io::{self, IsTerminal};

use super::{CliError, Context, Exit};

/// Asks on a terminal whether to do `what`; elsewhere `--yes` must have been given.
pub(super) fn confirm(context: &Context, what: &str) -> Result<(), CliError> {
    if context.yes() {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::usage(format!("refused to {what} unasked"))
            .fix("--yes does it, --dry-run only says what would be done"));
    }
    super::error::say(format_args!("{what}?  y/N"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::new(Exit::Failure, "nothing was done")),
    }
}
