//! DescribeConfigs: configs with their sources and documentation.

use crate::wire::{ErrorCode, Str};

message! {
    /// Asks for the configs of topics and brokers.
    struct DescribeConfigsRequest<'a> {
        resources: Vec<DescribeConfigsResource<'a>> [0..],
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }

    /// A topic or broker, and the keys wanted; null asks for all.
    struct DescribeConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: Str<'a> [0..],
        configuration_keys: Option<Vec<Str<'a>>> [0..],
    }

    /// The configs.
    struct DescribeConfigsResponse<'a> {
        throttle_time_ms: i32 [0..],
        results: Vec<DescribeConfigsResult<'a>> [0..],
    }

    /// The configs of one topic or broker.
    struct DescribeConfigsResult<'a> {
        error_code: ErrorCode [0..],
        error_message: Option<Str<'a>> [0..],
        resource_type: i8 [0..],
        resource_name: Str<'a> [0..],
        configs: Vec<DescribeConfigsResourceResult<'a>> [0..],
    }

    /// One config: value, source, type and documentation.
    struct DescribeConfigsResourceResult<'a> {
        name: Str<'a> [0..],
        value: Option<Str<'a>> [0..],
        read_only: bool [0..],
        config_source: i8 [1..] = -1,
        is_sensitive: bool [0..],
        synonyms: Vec<DescribeConfigsSynonym<'a>> [1..],
        config_type: i8 [3..],
        documentation: Option<Str<'a>> [3..],
    }

    /// A config that would take effect if those before it were not set.
    struct DescribeConfigsSynonym<'a> {
        name: Str<'a> [1..],
        value: Option<Str<'a>> [1..],
        source: i8 [1..],
    }
}
