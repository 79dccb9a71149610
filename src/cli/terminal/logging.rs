//! What happens, on standard error.

use tracing_subscriber::EnvFilter;

use super::context::Context;

/// Starts logging. `CORELANE_LOG` takes directives such as `info,corelane::log=debug`; otherwise
/// `-v` and `-q` say how much.
pub(in crate::cli) fn start(context: &Context) {
    let level = match (context.quiet(), context.verbosity()) {
        (true, _) => "error",
        (_, 0) => "info",
        (_, 1) => "debug",
        (_, _) => "trace",
    };
    let directives = std::env::var("CORELANE_LOG").unwrap_or_else(|_| level.to_string());
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(level));
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(context.color())
        .with_target(context.verbosity() > 0)
        .try_init();
}
