//! Names that a topic can have (Kafka's `Topic.validate` and `Topic.hasCollision`).

use super::error::ControllerError;
use crate::cluster::image::Image;
use crate::model::{MAX_TOPIC_NAME_BYTES, RESERVED_TOPIC_NAME, is_topic_name_byte};

/// Checks that a topic can have this name at all, and says why not.
pub fn check_topic_name(name: &str) -> Result<(), ControllerError> {
    let why = match name {
        "" => "it is empty".to_string(),
        RESERVED_TOPIC_NAME => "directories of the broker itself have this name".to_string(),
        "." | ".." => "'.' and '..' are directories".to_string(),
        _ if name.len() > MAX_TOPIC_NAME_BYTES => {
            format!(
                "it has {} characters, more than {MAX_TOPIC_NAME_BYTES}",
                name.len()
            )
        }
        _ if !name.bytes().all(is_topic_name_byte) => {
            "only letters, digits, '.', '_' and '-' are allowed".to_string()
        }
        _ => return Ok(()),
    };
    let shown: String = name.chars().take(MAX_TOPIC_NAME_BYTES).collect();
    Err(ControllerError::InvalidTopic(format!(
        "'{shown}' cannot name a topic: {why}."
    )))
}

/// Checks that no topic has the name, nor one that is the same in metrics, where '.' becomes '_'.
pub(super) fn check_free(image: &Image, name: &str) -> Result<(), ControllerError> {
    let leaving = || image.leaving_topics().any(|topic| *topic.name == *name);
    if image.topic(name).is_some() || leaving() {
        return Err(ControllerError::TopicExists(name.to_string()));
    }
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    match image.topics().find(|topic| collides(&topic.name, name)) {
        Some(other) => Err(ControllerError::InvalidTopic(format!(
            "Topic '{name}' collides with '{}': '.' and '_' count as the same.",
            other.name
        ))),
        None => Ok(()),
    }
}

fn collides(one: &str, other: &str) -> bool {
    let folded = |b: u8| if b == b'.' { b'_' } else { b };
    one.len() == other.len() && one.bytes().map(folded).eq(other.bytes().map(folded))
}
