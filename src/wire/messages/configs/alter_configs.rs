//! AlterConfigs: replaces all configs of a topic or broker at once.

use crate::wire::{ErrorCode, Str};

message! {
    /// Replaces all configs of topics and brokers.
    struct AlterConfigsRequest<'a> {
        resources: Vec<AlterConfigsResource<'a>> [0..],
        validate_only: bool [0..],
    }

    /// A topic or broker and its new configs.
    struct AlterConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: Str<'a> [0..],
        configs: Vec<AlterableConfig<'a>> [0..],
    }

    /// One config; null returns it to its default.
    struct AlterableConfig<'a> {
        name: Str<'a> [0..],
        value: Option<Str<'a>> [0..],
    }

    /// What became of each topic and broker.
    struct AlterConfigsResponse<'a> {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse<'a>> [0..],
    }

    /// The outcome for one topic or broker.
    struct AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [0..],
        resource_type: i8 [0..],
        resource_name: Str<'a> [0..],
    }
}
