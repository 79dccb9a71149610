//! Configs of topics and brokers.

use super::super::cluster::refused;
use super::super::{Client, ClientError};
use super::accepted;
use crate::rt::Runtime;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse, IncrementalAlterableConfig,
};

/// What has configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
}

/// Where a config's value comes from, numbered as on the wire (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kafka's and are the meaning")]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    Other(i8),
}

/// One config of a resource.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its key.
    pub name: String,
    /// Its value; none when it has none or is a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
}

impl Resource {
    /// The type's number on the wire.
    fn number(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) => name.clone(),
            Self::Broker(id) => id.to_string(),
        }
    }
}

impl ConfigSource {
    fn from_number(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            other => Self::Other(other),
        }
    }
}

impl<R: Runtime> Client<R> {
    /// The configs of a topic or broker: those named in `keys`, or all.
    pub async fn configs(
        &self,
        resource: &Resource,
        keys: Option<&[&str]>,
    ) -> Result<Vec<Config>, ClientError> {
        let what = format!("configs of '{}'", resource.name());
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.number(),
                resource_name: resource.name().into(),
                configuration_keys: keys
                    .map(|keys| keys.iter().map(|key| key.to_string().into()).collect()),
            }],
            ..Default::default()
        };
        self.retry(&what, || async {
            // A broker answers for itself; topics are known to all.
            let connection = match resource {
                Resource::Broker(id) => self.broker(*id).await?,
                Resource::Topic(_) => self.any().await?,
            };
            let answer = connection.call(&request).await?;
            let response: DescribeConfigsResponse = answer.read()?;
            let Some(result) = response.results.into_iter().next() else {
                return Err(refused(&what, ErrorCode::UnknownServerError));
            };
            accepted(&what, result.error_code, result.error_message.as_ref())?;
            Ok(result.configs.into_iter().map(config).collect())
        })
        .await
    }

    /// Sets configs of a topic (`Some`), or gives them back to the broker's default (`None`).
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: &[(String, Option<String>)],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let what = format!("configs of '{topic}'");
        let change = |(name, value): &(String, Option<String>)| IncrementalAlterableConfig {
            name: name.clone().into(),
            config_operation: if value.is_some() { 0 } else { 1 },
            value: value.clone().map(Into::into),
        };
        let resource = Resource::Topic(topic.to_owned());
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: resource.number(),
                resource_name: topic.into(),
                configs: changes.iter().map(change).collect(),
            }],
            validate_only,
        };
        self.retry(&what, || async {
            let answer = self.controller().await?.call(&request).await?;
            let response: IncrementalAlterConfigsResponse = answer.read()?;
            let Some(result) = response.responses.first() else {
                return Err(refused(&what, ErrorCode::UnknownServerError));
            };
            accepted(&what, result.error_code, result.error_message.as_ref())
        })
        .await
    }
}

fn config(result: DescribeConfigsResourceResult<'_>) -> Config {
    Config {
        name: result.name.into_owned(),
        value: result.value.map(|value| value.into_owned()),
        source: ConfigSource::from_number(result.config_source),
    }
}
