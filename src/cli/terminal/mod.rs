//! Between a command and whoever runs it.
//!
//! | file | what |
//! |---|---|
//! | `context` | global flags, and what commands get from them |
//! | `output` | results on standard output, as a table or as JSON |
//! | `error` | what went wrong, why, how to mend it, and the exit code |
//! | `usage` | clap's errors in our words |
//! | `logging`, `progress` | talk on standard error |
//! | `signals` | SIGINT and SIGTERM: stop in good order |

pub(in crate::cli) mod context;
pub(in crate::cli) mod error;
pub(in crate::cli) mod logging;
pub(in crate::cli) mod output;
pub(in crate::cli) mod progress;
pub(in crate::cli) mod signals;
pub(in crate::cli) mod usage;
