//! Topics: create, delete, add partitions.

use std::time::Duration;

use super::super::cluster::refused;
use super::super::{Backoff, Client, ClientError};
use super::accepted;
use crate::model::TopicId;
use crate::rt::Runtime;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState,
    DeleteTopicsRequest, DeleteTopicsResponse,
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
