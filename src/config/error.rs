//! Why a configuration is refused.

use super::origin::Origin;

/// A configuration that cannot be. Over the wire every variant is INVALID_CONFIG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No key of that name.
    #[error("unknown key '{key}'{}{}", at(.origin), did_you_mean(.suggestion))]
    Unknown {
        /// The key as given.
        key: String,
        /// A key that was probably meant.
        suggestion: Option<&'static str>,
        /// Where it was given, unless it came in a request.
        origin: Option<Origin>,
    },
    /// A key of Kafka that promises what does not exist here.
    #[error("'{key}' cannot be honoured{}: {why}", at(.origin))]
    Refused {
        /// The key as given.
        key: String,
        /// What is missing.
        why: &'static str,
        /// Where it was given, unless it came in a request.
        origin: Option<Origin>,
    },
    /// A value that the key does not take.
    #[error("{key}={value}{} {why}", at(.origin))]
    Invalid {
        key: String,
        /// The value as given.
        value: String,
        /// Completes the sentence "KEY=VALUE …".
        why: String,
        /// Where it was given, unless it came in a request.
        origin: Option<Origin>,
    },
    /// A key that takes effect only with a restart.
    #[error("'{key}' is read-only: it changes with a restart")]
    ReadOnly { key: String },
    /// `--set` without `=`.
    #[error("--set takes KEY=VALUE, not '{given}'")]
    Assignment {
        /// What was given.
        given: String,
    },
    /// A properties file that does not parse.
    #[error("{path}:{line}: {why}")]
    Properties {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ConfigError {
    /// A value that the key does not take.
    pub(super) fn invalid(
        key: impl Into<String>,
        value: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            key: key.into(),
            value: value.into(),
            why: why.into(),
            origin: None,
        }
    }

    /// The same error, with the place that the value came from.
    pub(super) fn located_at(mut self, from: &Origin) -> Self {
        if let Self::Unknown { origin, .. }
        | Self::Refused { origin, .. }
        | Self::Invalid { origin, .. } = &mut self
        {
            *origin = Some(from.clone());
        }
        self
    }
}

fn at(origin: &Option<Origin>) -> String {
    origin
        .as_ref()
        .map(|origin| format!(" ({origin})"))
        .unwrap_or_default()
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion
        .map(|name| format!(".  Did you mean '{name}'?"))
        .unwrap_or_default()
}
