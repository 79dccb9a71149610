//! Why a broker did not start or stopped by itself, with what helps.

use crate::cli::{CliError, Exit};
use crate::node::{ServeError, StartError};
use crate::rt::LaunchError;

pub(super) fn launch_error(error: LaunchError) -> CliError {
    CliError::new(Exit::Host, error.to_string())
}

pub(super) fn serve_error(error: ServeError) -> CliError {
    let exit = match &error {
        ServeError::Bind { .. } | ServeError::Start(_) => Exit::Host,
        ServeError::Log { .. } | ServeError::Lost(_) => Exit::Failure,
    };
    let told = CliError::new(exit, error.to_string());
    match &error {
        // It was free a moment ago.
        ServeError::Bind { .. } => told.fix("choose other ports: --listen HOST:PORT"),
        ServeError::Start(error) => match start_fix(error) {
            Some(fix) => told.fix(fix),
            None => told,
        },
        ServeError::Log { .. } | ServeError::Lost(_) => told,
    }
}

fn start_fix(error: &StartError) -> Option<String> {
    match error {
        StartError::Io { .. } => Some(
            "see that this user may write there, or choose another directory: --data-dir DIR \
             (log.dirs)"
                .into(),
        ),
        StartError::Meta { .. } => Some(
            "write it again: version=1, cluster.id, node.id and directory.id, a line each, as \
             KEY=VALUE; or choose another directory: --data-dir DIR (log.dirs)"
                .into(),
        ),
        StartError::OtherNode { found, .. } => Some(format!(
            "--set node.id={found}, or choose another directory: --data-dir DIR (log.dirs)"
        )),
        // They say themselves what can be done, if anything can.
        StartError::Change(_)
        | StartError::Metadata(_)
        | StartError::Recovery(_)
        | StartError::Config(_) => None,
    }
}
