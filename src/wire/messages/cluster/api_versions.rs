//! API versions: what a broker speaks.

use crate::wire::{ErrorCode, Str};

message! {
    /// Asks which APIs and versions the broker speaks; the first request of a connection.
    struct ApiVersionsRequest<'a> {
        client_software_name: Str<'a> [3..],
        client_software_version: Str<'a> [3..],
    }

    /// What the broker speaks.
    struct ApiVersionsResponse<'a> {
        error_code: ErrorCode [0..],
        api_keys: Vec<ApiVersion> [0..],
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey<'a>> [3..] tag 0,
        finalized_features_epoch: i64 [3..] tag 1 = -1,
        finalized_features: Vec<FinalizedFeatureKey<'a>> [3..] tag 2,
        zk_migration_ready: bool [3..] tag 3,
    }

    /// One API and the versions of it.
    struct ApiVersion {
        api_key: i16 [0..],
        min_version: i16 [0..],
        max_version: i16 [0..],
    }

    /// A feature and the levels of it that the broker could run at.
    struct SupportedFeatureKey<'a> {
        name: Str<'a> [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    /// A feature and the levels of it that the cluster has agreed on.
    struct FinalizedFeatureKey<'a> {
        name: Str<'a> [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}
