//! What an administrator asks of a cluster: topics, configs, offsets, log directories.

mod brokers;
mod configs;
mod log_dirs;
mod offsets;
mod topics;

pub use brokers::Abilities;
pub use configs::{Config, ConfigSource, Resource};
pub use log_dirs::LogDir;
pub use offsets::{ListedOffset, When};
pub use topics::{CreatedTopic, NewTopic};

use super::ClientError;
use crate::wire::{ErrorCode, Str};

/// `Ok` for code 0, a refusal of `what` in the broker's words otherwise.
fn accepted(what: &str, code: ErrorCode, message: Option<&Str<'_>>) -> Result<(), ClientError> {
    code.ok().map_err(|code| ClientError::Refused {
        what: what.to_owned(),
        code,
        message: message.map(|words| words.to_string()),
    })
}
