//! CreateTopics, CreatePartitions, DeleteTopics.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::controller::{
    Assignment, Change, ControllerError, Made, NewPartitions, NewTopic, TopicKey,
};
use crate::config::describe_topic;
use crate::model::TopicId;
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::outcome;
use crate::server::request::Request;
use crate::shard::ChangeError;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    CreateTopicsRequest, CreateTopicsResponse, DeletableTopicResult, DeleteTopicsRequest,
    DeleteTopicsResponse,
};

/// What has become of one item of a request.
pub(super) type ItemResult = Result<Made, ChangeError>;

/// Serves CreateTopics: one change, answered when every owner has made its partitions.
pub async fn create_topics<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<CreateTopicsRequest<'a>>,
) -> CreateTopicsResponse<'a> {
    let asked = request.topics.iter().map(|topic| new_topic(context, topic));
    let asked = asked.collect();
    let created = change_each(context, asked, request.validate_only, Change::CreateTopics).await;
    let mut named = BTreeSet::new();
    let mut described = Described::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, created) in request.topics.iter().zip(created) {
        // One that is named twice is refused once.
        if named.insert(&*topic.name) {
            topics.push(created_result(context, topic, created, &mut described));
            context.shard.rt().yield_now().await;
        }
    }
    CreateTopicsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

/// Asks for a change of those items that can be asked for, and gives what becomes of each.
pub(super) async fn change_each<R: Runtime, T>(
    context: &Context<R>,
    asked: Vec<Result<T, ControllerError>>,
    validate_only: bool,
    change: impl FnOnce(Vec<T>) -> Change,
) -> Vec<ItemResult> {
    let mut items = Vec::with_capacity(asked.len());
    let mut refused = Vec::with_capacity(asked.len());
    for item in asked {
        match item {
            Ok(item) => {
                items.push(item);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let changed = match items.is_empty() {
        true => Ok(Vec::new()),
        false => context.shard.change(change(items), validate_only).await,
    };
    let (mut changed, failed) = match changed {
        Ok(changed) => (changed.into_iter(), ChangeError::Stopping),
        Err(error) => (Vec::new().into_iter(), error),
    };
    let result = |refused: Option<ControllerError>| match refused {
        Some(error) => Err(error.into()),
        None => changed.next().unwrap_or_else(|| Err(failed.clone())),
    };
    refused.into_iter().map(result).collect()
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
    let created = change_each(context, vec![Ok(new)], false, Change::CreateTopics).await;
    match created.into_iter().next() {
        // Another client was faster.
        Some(Err(ChangeError::Refused(ControllerError::TopicExists(_)))) | None => Ok(()),
        Some(created) => created.map(drop),
    }
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
    created: ItemResult,
    described: &mut Described,
) -> CreatableTopicResult<'static> {
    let (error_code, error_message) = outcome(&created);
    let result = CreatableTopicResult {
        name: asked.name.to_string().into(),
        error_code,
        error_message,
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    };
    match created {
        Ok(Made::Topic {
            id,
            partition_count,
            replication_factor,
        }) => CreatableTopicResult {
            topic_id: id,
            num_partitions: partition_count,
            replication_factor,
            configs: Some(described.configs_of(context, asked)),
            ..result
        },
        _ => result,
    }
}

/// The settings of the last topic that was created, and what they add up to: most topics of a request
/// have the same.
#[derive(Default)]
struct Described {
    last: Option<(
        BTreeMap<String, String>,
        Vec<CreatableTopicConfigs<'static>>,
    )>,
}

impl Described {
    fn configs_of<R: Runtime>(
        &mut self,
        context: &Context<R>,
        asked: &CreatableTopic<'_>,
    ) -> Vec<CreatableTopicConfigs<'static>> {
        let own = asked.configs.iter().filter_map(|config| {
            let value = config.value.as_deref()?;
            Some((config.name.to_string(), value.to_owned()))
        });
        let own: BTreeMap<_, _> = own.collect();
        match &self.last {
            Some((same, described)) if *same == own => described.clone(),
            _ => {
                let described = describe(context, &own);
                self.last = Some((own, described.clone()));
                described
            }
        }
    }
}

fn describe<R: Runtime>(
    context: &Context<R>,
    own: &BTreeMap<String, String>,
) -> Vec<CreatableTopicConfigs<'static>> {
    let shard = &context.shard;
    let dynamic = shard.dynamic_configs();
    let described = describe_topic(shard.settings(), &dynamic, &shard.config(), own);
    described
        .into_iter()
        .map(|config| CreatableTopicConfigs {
            name: config.name,
            value: config.value.map(Into::into),
            read_only: config.read_only,
            config_source: config.source as i8,
            is_sensitive: config.sensitive,
        })
        .collect()
}

/// Serves CreatePartitions: one change, answered when every owner has made its partitions.
pub async fn create_partitions<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<CreatePartitionsRequest<'a>>,
) -> CreatePartitionsResponse<'a> {
    let asked = request.topics.iter().map(|topic| Ok(new_partitions(topic)));
    let (asked, validate_only) = (asked.collect(), request.validate_only);
    let added = change_each(context, asked, validate_only, Change::CreatePartitions).await;
    let mut named = BTreeSet::new();
    let topics = request.topics.iter().zip(added);
    let topics = topics.filter(|(topic, _)| named.insert(&*topic.name));
    let results = topics.map(|(topic, added)| {
        let (error_code, error_message) = outcome(&added);
        CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code,
            error_message,
        }
    });
    let results = results.collect();
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

/// Serves DeleteTopics, by name or by id: one change, answered when every owner has taken its files
/// off the names.
pub async fn delete_topics<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DeleteTopicsRequest<'a>>,
) -> DeleteTopicsResponse<'a> {
    let by_name = request.topic_names.iter();
    let by_name = by_name.map(|name| TopicKey::Name(name.to_string()));
    let by_either = request.topics.iter().map(|topic| match &topic.name {
        Some(name) => TopicKey::Name(name.to_string()),
        None => TopicKey::Id(topic.topic_id),
    });
    let keys: Vec<TopicKey> = by_name.chain(by_either).collect();
    let asked = keys.iter().cloned().map(Ok).collect();
    let deleted = change_each(context, asked, false, Change::DeleteTopics).await;
    let responses = keys.into_iter().zip(deleted);
    let responses = responses.map(|(key, deleted)| deleted_result(key, deleted));
    let responses = responses.collect();
    DeleteTopicsResponse {
        throttle_time_ms: 0,
        responses,
    }
}

fn deleted_result(key: TopicKey, deleted: ItemResult) -> DeletableTopicResult<'static> {
    let (error_code, error_message) = outcome(&deleted);
    let (name, topic_id) = match (deleted, key) {
        (Ok(Made::Deleted { id, name }), _) => (Some(name.to_string()), id),
        (_, TopicKey::Name(name)) => (Some(name), TopicId::ZERO),
        (_, TopicKey::Id(id)) => (None, id),
    };
    DeletableTopicResult {
        name: name.map(Into::into),
        topic_id,
        error_code,
        error_message,
    }
}
