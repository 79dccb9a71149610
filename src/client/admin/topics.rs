//! Topics: create, delete, add partitions; the configs of topics and brokers.

use std::time::Duration;

use super::super::cluster::refused;
use super::super::{Backoff, Client, ClientError};
use super::accepted;
use crate::model::TopicId;
use crate::rt::Runtime;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterConfigsResponse, IncrementalAlterableConfig,
};
use crate::wire::{ApiKey, ErrorCode};

/// A topic that is being created is known to every broker within this time; Kafka's brokers answer
/// that there is none until then.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// A topic to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    /// Number of partitions; −1 asks for the broker's default.
    pub partitions: i32,
    /// Number of replicas; −1 asks for the broker's default.
    pub replication_factor: i16,
    /// Topic configs that differ from the broker's.
    pub configs: Vec<(String, String)>,
}

/// A topic as it was created, as far as the broker says (since Kafka 2.4).
#[derive(Clone, Debug)]
pub struct CreatedTopic {
    /// Its id; zero from brokers that have none.
    pub id: TopicId,
    /// Number of partitions; −1 where the broker does not say.
    pub partitions: i32,
    /// Number of replicas; −1 where the broker does not say.
    pub replication_factor: i16,
}

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
    /// Creates a topic; with `validate_only` nothing happens but the checks.
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, ClientError> {
        let request = CreateTopicsRequest {
            topics: vec![creatable(topic)],
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let what = format!("create topic '{}'", topic.name);
        self.retry(&what, || async {
            let answer = self.controller().await?.call(&request).await?;
            let response: CreateTopicsResponse = answer.read()?;
            let Some(result) = response.topics.first() else {
                return Err(refused(&what, ErrorCode::UnknownServerError));
            };
            accepted(&what, result.error_code, result.error_message.as_ref())?;
            Ok(CreatedTopic {
                id: result.topic_id,
                partitions: result.num_partitions,
                replication_factor: result.replication_factor,
            })
        })
        .await
    }

    /// Waits until every partition of a topic has a leader. A topic that nobody knows is given a
    /// moment to become known.
    pub async fn wait_for_leaders(&self, topic: &str) -> Result<(), ClientError> {
        let began = self.rt().now();
        let mut backoff = Backoff::default();
        loop {
            let metadata = self.refresh(Some(&[topic])).await?;
            let waited = self.rt().now() - began;
            let error = metadata.errors.get(topic).copied();
            if error == Some(ErrorCode::UnknownTopicOrPartition) && waited >= KNOWN_WITHIN {
                return Err(refused(
                    format!("topic '{topic}'"),
                    ErrorCode::UnknownTopicOrPartition,
                ));
            }
            let found = metadata.topics.get(topic);
            if found.is_some_and(|topic| topic.partitions.iter().all(|one| one.leader >= 0)) {
                return Ok(());
            }
            if waited >= self.timeout() {
                let code = error.unwrap_or(ErrorCode::LeaderNotAvailable);
                return Err(refused(format!("leaders of '{topic}'"), code));
            }
            backoff.wait(self.rt()).await;
        }
    }

    /// Deletes a topic and all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let what = format!("delete topic '{name}'");
        self.retry(&what, || async {
            let connection = self.controller().await?;
            // Version 6 names topics in a list of its own.
            let by_state = connection.version(ApiKey::DeleteTopics)? >= 6;
            let mut request = DeleteTopicsRequest {
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            if by_state {
                request.topics.push(DeleteTopicState {
                    name: Some(name.into()),
                    topic_id: TopicId::ZERO,
                });
            } else {
                request.topic_names.push(name.into());
            }
            let answer = connection.call(&request).await?;
            let response: DeleteTopicsResponse = answer.read()?;
            let Some(result) = response.responses.first() else {
                return Err(refused(&what, ErrorCode::UnknownServerError));
            };
            accepted(&what, result.error_code, result.error_message.as_ref())
        })
        .await?;
        self.forget(name);
        Ok(())
    }

    /// Raises the number of partitions of a topic to `count`.
    pub async fn add_partitions(
        &self,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: None,
            }],
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let what = format!("{count} partitions for '{name}'");
        self.retry(&what, || async {
            let answer = self.controller().await?.call(&request).await?;
            let response: CreatePartitionsResponse = answer.read()?;
            let Some(result) = response.results.first() else {
                return Err(refused(&what, ErrorCode::UnknownServerError));
            };
            accepted(&what, result.error_code, result.error_message.as_ref())
        })
        .await
    }

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

fn creatable(topic: &NewTopic) -> CreatableTopic<'_> {
    let config = |(name, value): &'_ (String, String)| CreatableTopicConfig {
        name: name.clone().into(),
        value: Some(value.clone().into()),
    };
    CreatableTopic {
        name: topic.name.as_str().into(),
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: Vec::new(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

fn config(result: DescribeConfigsResourceResult<'_>) -> Config {
    Config {
        name: result.name.into_owned(),
        value: result.value.map(|value| value.into_owned()),
        source: ConfigSource::from_number(result.config_source),
    }
}
