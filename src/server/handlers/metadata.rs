//! Metadata, DescribeCluster, DescribeTopicPartitions: who is there and who leads what.

use std::sync::Arc;

use super::topics::create_automatically;
use crate::cluster::controller::check_topic_name;
use crate::cluster::{Image, PartitionState, Placement, Topic};
use crate::model::{BrokerId, PartitionIndex, ShardIndex, TopicId};
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::request::Request;
use crate::server::session::Session;
use crate::wire::messages::{
    Cursor, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic, NodeEndpoint,
};
use crate::wire::{ErrorCode, Str};

/// Everything that may be done with a topic, as a bit for each `AclOperation`: without an authorizer
/// that is all of read, write, create, delete, alter, describe, describe configs, alter configs.
const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// Everything that may be done with the cluster: create, alter, describe, cluster action, describe
/// configs, alter configs, idempotent write.
const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
const NOT_ASKED: i32 = i32::MIN;
/// The type of a broker's endpoint, against a controller's.
const ENDPOINT_BROKERS: i8 = 1;

/// Serves Metadata. Topics named that do not exist are created where both sides allow it.
pub async fn metadata<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<MetadataRequest<'a>>,
) -> MetadataResponse<'a> {
    let operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        NOT_ASKED
    };
    // In version 0 there was no null: an empty list asked for all.
    let asks_all = request
        .topics
        .as_ref()
        .is_none_or(|topics| request.header.version == 0 && topics.is_empty());
    let mut topics = Vec::new();
    let mut steps = 0;
    if asks_all {
        let image = context.shard.image();
        topics.reserve_exact(image.topic_count());
        for topic in image.topics() {
            topics.push(describe(context, topic, operations, &mut steps).await);
        }
    } else {
        for asked in request.topics.iter().flatten() {
            context.give_way(steps).await;
            steps += 1;
            let may_create = request.allow_auto_topic_creation;
            topics.push(asked_topic(context, asked, may_create, operations, &mut steps).await);
        }
    }
    let image = context.shard.image();
    let brokers =
        endpoints(context, &request.session, &image).map(|endpoint| MetadataResponseBroker {
            node_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
        });
    let cluster_operations = if request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        NOT_ASKED
    };
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: image.cluster_id().map(|id| id.to_string().into()),
        controller_id: controller(context),
        topics,
        cluster_authorized_operations: cluster_operations,
        ..Default::default()
    }
}

async fn asked_topic<R: Runtime>(
    context: &Context<R>,
    asked: &MetadataRequestTopic<'_>,
    may_create: bool,
    operations: i32,
    steps: &mut usize,
) -> MetadataResponseTopic<'static> {
    let image = context.shard.image();
    let Some(name) = asked.name.as_deref() else {
        return match image.topic_by_id(asked.topic_id) {
            Some(topic) => describe(context, topic, operations, steps).await,
            None => missing(None, asked.topic_id, ErrorCode::UnknownTopicId),
        };
    };
    if let Some(topic) = image.topic(name) {
        return describe(context, topic, operations, steps).await;
    }
    if !(may_create && context.shard.config().auto_create_topics_enable) {
        let code = match check_topic_name(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(error) => error.code(),
        };
        return missing(Some(name), TopicId::ZERO, code);
    }
    let created = create_automatically(context, name).await;
    match (created, context.shard.image().topic(name)) {
        (_, Some(topic)) => describe(context, topic, operations, steps).await,
        (Err(error), None) => missing(Some(name), TopicId::ZERO, error.code()),
        (Ok(()), None) => missing(Some(name), TopicId::ZERO, ErrorCode::LeaderNotAvailable),
    }
}

/// What is to be said of a topic. Others have their turns meanwhile: of 10,000 topics, or partitions of
/// one, it takes some milliseconds.
async fn describe<R: Runtime>(
    context: &Context<R>,
    topic: &Arc<Topic>,
    operations: i32,
    steps: &mut usize,
) -> MetadataResponseTopic<'static> {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (partition_index, state) in topic.indexed() {
        context.give_way(*steps).await;
        *steps += 1;
        partitions.push(MetadataResponsePartition {
            error_code: match state.leader {
                Some(_) => ErrorCode::None,
                None => ErrorCode::LeaderNotAvailable,
            },
            partition_index,
            leader_id: leader(state),
            leader_epoch: state.leader_epoch,
            replica_nodes: replicas(state),
            isr_nodes: isr(state),
            offline_replicas: Vec::new(),
        });
    }
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id,
        is_internal: false,
        partitions,
        topic_authorized_operations: operations,
    }
}

/// −1 while nobody leads.
fn leader(state: &PartitionState) -> BrokerId {
    state.leader.map_or(BrokerId(-1), Placement::broker)
}

fn replicas(state: &PartitionState) -> Vec<BrokerId> {
    let replicas = state.replicas.iter();
    replicas.map(|replica| replica.placement.broker()).collect()
}

fn isr(state: &PartitionState) -> Vec<BrokerId> {
    state.isr.iter().map(|place| place.broker()).collect()
}

fn missing(
    name: Option<&str>,
    topic_id: TopicId,
    error_code: ErrorCode,
) -> MetadataResponseTopic<'static> {
    let name = name.map(|name| Str::from(name.to_owned()));
    MetadataResponseTopic {
        error_code,
        name,
        topic_id,
        ..Default::default()
    }
}

/// Serves DescribeCluster.
pub async fn describe_cluster<R: Runtime>(
    context: &Context<R>,
    request: &Request<DescribeClusterRequest>,
) -> DescribeClusterResponse<'static> {
    if request.endpoint_type != ENDPOINT_BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType,
            error_message: Some("This is a broker, not a controller.".into()),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let image = context.shard.image();
    let brokers =
        endpoints(context, &request.session, &image).map(|endpoint| DescribeClusterBroker {
            broker_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            is_fenced: false,
        });
    let operations = if request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        NOT_ASKED
    };
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: image
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default()
            .into(),
        controller_id: controller(context),
        brokers: brokers.collect(),
        cluster_authorized_operations: operations,
        ..Default::default()
    }
}

/// Serves DescribeTopicPartitions, a page at a time (KIP-966).
pub async fn describe_topic_partitions<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DescribeTopicPartitionsRequest<'a>>,
) -> DescribeTopicPartitionsResponse<'a> {
    let image = context.shard.image();
    let cap = context.shard.config().max_request_partition_size_limit;
    let mut room = usize::try_from(request.response_partition_limit.min(cap))
        .unwrap_or(0)
        .max(1);
    let mut names: Vec<&str> = match request.topics.is_empty() {
        true => image.topics().map(|topic| &*topic.name).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let (start_topic, start_index) = match &request.cursor {
        Some(cursor) => (&*cursor.topic_name, cursor.partition_index),
        None => ("", PartitionIndex(0)),
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= start_topic) {
        let first = if name == start_topic {
            start_index
        } else {
            PartitionIndex(0)
        };
        if room == 0 {
            response.next_cursor = Some(cursor(name, first));
            break;
        }
        let Some(topic) = image.topic(name) else {
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition,
                name: Some(name.to_owned().into()),
                ..Default::default()
            });
            continue;
        };
        let page: Vec<_> = topic.indexed_from(first).take(room).collect();
        room -= page.len();
        let next = page
            .last()
            .map_or(first, |(index, _)| PartitionIndex(index.0 + 1));
        response.topics.push(page_of(topic, &page));
        if usize::try_from(next.0).is_ok_and(|next| next < topic.partitions.len()) {
            response.next_cursor = Some(cursor(name, next));
            break;
        }
    }
    response
}

fn page_of(
    topic: &Topic,
    page: &[(PartitionIndex, &PartitionState)],
) -> DescribeTopicPartitionsResponseTopic<'static> {
    let partition = |(partition_index, state): &(PartitionIndex, &PartitionState)| {
        DescribeTopicPartitionsResponsePartition {
            error_code: match state.leader {
                Some(_) => ErrorCode::None,
                None => ErrorCode::LeaderNotAvailable,
            },
            partition_index: *partition_index,
            leader_id: leader(state),
            leader_epoch: state.leader_epoch,
            replica_nodes: replicas(state),
            isr_nodes: isr(state),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: Vec::new(),
        }
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id,
        is_internal: false,
        partitions: page.iter().map(partition).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn cursor(topic: &str, partition_index: PartitionIndex) -> Cursor<'static> {
    Cursor {
        topic_name: topic.to_owned().into(),
        partition_index,
    }
}

/// Every broker of the cluster, as this client can reach it.
fn endpoints<R: Runtime>(
    context: &Context<R>,
    session: &Session,
    image: &Image,
) -> impl Iterator<Item = NodeEndpoint<'static>> {
    image
        .shards()
        .filter_map(|place| context.endpoint(place.broker(), session))
}

/// Any shard takes admin requests; clients are told the one with the id they expect.
fn controller<R: Runtime>(context: &Context<R>) -> BrokerId {
    BrokerId::of(context.shard.place().node, ShardIndex(0))
}

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}
