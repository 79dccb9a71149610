//! What went wrong, why, and how to mend it.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use strsim::levenshtein;

/// How a command ends, as a number for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something went wrong on the way.
    Failure = 1,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// The host is not fit, or a check failed.
    Host = 3,
    /// No broker answered in time.
    Unreachable = 4,
    /// A threshold was crossed.
    Threshold = 5,
    /// What was named does not exist.
    NotFound = 6,
    /// Stopped by the user (SIGINT).
    Interrupted = 130,
    /// Stopped by a service manager or the like (SIGTERM).
    Terminated = 143,
}

impl Exit {
    /// All is well.
    pub const OK: u8 = 0;
}

/// An error that a user can act on.
///
/// ```text
/// error: io_uring is blocked for this process (EPERM from io_uring_setup)
///   cause   kernel.io_uring_disabled=2
///   fix     sudo sysctl kernel.io_uring_disabled=0
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    what: String,
    details: Vec<(&'static str, String)>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    With(Exit),
    /// The user wanted it so, and what was done is said already.
    Silently(Exit),
    /// Whoever read our output has seen enough, as `head` has: no error at all.
    ClosedPipe,
}

#[derive(Serialize)]
struct JsonError<'a> {
    schema: &'static str,
    error: &'a str,
    #[serde(flatten)]
    details: std::collections::BTreeMap<&'static str, &'a str>,
    exit_code: u8,
}

impl CliError {
    /// An error with its exit code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            details: Vec::new(),
            end: End::With(exit),
        }
    }

    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The user stopped the command, which has said what it did until then.
    pub fn stopped(exit: Exit) -> Self {
        let mut stopped = Self::new(exit, "stopped");
        stopped.end = End::Silently(exit);
        stopped
    }

    /// Says why it happened.
    pub fn cause(self, cause: impl Into<String>) -> Self {
        self.detail("cause", cause)
    }

    /// Says what to do, best as something to paste.
    pub fn fix(self, fix: impl Into<String>) -> Self {
        self.detail("fix", fix)
    }

    /// Says something else that helps, under a label of at most seven letters.
    pub fn detail(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.details.push((label, text.into()));
        self
    }

    /// Asks whether something else was meant, where there is something close.
    pub fn did_you_mean(mut self, suggestion: Option<impl fmt::Display>) -> Self {
        if let Some(suggestion) = suggestion {
            self.what
                .push_str(&format!(".  Did you mean '{suggestion}'?"));
        }
        self
    }

    /// Prints it to standard error and gives the exit code.
    pub fn report(&self, json: bool, color: bool) -> u8 {
        if let End::With(_) = self.end {
            let text = self.to_string();
            match text.strip_prefix("error:") {
                _ if json => say(format_args!("{}", self.to_json())),
                Some(rest) if color => say(format_args!("\x1b[1;31merror:\x1b[0m{rest}")),
                _ => say(format_args!("{text}")),
            }
        }
        self.exit_code()
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self.end {
            End::With(exit) | End::Silently(exit) => exit as u8,
            End::ClosedPipe => Exit::OK,
        }
    }

    fn to_json(&self) -> String {
        let error = JsonError {
            schema: "corelane.error/1",
            error: &self.what,
            details: self
                .details
                .iter()
                .map(|(label, text)| (*label, text.as_str()))
                .collect(),
            exit_code: self.exit_code(),
        };
        serde_json::to_string(&error).unwrap_or_else(|_| self.to_string())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for (label, text) in &self.details {
            write!(f, "\n  {label:<7} {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

/// An I/O error on our own output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        let mut failed = Self::new(Exit::Failure, error.to_string());
        if error.kind() == io::ErrorKind::BrokenPipe {
            failed.end = End::ClosedPipe;
        }
        failed
    }
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

/// The candidate that was probably meant: the closest, at most two letters away.
pub fn suggest<'c>(given: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let distances = candidates
        .into_iter()
        .map(|other| (levenshtein(given, other), other));
    let (distance, nearest) = distances.min()?;
    (distance <= 2 && distance < nearest.chars().count()).then_some(nearest)
}

/// A line on standard error; when nobody listens there, it is lost.
pub(in crate::cli) fn say(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{words}");
}
