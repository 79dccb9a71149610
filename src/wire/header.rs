//! Request and response headers, and whole messages behind them.

use super::limits::Version;
use super::reader::Reader;
use super::writer::{Encoded, Writer};
use super::{ApiKey, DecodeError, EncodeError, ErrorCode, Request, Response, Wire};

/// What precedes the body of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api: ApiKey,
    /// A version that we support.
    pub version: i16,
    /// Chosen by the client; its response carries it back.
    pub correlation_id: i32,
    /// The client's name for itself; null and empty are one.
    pub client_id: &'a str,
}

/// Why a request cannot be handed to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No API of ours: close the connection, as Kafka does.
    #[error("API key {key} (version {version}) is not known")]
    UnknownApi {
        /// As sent.
        key: i16,
        /// As sent.
        version: i16,
    },
    /// A version that we do not speak. ApiVersions is answered with a version 0 body, error
    /// `UNSUPPORTED_VERSION` and its own range (KIP-511); all others close the connection.
    #[error("{api} version {version} is not supported")]
    UnsupportedVersion {
        api: ApiKey,
        /// As sent.
        version: i16,
        /// For the answer.
        correlation_id: i32,
    },
    /// Not a request header.
    #[error("request header: {0}")]
    Malformed(#[from] DecodeError),
}

impl<'a> RequestHeader<'a> {
    /// Splits a message (without its length prefix) into header and body.
    pub fn decode(message: &'a [u8]) -> Result<(Self, &'a [u8]), RequestError> {
        let classic = Version {
            number: 1,
            flexible: false,
        };
        let mut reader = Reader::new(message, classic);
        let key = reader.value()?;
        let version = reader.value()?;
        let correlation_id = reader.value()?;
        let api = ApiKey::from_key(key).ok_or(RequestError::UnknownApi { key, version })?;
        if !api.supports(version) {
            return Err(RequestError::UnsupportedVersion {
                api,
                version,
                correlation_id,
            });
        }
        // Not compact in any version, so that a broker can read headers from the future.
        let client_id = reader.string()?.unwrap_or_default();
        let mut tags = Reader::new(reader.rest(), request_header_version(api, version));
        tags.tagged(&mut (), |(), _, _| Ok(false))?;
        Ok((
            Self {
                api,
                version,
                correlation_id,
                client_id,
            },
            tags.rest(),
        ))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.set_version(Version {
            number: 1,
            flexible: false,
        });
        self.api.key().write(writer);
        self.version.write(writer);
        self.correlation_id.write(writer);
        writer.string(Some(self.client_id));
        writer.set_version(request_header_version(self.api, self.version));
        writer.tagged(|_| {});
    }
}

/// Appends a request frame to `out`; on an error `out` is as it was.
pub fn encode_request<'a, R: Request<'a>>(
    out: &mut Vec<u8>,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    request: &R,
) -> Result<Encoded, EncodeError> {
    let mut writer = Writer::new(out, R::KEY.version(version));
    RequestHeader {
        api: R::KEY,
        version,
        correlation_id,
        client_id,
    }
    .write(&mut writer);
    writer.set_version(R::KEY.version(version));
    request.write(&mut writer);
    writer.finish()
}

/// Appends a response frame to `out`; on an error `out` is as it was.
pub fn encode_response<'a, R: Response<'a>>(
    out: &mut Vec<u8>,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Encoded, EncodeError> {
    let mut writer = begin_response(out, R::KEY, version, correlation_id);
    response.write(&mut writer);
    writer.finish()
}

/// Begins a response frame at the end of `out`; the response's body is to be written next.
pub fn begin_response(
    out: &mut Vec<u8>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Writer<'_> {
    let mut writer = Writer::new(out, response_header_version(api, version));
    correlation_id.write(&mut writer);
    writer.tagged(|_| {});
    writer.set_version(api.version(version));
    writer
}

/// The correlation id that a response (without its length prefix) begins with.
pub fn correlation_id(response: &[u8]) -> Result<i32, DecodeError> {
    let id = response.first_chunk().ok_or(DecodeError::Truncated)?;
    Ok(i32::from_be_bytes(*id))
}

/// Reads a response (without its length prefix) to a request of this version.
///
/// A broker that does not know the version of an ApiVersions request answers in version 0;
/// that is recognised by its error code (KIP-511).
pub fn decode_response<'a, R: Response<'a>>(
    message: &'a [u8],
    version: i16,
) -> Result<(i32, R), DecodeError> {
    let mut reader = Reader::new(message, response_header_version(R::KEY, version));
    let correlation_id = reader.value()?;
    reader.tagged(&mut (), |(), _, _| Ok(false))?;
    let body = reader.rest();
    let refused = ErrorCode::UnsupportedVersion.code().to_be_bytes();
    let version = if R::KEY == ApiKey::ApiVersions && body.starts_with(&refused) {
        0
    } else {
        version
    };
    Ok((correlation_id, R::decode(body, version)?))
}

/// Header version 2 (tagged fields) belongs to flexible bodies, version 1 to the others.
/// Version 0, without a client id, was ControlledShutdown's alone and is gone since Kafka 4.0.
fn request_header_version(api: ApiKey, version: i16) -> Version {
    let flexible = api.version(version).flexible;
    Version {
        number: if flexible { 2 } else { 1 },
        flexible,
    }
}

/// Header version 1 (tagged fields) belongs to flexible bodies, but ApiVersions is always
/// answered with version 0: the client may not know yet what the broker speaks (KIP-511).
fn response_header_version(api: ApiKey, version: i16) -> Version {
    let flexible = api.version(version).flexible && api != ApiKey::ApiVersions;
    Version {
        number: flexible.into(),
        flexible,
    }
}
