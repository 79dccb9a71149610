//! What each API of a node refuses, and how: asked of a simulated node of two shards.

use std::future::Future;
use std::rc::Rc;

use super::*;
use crate::client::{Client, Connection};
use crate::model::batch::BatchBuilder;
use crate::model::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId,
};
use crate::rt::DurableWrites;
use crate::sim::{EIO, ENOSPC, Fault, FaultOn};
use crate::wire::messages::*;
use crate::wire::{ErrorCode, Records};

/// A node with one topic, `t`, of two partitions; the second is led by the other shard.
struct Node {
    scene: Scene,
    disk: SimDisk,
    client: Client<SimRuntime>,
    topic: TopicId,
    /// The shard that leads partition 0, and the other.
    leader: Connection<SimRuntime>,
    other: Connection<SimRuntime>,
    other_id: i32,
}

fn on_node<F: Future<Output = ()>>(test: impl FnOnce(Rc<Node>) -> F) {
    on_node_with(DurableWrites::Dsync, test);
}

fn on_node_with<F: Future<Output = ()>>(way: DurableWrites, test: impl FnOnce(Rc<Node>) -> F) {
    let mut rng = Rng::new(3);
    let world = Rc::new(SimWorld::new(3));
    let disk = SimDisk::new(DiskModel::default());
    let clients = world.start(
        &SimDisk::new(DiskModel::default()),
        CLIENTS,
        CLIENT_MEMORY_BYTES,
    );
    let scene = Scene {
        rt: clients.runtime(0),
        machine: Rc::new(Machine::new(
            &world,
            disk.clone(),
            Durability::Fsync,
            &mut rng,
        )),
        history: Rc::default(),
        report: Rc::default(),
        world: world.clone(),
    };
    world.run(async {
        scene.machine.set_shards(2);
        scene.machine.set_durable_writes(way);
        scene.machine.start(&mut rng);
        scene.machine.serves().await.unwrap();
        let client = load::client(&scene);
        let created = create(&client, "t", 2, 1, &[]).await;
        assert_eq!(created, ErrorCode::None);
        client.wait_for_leaders("t").await.unwrap();
        let (_, leader) = client.leader("t", 0).await.unwrap();
        let (other_id, other) = client.leader("t", 1).await.unwrap();
        let node = Node {
            topic: client.topic_id("t"),
            scene: scene.clone(),
            disk,
            client,
            leader,
            other,
            other_id,
        };
        test(Rc::new(node)).await;
    });
}

/// Asks, and gives what `look` finds in the answer.
macro_rules! ask {
    ($connection:expr, $request:expr, $response:ty, $look:expr) => {{
        let answer = $connection.call(&$request).await.unwrap();
        let response: $response = answer.read().unwrap();
        look_at(response, $look)
    }};
}

/// Gives a closure the type of what it looks at.
fn look_at<T, F>(response: T, look: impl FnOnce(T) -> F) -> F {
    look(response)
}

async fn create(
    client: &Client<SimRuntime>,
    name: &str,
    num_partitions: i32,
    replication_factor: i16,
    configs: &[(&'static str, &'static str)],
) -> ErrorCode {
    let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: configs.iter().map(config).collect(),
        }],
        ..Default::default()
    };
    let any = client.any().await.unwrap();
    ask!(
        any,
        request,
        CreateTopicsResponse,
        |r: CreateTopicsResponse| r.topics[0].error_code
    )
}

fn batch(fields: impl FnOnce(&mut crate::model::batch::BatchFields)) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder
        .append(1_704_067_200_000, None, Some(b"value"), &[])
        .unwrap();
    let mut all = builder.fields().unwrap();
    fields(&mut all);
    let mut bytes = Vec::new();
    all.append(builder.records(), &mut bytes).unwrap();
    bytes
}

struct Sent<'a> {
    topic: TopicId,
    partition: i32,
    acks: i16,
    transactional_id: Option<&'a str>,
    bytes: &'a [u8],
}

impl Node {
    fn sent<'a>(&self, bytes: &'a [u8]) -> Sent<'a> {
        Sent {
            topic: self.topic,
            partition: 0,
            acks: -1,
            transactional_id: None,
            bytes,
        }
    }

    /// The error, and who leads as far as the answer says.
    async fn produce(&self, to: &Connection<SimRuntime>, sent: Sent<'_>) -> (ErrorCode, i32) {
        let partition = PartitionProduceData {
            index: PartitionIndex(sent.partition),
            records: Some(Records::Bytes(sent.bytes)),
        };
        let topic = TopicProduceData {
            topic_id: sent.topic,
            partition_data: partition.into(),
            ..Default::default()
        };
        let request = ProduceRequest {
            transactional_id: sent.transactional_id.map(Into::into),
            acks: sent.acks,
            timeout_ms: 10_000,
            topic_data: topic.into(),
        };
        ask!(to, request, ProduceResponse, |r: ProduceResponse| {
            let answered = &r.responses[0].partition_responses[0];
            (answered.error_code, answered.current_leader.leader_id.0)
        })
    }

    async fn fetch(
        &self,
        to: &Connection<SimRuntime>,
        session: (i32, i32),
        part: FetchPartition,
    ) -> (ErrorCode, ErrorCode) {
        let topic = FetchTopic {
            topic_id: self.topic,
            partitions: part.into(),
            ..Default::default()
        };
        let (session_id, session_epoch) = session;
        let request = FetchRequest {
            max_wait_ms: 10,
            session_id,
            session_epoch,
            topics: topic.into(),
            ..Default::default()
        };
        ask!(to, request, FetchResponse, |r: FetchResponse| {
            let part = r
                .responses
                .first()
                .and_then(|topic| topic.partitions.first());
            (
                r.error_code,
                part.map_or(ErrorCode::None, |part| part.error_code),
            )
        })
    }
}

/// No session.
const ALONE: (i32, i32) = (0, -1);

fn part(index: i32) -> FetchPartition {
    FetchPartition {
        partition: PartitionIndex(index),
        partition_max_bytes: 1 << 20,
        ..Default::default()
    }
}

#[test]
fn produce() {
    on_node(|node| async move {
        let good = batch(|_| {});
        let to = &node.leader;
        let unknown = Sent {
            topic: TopicId(uuid::Uuid::from_u128(7)),
            ..node.sent(&good)
        };
        assert_eq!(node.produce(to, unknown).await.0, ErrorCode::UnknownTopicId);
        let unknown = Sent {
            partition: 2,
            ..node.sent(&good)
        };
        assert_eq!(
            node.produce(to, unknown).await.0,
            ErrorCode::UnknownTopicOrPartition
        );
        let elsewhere = Sent {
            partition: 1,
            ..node.sent(&good)
        };
        let answer = node.produce(to, elsewhere).await;
        assert_eq!(answer, (ErrorCode::NotLeaderOrFollower, node.other_id));
        let acks = Sent {
            acks: 2,
            ..node.sent(&good)
        };
        assert_eq!(
            node.produce(to, acks).await.0,
            ErrorCode::InvalidRequiredAcks
        );
        let of_transaction = Sent {
            transactional_id: Some("x"),
            ..node.sent(&good)
        };
        let refused = ErrorCode::TransactionalIdAuthorizationFailed;
        assert_eq!(node.produce(to, of_transaction).await.0, refused);
        let mut broken = good.clone();
        *broken.last_mut().unwrap() ^= 1;
        let code = node.produce(to, node.sent(&broken)).await.0;
        assert_eq!(code, ErrorCode::CorruptMessage);
        // There is not one whole batch in it (Kafka's ProduceRequest.validateRecords).
        for bytes in [b"no batch", &good[..good.len() - 1]] {
            let code = node.produce(to, node.sent(bytes)).await.0;
            assert_eq!(code, ErrorCode::InvalidRecord);
        }
        assert_eq!(node.produce(to, node.sent(&good)).await.0, ErrorCode::None);
    });
}

#[test]
fn produce_of_an_idempotent_producer() {
    on_node(|node| async move {
        let of = |epoch, sequence| {
            batch(|fields| {
                fields.producer_id = ProducerId(77);
                fields.producer_epoch = ProducerEpoch(epoch);
                fields.base_sequence = sequence;
            })
        };
        let expected = [
            (1, 0, ErrorCode::None),
            (1, 2, ErrorCode::OutOfOrderSequenceNumber),
            (1, 1, ErrorCode::None),
            (1, 1, ErrorCode::None),
            (0, 2, ErrorCode::InvalidProducerEpoch),
            (2, 3, ErrorCode::OutOfOrderSequenceNumber),
            (2, 0, ErrorCode::None),
        ];
        for (epoch, sequence, code) in expected {
            let bytes = of(epoch, sequence);
            let answer = node.produce(&node.leader, node.sent(&bytes)).await.0;
            assert_eq!(answer, code, "epoch {epoch}, sequence {sequence}");
        }
    });
}

#[test]
fn fetch() {
    on_node(|node| async move {
        let none = ErrorCode::None;
        let to = &node.leader;
        assert_eq!(node.fetch(to, ALONE, part(0)).await, (none, none));
        let beyond = FetchPartition {
            fetch_offset: Offset(5),
            ..part(0)
        };
        assert_eq!(
            node.fetch(to, ALONE, beyond).await,
            (none, ErrorCode::OffsetOutOfRange)
        );
        let elsewhere = node.fetch(to, ALONE, part(1)).await;
        assert_eq!(elsewhere, (none, ErrorCode::NotLeaderOrFollower));
        let unknown = node.fetch(to, ALONE, part(9)).await;
        assert_eq!(unknown, (none, ErrorCode::UnknownTopicOrPartition));
        let later = FetchPartition {
            current_leader_epoch: LeaderEpoch(99),
            ..part(0)
        };
        assert_eq!(
            node.fetch(to, ALONE, later).await,
            (none, ErrorCode::UnknownLeaderEpoch)
        );
        let gone = node.fetch(to, (4711, 1), part(0)).await.0;
        assert_eq!(gone, ErrorCode::FetchSessionIdNotFound);
    });
}

#[test]
fn list_offsets_and_epochs() {
    on_node(|node| async move {
        let ask = async |name: &'static str, index, isolation_level, timestamp| {
            let request = ListOffsetsRequest {
                replica_id: BrokerId(-1),
                isolation_level,
                topics: vec![ListOffsetsTopic {
                    name: name.into(),
                    partitions: vec![ListOffsetsPartition {
                        partition_index: PartitionIndex(index),
                        timestamp,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            ask!(
                node.leader,
                request,
                ListOffsetsResponse,
                |r: ListOffsetsResponse| { r.topics[0].partitions[0].error_code }
            )
        };
        assert_eq!(ask("t", 0, 0, -1).await, ErrorCode::None);
        assert_eq!(ask("t", 0, 1, -2).await, ErrorCode::None);
        assert_eq!(ask("t", 0, 9, -1).await, ErrorCode::InvalidRequest);
        assert_eq!(ask("t", 0, 0, -99).await, ErrorCode::UnsupportedVersion);
        assert_eq!(ask("t", 1, 0, -1).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(ask("t", 5, 0, -1).await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(ask("u", 0, 0, -1).await, ErrorCode::UnknownTopicOrPartition);
        let epoch = async |index, current| {
            let request = OffsetForLeaderEpochRequest {
                replica_id: BrokerId(-1),
                topics: vec![OffsetForLeaderTopic {
                    topic: "t".into(),
                    partitions: vec![OffsetForLeaderPartition {
                        partition: PartitionIndex(index),
                        current_leader_epoch: LeaderEpoch(current),
                        leader_epoch: LeaderEpoch(0),
                    }],
                }],
            };
            let look = |r: OffsetForLeaderEpochResponse| r.topics[0].partitions[0].error_code;
            ask!(node.leader, request, OffsetForLeaderEpochResponse, look)
        };
        assert_eq!(epoch(0, -1).await, ErrorCode::None);
        assert_eq!(epoch(0, 99).await, ErrorCode::UnknownLeaderEpoch);
        assert_eq!(epoch(1, -1).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(epoch(7, -1).await, ErrorCode::UnknownTopicOrPartition);
    });
}

#[test]
fn create_topics_and_partitions() {
    on_node(|node| async move {
        let client = &node.client;
        let long = "x".repeat(250);
        for name in ["", ".", "a b", "t\n", &long] {
            let code = create(client, name, 1, 1, &[]).await;
            assert_eq!(code, ErrorCode::InvalidTopicException, "{name:?}");
        }
        assert_eq!(
            create(client, "t", 1, 1, &[]).await,
            ErrorCode::TopicAlreadyExists
        );
        assert_eq!(
            create(client, "u", 0, 1, &[]).await,
            ErrorCode::InvalidPartitions
        );
        assert_eq!(
            create(client, "u", 1, 2, &[]).await,
            ErrorCode::InvalidReplicationFactor
        );
        for config in [
            ("no.such.key", "1"),
            ("retention.ms", "soon"),
            ("segment.bytes", "1"),
        ] {
            assert_eq!(
                create(client, "u", 1, 1, &[config]).await,
                ErrorCode::InvalidConfig
            );
        }
        let grow = async |name: &'static str, count| {
            let request = CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: name.into(),
                    count,
                    assignments: None,
                }],
                timeout_ms: 10_000,
                validate_only: false,
            };
            let look = |r: CreatePartitionsResponse| r.results[0].error_code;
            ask!(node.leader, request, CreatePartitionsResponse, look)
        };
        for count in [-1, 0, 1, 2] {
            assert_eq!(
                grow("t", count).await,
                ErrorCode::InvalidPartitions,
                "{count}"
            );
        }
        assert_eq!(grow("u", 3).await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(grow("t", 3).await, ErrorCode::None);
    });
}

#[test]
fn delete_topics_and_records() {
    on_node(|node| async move {
        let delete = async |name: Option<&'static str>, id| {
            let request = DeleteTopicsRequest {
                topics: vec![DeleteTopicState {
                    name: name.map(Into::into),
                    topic_id: id,
                }],
                timeout_ms: 10_000,
                ..Default::default()
            };
            let look = |r: DeleteTopicsResponse| r.responses[0].error_code;
            ask!(node.leader, request, DeleteTopicsResponse, look)
        };
        let records = async |name: &'static str, index, offset| {
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: name.into(),
                    partitions: vec![DeleteRecordsPartition {
                        partition_index: PartitionIndex(index),
                        offset: Offset(offset),
                    }],
                }],
                timeout_ms: 10_000,
            };
            let look = |r: DeleteRecordsResponse| r.topics[0].partitions[0].error_code;
            ask!(node.leader, request, DeleteRecordsResponse, look)
        };
        assert_eq!(records("t", 0, 1).await, ErrorCode::OffsetOutOfRange);
        assert_eq!(records("t", 0, -7).await, ErrorCode::OffsetOutOfRange);
        assert_eq!(records("t", 1, 0).await, ErrorCode::NotLeaderOrFollower);
        assert_eq!(records("u", 0, 0).await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(records("t", 0, -1).await, ErrorCode::None);
        let unknown = TopicId(uuid::Uuid::from_u128(7));
        assert_eq!(delete(None, unknown).await, ErrorCode::UnknownTopicId);
        let code = delete(Some("u"), TopicId::ZERO).await;
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(delete(None, node.topic).await, ErrorCode::None);
        assert_eq!(delete(None, node.topic).await, ErrorCode::UnknownTopicId);
        let good = batch(|_| {});
        let late = node.produce(&node.leader, node.sent(&good)).await.0;
        assert_eq!(late, ErrorCode::UnknownTopicId);
    });
}

#[test]
fn configs() {
    on_node(|node| async move {
        let alter =
            async |kind, resource: &'static str, name: &'static str, value: &'static str| {
                let request = IncrementalAlterConfigsRequest {
                    resources: vec![IncrementalAlterConfigsResource {
                        resource_type: kind,
                        resource_name: resource.into(),
                        configs: vec![IncrementalAlterableConfig {
                            name: name.into(),
                            config_operation: 0,
                            value: Some(value.into()),
                        }],
                    }],
                    validate_only: false,
                };
                let look = |r: IncrementalAlterConfigsResponse| r.responses[0].error_code;
                let changed = ask!(node.leader, request, IncrementalAlterConfigsResponse, look);
                let request = AlterConfigsRequest {
                    resources: vec![AlterConfigsResource {
                        resource_type: kind,
                        resource_name: resource.into(),
                        configs: vec![AlterableConfig {
                            name: name.into(),
                            value: Some(value.into()),
                        }],
                    }],
                    validate_only: true,
                };
                let look = |r: AlterConfigsResponse| r.responses[0].error_code;
                (
                    changed,
                    ask!(node.leader, request, AlterConfigsResponse, look),
                )
            };
        let both = |code| (code, code);
        let invalid = both(ErrorCode::InvalidConfig);
        assert_eq!(alter(2, "t", "no.such.key", "1").await, invalid);
        assert_eq!(alter(2, "t", "retention.ms", "soon").await, invalid);
        let unknown = both(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(alter(2, "u", "retention.ms", "1000").await, unknown);
        assert_eq!(
            alter(99, "t", "retention.ms", "1000").await,
            both(ErrorCode::InvalidRequest)
        );
        assert_eq!(
            alter(2, "t", "retention.ms", "1000000000").await,
            both(ErrorCode::None)
        );
        let describe = async |kind, name: &'static str| {
            let request = DescribeConfigsRequest {
                resources: vec![DescribeConfigsResource {
                    resource_type: kind,
                    resource_name: name.into(),
                    configuration_keys: None,
                }],
                ..Default::default()
            };
            let look = |r: DescribeConfigsResponse| r.results[0].error_code;
            ask!(node.leader, request, DescribeConfigsResponse, look)
        };
        assert_eq!(describe(2, "t").await, ErrorCode::None);
        assert_eq!(describe(2, "u").await, ErrorCode::UnknownTopicOrPartition);
    });
}

#[test]
fn metadata_cluster_and_directories() {
    on_node(|node| async move {
        let to = &node.other;
        let topic = async |name: Option<&'static str>, topic_id| {
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic {
                    topic_id,
                    name: name.map(Into::into),
                }]),
                ..Default::default()
            };
            ask!(to, request, MetadataResponse, |r: MetadataResponse| r
                .topics[0]
                .error_code)
        };
        assert_eq!(topic(Some("t"), TopicId::ZERO).await, ErrorCode::None);
        let unknown = topic(Some("u"), TopicId::ZERO).await;
        assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(
            topic(Some("a b"), TopicId::ZERO).await,
            ErrorCode::InvalidTopicException
        );
        let unknown = topic(None, TopicId(uuid::Uuid::from_u128(7))).await;
        assert_eq!(unknown, ErrorCode::UnknownTopicId);
        let request = DescribeTopicPartitionsRequest {
            topics: vec![DescribeTopicPartitionsTopic { name: "u".into() }],
            ..Default::default()
        };
        let look = |r: DescribeTopicPartitionsResponse| r.topics[0].error_code;
        let code = ask!(to, request, DescribeTopicPartitionsResponse, look);
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
        let request = DescribeClusterRequest {
            endpoint_type: 2,
            ..Default::default()
        };
        let look = |r: DescribeClusterResponse| r.error_code;
        let code = ask!(to, request, DescribeClusterResponse, look);
        assert_eq!(code, ErrorCode::MismatchedEndpointType);
        let producer = async |id: &'static str| {
            let request = InitProducerIdRequest {
                transactional_id: Some(id.into()),
                transaction_timeout_ms: 1_000,
                ..Default::default()
            };
            let look = |r: InitProducerIdResponse| r.error_code;
            ask!(to, request, InitProducerIdResponse, look)
        };
        assert_eq!(producer("").await, ErrorCode::InvalidRequest);
        let refused = ErrorCode::TransactionalIdAuthorizationFailed;
        assert_eq!(producer("x").await, refused);
        let request = ApiVersionsRequest {
            client_software_name: "a name".into(),
            client_software_version: "1".into(),
        };
        let look = |r: ApiVersionsResponse| r.error_code;
        assert_eq!(
            ask!(to, request, ApiVersionsResponse, look),
            ErrorCode::InvalidRequest
        );
    });
}

/// A write or a flush that fails takes the log directory offline for every shard; what needs it is
/// refused.
#[test]
fn a_failed_log_directory() {
    log_directory_fails(DurableWrites::Dsync, FaultOn::Write, EIO);
    for errno in [EIO, ENOSPC] {
        log_directory_fails(DurableWrites::Flush, FaultOn::Sync, errno);
    }
}

fn log_directory_fails(way: DurableWrites, on: FaultOn, errno: i32) {
    on_node_with(way, |node| async move {
        // What is prepared behind the start has ended.
        node.scene.rt.sleep(Duration::from_secs(2)).await;
        node.disk.inject(Fault {
            on,
            path: "shard-0/journal".to_owned(),
            skip: 0,
            times: 1,
            errno,
        });
        let good = batch(|_| {});
        let storage = ErrorCode::KafkaStorageError;
        let on_first = match node.other_id {
            0 => (&node.other, 1),
            _ => (&node.leader, 0),
        };
        let sent = |partition| Sent {
            partition,
            ..node.sent(&good)
        };
        assert_eq!(node.produce(on_first.0, sent(on_first.1)).await.0, storage);
        node.scene.rt.sleep(Duration::from_millis(50)).await;
        for (shard, partition) in [(&node.leader, 0), (&node.other, 1)] {
            assert_eq!(node.produce(shard, sent(partition)).await.0, storage);
            let request = DescribeLogDirsRequest { topics: None };
            let look = |r: DescribeLogDirsResponse| r.results[0].error_code;
            let code = ask!(shard, request, DescribeLogDirsResponse, look);
            assert_eq!(code, storage);
        }
    });
}
