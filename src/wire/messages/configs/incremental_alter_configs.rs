//! IncrementalAlterConfigs: sets, deletes or edits single configs.

use crate::wire::Str;
use crate::wire::messages::AlterConfigsResourceResponse;

message! {
    /// Changes single configs of topics and brokers (KIP-339).
    struct IncrementalAlterConfigsRequest<'a> {
        resources: Vec<IncrementalAlterConfigsResource<'a>> [0..],
        validate_only: bool [0..],
    }

    /// A topic or broker and the changes to it.
    struct IncrementalAlterConfigsResource<'a> {
        resource_type: i8 [0..],
        resource_name: Str<'a> [0..],
        configs: Vec<IncrementalAlterableConfig<'a>> [0..],
    }

    /// One change: 0 set, 1 delete, 2 append, 3 subtract.
    struct IncrementalAlterableConfig<'a> {
        name: Str<'a> [0..],
        config_operation: i8 [0..],
        value: Option<Str<'a>> [0..],
    }

    /// What became of each topic and broker.
    struct IncrementalAlterConfigsResponse<'a> {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse<'a>> [0..],
    }
}
