//! ApiVersions: what this broker speaks.

use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::request::Request;
use crate::server::session::Software;
use crate::wire::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ApiKey, ErrorCode};

/// Serves ApiVersions: every API of the table, and the session learns who asks. No feature is
/// finalized yet, so none is named.
pub async fn api_versions<'a, R: Runtime>(
    _: &Context<R>,
    request: &Request<ApiVersionsRequest<'a>>,
) -> ApiVersionsResponse<'a> {
    if request.header.version >= 3 {
        let (name, version) = (
            &request.client_software_name,
            &request.client_software_version,
        );
        // KIP-511: names that could break a metric or a log line are refused.
        if !(is_software_name(name) && is_software_name(version)) {
            return ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest,
                ..Default::default()
            };
        }
        request.session.set_software(Software {
            name: name.to_string(),
            version: version.to_string(),
        });
    }
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().copied().map(advertised).collect(),
        finalized_features_epoch: -1,
        ..Default::default()
    }
}

/// The answer, in version 0, to an ApiVersions request of a version from the future: the range that
/// would have been understood (KIP-511).
pub fn unsupported_api_versions() -> ApiVersionsResponse<'static> {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![advertised(ApiKey::ApiVersions)],
        ..Default::default()
    }
}

fn advertised(api: ApiKey) -> ApiVersion {
    let versions = api.advertised_versions();
    ApiVersion {
        api_key: api.key(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    }
}

fn is_software_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| inner(*byte))
}
