//! DeleteTopics: removes topics by name or id.

use crate::model::TopicId;
use crate::wire::{ErrorCode, Str};

message! {
    /// Deletes topics, by name or (from version 6) by id.
    struct DeleteTopicsRequest<'a> {
        topics: Vec<DeleteTopicState<'a>> [6..],
        topic_names: Vec<Str<'a>> [0..=5],
        timeout_ms: i32 [0..],
    }

    /// A topic to delete.
    struct DeleteTopicState<'a> {
        name: Option<Str<'a>> [6..],
        topic_id: TopicId [6..],
    }

    /// What became of each topic.
    struct DeleteTopicsResponse<'a> {
        throttle_time_ms: i32 [1..],
        responses: Vec<DeletableTopicResult<'a>> [0..],
    }

    /// The outcome for one topic.
    struct DeletableTopicResult<'a> {
        name: Option<Str<'a>> [0..] null [6..],
        topic_id: TopicId [6..],
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [5..],
    }
}
