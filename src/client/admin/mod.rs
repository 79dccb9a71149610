//! What an administrator asks of a cluster: topics, configs, offsets, log directories.

mod brokers;
mod partitions;
mod topics;

pub use brokers::Abilities;
pub use partitions::{ListedOffset, LogDir, When};
pub use topics::{Config, ConfigSource, CreatedTopic, NewTopic, Resource};

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
