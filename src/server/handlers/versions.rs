//! ApiVersions: what this broker speaks.

use crate::rt::Buf;
use crate::server::connection::ResponseFrame;
use crate::server::service::Call;
use crate::wire::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ApiKey, DecodeError, ErrorCode, encode_response};

/// Answers with every API. No feature is finalized yet, so none is named.
pub fn api_versions(call: &Call) -> Result<ResponseFrame, DecodeError> {
    let request: ApiVersionsRequest = call.read()?;
    // KIP-511: names that could break a metric or a log line are refused.
    let named = call.version < 3
        || (is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version));
    if !named {
        let error_code = ErrorCode::InvalidRequest;
        return Ok(call.respond(&ApiVersionsResponse {
            error_code,
            ..Default::default()
        }));
    }
    let api_keys = ApiKey::ALL.iter().copied().map(advertised).collect();
    Ok(call.respond(&ApiVersionsResponse {
        api_keys,
        finalized_features_epoch: -1,
        ..Default::default()
    }))
}

/// The answer to an ApiVersions request of a version from the future: in version 0, with the range
/// that would have been understood (KIP-511).
pub fn unsupported_api_versions(correlation_id: i32) -> ResponseFrame {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![advertised(ApiKey::ApiVersions)],
        ..Default::default()
    };
    let mut frame = Vec::new();
    match encode_response(&mut frame, 0, correlation_id, &response) {
        Ok(_) => Some(vec![Buf::from_vec(frame)]),
        Err(_) => None,
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
