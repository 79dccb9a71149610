//! Where a value came from, and what is said about it at start.

use std::fmt;

/// The source of a value. Later variants win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A properties file.
    File {
        /// The path as given.
        path: String,
        /// The line that the key is on, from 1.
        line: usize,
    },
    /// An environment variable of that name.
    Environment(String),
    /// `--set KEY=VALUE`.
    Set,
    /// A flag of its own, such as `--shards`.
    Flag(&'static str),
}

impl Origin {
    /// Precedence: a higher rank wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Set => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Something that a user should know but that does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A key of Kafka that means nothing here.
    Ignored {
        /// The key as given.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// Why it means nothing.
        why: &'static str,
    },
    /// Two sources disagree.
    Overridden {
        key: &'static str,
        /// The value that counts, and where it is.
        winner: (String, Origin),
        /// The value that does not.
        loser: (String, Origin),
    },
    /// A variable that begins like ours but is no key. Kubernetes makes such ones
    /// (`CORELANE_SERVICE_HOST`) for a service of our name, so it is no error.
    UnknownVariable {
        name: String,
        /// The variable that was probably meant.
        suggestion: Option<String>,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored { key, origin, why } => write!(f, "{key} ({origin}) is ignored: {why}"),
            Self::Overridden { key, winner, loser } => write!(
                f,
                "{key}={} ({}) wins over {} ({})",
                winner.0, winner.1, loser.0, loser.1
            ),
            Self::UnknownVariable { name, suggestion } => {
                write!(f, "environment variable {name} is ignored: no such key")?;
                match suggestion {
                    Some(other) => write!(f, ".  Did you mean {other}?"),
                    None => Ok(()),
                }
            }
        }
    }
}
