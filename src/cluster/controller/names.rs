//! Names that a topic can have (Kafka's `Topic.validate` and `Topic.hasCollision`).

use super::error::ControllerError;
use crate::cluster::apply::metric_name;
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
    if image.topic(name).is_some() || image.leaving_topic(name).is_some() {
        return Err(ControllerError::TopicExists(name.to_string()));
    }
    let metric_name = metric_name(name);
    match metric_name.and_then(|metric_name| image.by_metric_name.get(&metric_name)) {
        Some(other) => Err(ControllerError::InvalidTopic(format!(
            "Topic '{name}' collides with '{other}': '.' and '_' count as the same."
        ))),
        None => Ok(()),
    }
}
