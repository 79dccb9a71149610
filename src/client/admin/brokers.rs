//! What a broker speaks.

use std::ops::RangeInclusive;

use super::super::{ClientError, Connection};
use crate::rt::Runtime;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// The APIs and features of one broker, ours or not.
#[derive(Clone, Debug, Default)]
pub struct Abilities {
    /// Versions by API key.
    pub apis: Vec<(i16, RangeInclusive<i16>)>,
    /// Features that the cluster has agreed on, with their levels, such as `metadata.version`.
    pub features: Vec<(String, i16)>,
}

impl<R: Runtime> Connection<R> {
    /// What this broker speaks.
    pub async fn abilities(&self) -> Result<Abilities, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "corelane".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let answer = self.call(&request).await?;
        let response: ApiVersionsResponse = answer.read()?;
        let apis = response.api_keys.iter();
        let features = response.finalized_features.iter();
        Ok(Abilities {
            apis: apis
                .map(|api| (api.api_key, api.min_version..=api.max_version))
                .collect(),
            features: features
                .map(|feature| (feature.name.to_string(), feature.max_version_level))
                .collect(),
        })
    }
}
