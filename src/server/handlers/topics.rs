//! CreateTopics, CreatePartitions, DeleteTopics.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::controller::{
    Assignment, ControllerError, NewPartitions, NewTopic, add_partitions, create_topic,
    delete_topic,
};
use crate::cluster::{Image, Record, Topic};
use crate::config::describe_topic;
use crate::model::TopicId;
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::errors::outcome;
use crate::server::request::Request;
use crate::shard::{ChangeError, Decision};
use crate::wire::ErrorCode;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    CreateTopicsRequest, CreateTopicsResponse, DeletableTopicResult, DeleteTopicsRequest,
    DeleteTopicsResponse,
};

/// Serves CreateTopics: each topic by itself, the answer when every shard knows it.
pub async fn create_topics<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<CreateTopicsRequest<'a>>,
) -> CreateTopicsResponse<'a> {
    let names: Vec<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
    let mut topics: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if topics.iter().any(|done| done.name == topic.name) {
            continue;
        }
        let new = check_named_once(&topic.name, &names).and_then(|()| new_topic(context, topic));
        let created = match new {
            Ok(new) => create(context, new, request.validate_only).await,
            Err(error) => Err(error.into()),
        };
        topics.push(created_result(context, topic, created));
    }
    CreateTopicsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

/// A topic that a request names twice is refused, once.
fn check_named_once(name: &str, names: &[&str]) -> Result<(), ControllerError> {
    match names.iter().filter(|other| **other == name).count() {
        0 | 1 => Ok(()),
        _ => {
            let why = "The request names the topic twice.".to_owned();
            Err(ControllerError::InvalidRequest(why))
        }
    }
}

/// Creates a topic because a client named it (`auto.create.topics.enable`).
pub(super) async fn create_automatically<R: Runtime>(
    context: &Context<R>,
    name: &str,
) -> Result<(), ChangeError> {
    let new = NewTopic {
        name: name.to_owned(),
        id: random_topic_id(context),
        partition_count: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    };
    match create(context, new, false).await {
        // Another client was faster.
        Err(ChangeError::Refused(ControllerError::TopicExists(_))) => Ok(()),
        created => created.map(drop),
    }
}

/// Creates a topic, or only looks whether it could be. Gives the image that it is in.
async fn create<R: Runtime>(
    context: &Context<R>,
    new: NewTopic,
    validate_only: bool,
) -> Result<Arc<Image>, ChangeError> {
    let rules = context.shard.config_check();
    let default_partitions = context.shard.config().num_partitions;
    let decide = move |image: &Image| create_topic(image, &rules, default_partitions, new);
    decide_or_change(context, decide, validate_only).await
}

/// Makes a change, or with `validate_only` the image that it would lead to.
pub(super) async fn decide_or_change<R: Runtime>(
    context: &Context<R>,
    decide: impl FnOnce(&Image) -> Result<Vec<Record>, ControllerError> + Send + 'static,
    validate_only: bool,
) -> Result<Arc<Image>, ChangeError> {
    if validate_only {
        let image = context.shard.image();
        return Ok(Arc::new(image.apply_all(&decide(&image)?)?));
    }
    let decision: Decision = Box::new(decide);
    context.shard.change(decision).await
}

fn new_topic<R: Runtime>(
    context: &Context<R>,
    topic: &CreatableTopic<'_>,
) -> Result<NewTopic, ControllerError> {
    let assignments = topic.assignments.iter().map(|assignment| Assignment {
        index: assignment.partition_index,
        brokers: assignment.broker_ids.clone(),
    });
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_deref().ok_or_else(|| {
            ControllerError::InvalidConfig(format!("Key '{}' has no value.", config.name))
        })?;
        configs.insert(config.name.to_string(), value.to_owned());
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        id: random_topic_id(context),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs,
    })
}

fn random_topic_id<R: Runtime>(context: &Context<R>) -> TopicId {
    let rt = context.shard.rt();
    let (high, low) = (u128::from(rt.random_u64()), u128::from(rt.random_u64()));
    TopicId(
        uuid::Builder::from_u128(high << 64 | low)
            .with_version(uuid::Version::Random)
            .into_uuid(),
    )
}

fn created_result<R: Runtime>(
    context: &Context<R>,
    asked: &CreatableTopic<'_>,
    created: Result<Arc<Image>, ChangeError>,
) -> CreatableTopicResult<'static> {
    let (error_code, error_message) = outcome(&created);
    let name = asked.name.to_string();
    let topic = created.ok().and_then(|image| image.topic(&name).cloned());
    CreatableTopicResult {
        name: name.into(),
        topic_id: topic.as_ref().map(|topic| topic.id).unwrap_or_default(),
        error_code,
        error_message,
        num_partitions: topic
            .as_ref()
            .map_or(-1, |topic| topic.partitions.len() as i32),
        replication_factor: topic.as_ref().map_or(-1, |_| 1),
        configs: topic.map(|topic| configs_of(context, &topic)),
        ..Default::default()
    }
}

fn configs_of<R: Runtime>(
    context: &Context<R>,
    topic: &Topic,
) -> Vec<CreatableTopicConfigs<'static>> {
    let shard = &context.shard;
    let dynamic = shard.dynamic_configs();
    let described = describe_topic(shard.settings(), &dynamic, &shard.config(), &topic.configs);
    described
        .into_iter()
        .map(|config| CreatableTopicConfigs {
            name: config.name.into(),
            value: config.value.map(Into::into),
            read_only: config.read_only,
            config_source: config.source as i8,
            is_sensitive: config.sensitive,
        })
        .collect()
}

/// Serves CreatePartitions.
pub async fn create_partitions<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<CreatePartitionsRequest<'a>>,
) -> CreatePartitionsResponse<'a> {
    let names: Vec<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        if results.iter().any(|done| done.name == topic.name) {
            continue;
        }
        let added = match check_named_once(&topic.name, &names) {
            Ok(()) => {
                let new = new_partitions(topic);
                let decide = move |image: &Image| add_partitions(image, &new);
                decide_or_change(context, decide, request.validate_only).await
            }
            Err(error) => Err(error.into()),
        };
        let (error_code, error_message) = outcome(&added);
        let name = topic.name.clone();
        results.push(CreatePartitionsTopicResult {
            name,
            error_code,
            error_message,
        });
    }
    CreatePartitionsResponse {
        throttle_time_ms: 0,
        results,
    }
}

fn new_partitions(topic: &CreatePartitionsTopic<'_>) -> NewPartitions {
    let assignments = topic.assignments.as_ref().map(|assignments| {
        assignments
            .iter()
            .map(|assignment| assignment.broker_ids.clone())
            .collect()
    });
    NewPartitions {
        name: topic.name.to_string(),
        total_count: topic.count,
        assignments,
    }
}

/// Serves DeleteTopics, by name or by id.
pub async fn delete_topics<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DeleteTopicsRequest<'a>>,
) -> DeleteTopicsResponse<'a> {
    let by_name = request
        .topic_names
        .iter()
        .map(|name| (Some(name.to_string()), TopicId::ZERO));
    let by_either = request
        .topics
        .iter()
        .map(|topic| (topic.name.as_deref().map(str::to_owned), topic.topic_id));
    let mut responses = Vec::new();
    for (name, id) in by_name.chain(by_either) {
        responses.push(delete(context, name, id).await);
    }
    DeleteTopicsResponse {
        throttle_time_ms: 0,
        responses,
    }
}

async fn delete<R: Runtime>(
    context: &Context<R>,
    name: Option<String>,
    id: TopicId,
) -> DeletableTopicResult<'static> {
    let image = context.shard.image();
    let (topic, unknown) = match &name {
        Some(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
        None => (image.topic_by_id(id), ErrorCode::UnknownTopicId),
    };
    let topic = topic.cloned();
    let (error_code, error_message) = match &topic {
        None => (unknown, None),
        Some(_) if !context.shard.config().delete_topic_enable => (
            ErrorCode::TopicDeletionDisabled,
            Some("delete.topic.enable is false".into()),
        ),
        Some(topic) => {
            let id = topic.id;
            let decision: Decision = Box::new(move |image: &Image| delete_topic(image, id));
            let deleted = context.shard.change(decision).await;
            match &deleted {
                // Another client was faster.
                Err(ChangeError::Refused(ControllerError::UnknownTopicId(_))) => (unknown, None),
                Err(error) => (error.code(), Some(error.to_string().into())),
                Ok(_) => (ErrorCode::None, None),
            }
        }
    };
    let name = name.or_else(|| topic.as_ref().map(|topic| topic.name.to_string()));
    DeletableTopicResult {
        name: name.map(Into::into),
        topic_id: topic.map_or(id, |topic| topic.id),
        error_code,
        error_message,
    }
}
