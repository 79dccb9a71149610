//! The client against a broker of a few lines, on the simulated network: lost connections, moved
//! leaders, answers that never come.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::compress::{Codecs, Level};
use crate::model::batch::{BatchView, Batches};
use crate::model::{
    BrokerId, Codec, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId,
};
use crate::net::{FrameMemory, FrameReader, Stream};
use crate::rt::{Budget, Buf, Listener, Runtime, Socket, TaskClass};
use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime, SimSocket};
use crate::wire::messages::*;
use crate::wire::{ApiKey, ErrorCode, Records, RequestHeader, Response, encode_response};

const PORT: u16 = 9092;

/// What the broker does to a request instead of serving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Answers with an error.
    Refuse(ErrorCode),
    /// Serves it, but cuts the connection before the answer.
    Cut,
    /// Serves it and stays silent.
    Silence,
}

/// One topic `t` with one partition, and a producer's sequences as Kafka checks them.
#[derive(Default)]
struct Broker {
    log: RefCell<Vec<u8>>,
    end_offset: Cell<i64>,
    /// Sequence due, and what was appended: base sequence and base offset.
    next_sequence: Cell<i32>,
    appended: RefCell<Vec<(i32, i64)>>,
    /// Trouble for the n-th Produce or Fetch from now.
    troubles: RefCell<Vec<(usize, Trouble)>>,
    served: Cell<usize>,
    /// Answers ApiVersions as a broker that knows version 0 alone.
    is_old: Cell<bool>,
}

impl Broker {
    async fn run(self: Rc<Self>, rt: SimRuntime) {
        let listener = rt.listen(SocketAddr::from(([127, 0, 0, 1], PORT))).unwrap();
        loop {
            let socket = listener.accept().await.unwrap();
            rt.spawn(
                TaskClass::Foreground,
                self.clone().serve(rt.clone(), socket),
            );
        }
    }

    async fn serve(self: Rc<Self>, rt: SimRuntime, socket: SimSocket) {
        let memory = FrameMemory::own(Budget::new(64 << 20));
        let mut frames = FrameReader::new(
            rt.clone(),
            Stream::plain(&rt, socket.clone()),
            64 << 20,
            memory,
        );
        while let Ok(Some(frame)) = frames.next().await {
            let Some(answer) = self.answer(&frame.bytes) else {
                continue;
            };
            let Some(answer) = answer else {
                return socket.shutdown();
            };
            if socket.write(vec![Buf::from_vec(answer)]).await.is_err() {
                return;
            }
        }
    }

    /// `None` is silence, `Some(None)` the end of the connection.
    fn answer(&self, message: &[u8]) -> Option<Option<Vec<u8>>> {
        let (header, body) = match RequestHeader::decode(message) {
            Ok(request) => request,
            Err(error) => panic!("{error}"),
        };
        if self.is_old.get() && header.api == ApiKey::ApiVersions && header.version > 0 {
            let mut refusal = api_versions(0);
            refusal.error_code = ErrorCode::UnsupportedVersion;
            return Some(Some(encode(&header, 0, &refusal)));
        }
        let mut trouble = None;
        if matches!(header.api, ApiKey::Produce | ApiKey::Fetch) {
            let number = self.served.replace(self.served.get() + 1);
            let troubles = self.troubles.borrow();
            trouble = troubles
                .iter()
                .find(|(at, _)| *at == number)
                .map(|(_, t)| *t);
        }
        let refusal = match trouble {
            Some(Trouble::Refuse(code)) => Some(code),
            _ => None,
        };
        let request = AnyRequest::decode(&header, body).unwrap();
        let answer = self.respond(&header, request, refusal);
        match trouble {
            Some(Trouble::Cut) => Some(None),
            Some(Trouble::Silence) => None,
            _ => Some(Some(answer)),
        }
    }

    fn respond(
        &self,
        header: &RequestHeader<'_>,
        request: AnyRequest<'_>,
        refusal: Option<ErrorCode>,
    ) -> Vec<u8> {
        let version = header.version;
        match request {
            AnyRequest::ApiVersions(_) => {
                let newest = if self.is_old.get() { 11 } else { i16::MAX };
                encode(header, version, &api_versions(newest))
            }
            AnyRequest::Metadata(_) => encode(header, version, &metadata()),
            AnyRequest::InitProducerId(_) => {
                let response = InitProducerIdResponse {
                    producer_id: ProducerId(7),
                    producer_epoch: ProducerEpoch(0),
                    ..Default::default()
                };
                encode(header, version, &response)
            }
            AnyRequest::Produce(request) => {
                let topic = &request.topic_data[0];
                let records = topic.partition_data[0].records.unwrap();
                let (error_code, offset) = match refusal {
                    Some(code) => (code, -1),
                    None => self.append(records.bytes()),
                };
                let partition = PartitionProduceResponse {
                    error_code,
                    base_offset: Offset(offset),
                    ..Default::default()
                };
                let response = TopicProduceResponse {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partition_responses: partition.into(),
                };
                let response = ProduceResponse {
                    responses: response.into(),
                    ..Default::default()
                };
                encode(header, version, &response)
            }
            AnyRequest::Fetch(request) => {
                let topic = &request.topics[0];
                let log = self.log.borrow();
                let from = topic.partitions[0].fetch_offset;
                let partition = FetchPartitionData {
                    error_code: refusal.unwrap_or(ErrorCode::None),
                    high_watermark: Offset(self.end_offset.get()),
                    records: Some(Records::Bytes(batch_at(&log, from))),
                    ..Default::default()
                };
                let response = FetchableTopicResponse {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partitions: partition.into(),
                };
                let response = FetchResponse {
                    responses: response.into(),
                    ..Default::default()
                };
                encode(header, version, &response)
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn append(&self, batch: &[u8]) -> (ErrorCode, i64) {
        let view = BatchView::first_verified(batch).unwrap();
        let sequence = view.base_sequence();
        let before = self.appended.borrow();
        if let Some((_, offset)) = before.iter().find(|(known, _)| *known == sequence) {
            return (ErrorCode::None, *offset);
        }
        drop(before);
        // Of a producer that it does not know, Kafka takes any sequence (KIP-360).
        let is_known = !self.appended.borrow().is_empty();
        if is_known && sequence != self.next_sequence.get() {
            return (ErrorCode::OutOfOrderSequenceNumber, -1);
        }
        let offset = self.end_offset.get();
        self.next_sequence.set(sequence + view.record_count());
        self.end_offset.set(offset + i64::from(view.record_count()));
        self.appended.borrow_mut().push((sequence, offset));
        let mut stored = batch.to_vec();
        crate::model::batch::stamp(&mut stored, Offset(offset), LeaderEpoch(0));
        self.log.borrow_mut().extend(stored);
        (ErrorCode::None, offset)
    }
}

/// The batch that holds an offset; batches leave one at a time.
fn batch_at(log: &[u8], offset: Offset) -> &[u8] {
    let batches = Batches::new(log).map(|batch| batch.unwrap().1);
    let mut wanted = batches.filter(|batch| batch.end_offset() > offset);
    wanted.next().map(|batch| batch.bytes()).unwrap_or_default()
}

fn encode<'a, M: Response<'a>>(header: &RequestHeader<'_>, version: i16, message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    let encoded = encode_response(&mut out, version, header.correlation_id, message).unwrap();
    assert_eq!(encoded.pieces().count(), 1, "records stand within");
    out
}

/// Every API of ours up to a version.
fn api_versions(newest: i16) -> ApiVersionsResponse<'static> {
    let api = |api: &ApiKey| ApiVersion {
        api_key: api.key(),
        min_version: 0,
        max_version: (*api.versions().end()).min(newest),
    };
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().map(api).collect(),
        ..Default::default()
    }
}

fn metadata() -> MetadataResponse<'static> {
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: BrokerId(0),
            host: "127.0.0.1".into(),
            port: i32::from(PORT),
            rack: None,
        }],
        controller_id: BrokerId(0),
        topics: vec![MetadataResponseTopic {
            name: Some("t".into()),
            partitions: vec![MetadataResponsePartition {
                partition_index: PartitionIndex(0),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

const RECORDS: i32 = 60;

/// Writes numbered records in batches of three and reads them back: exactly these, in order.
fn round_trip(seed: u64, is_old: bool, troubles: &[(usize, Trouble)]) -> Result<(), ClientError> {
    let disk = SimDisk::new(DiskModel::default());
    let mut sim = Sim::new(seed, &disk);
    let broker = Rc::new(Broker::default());
    broker.troubles.borrow_mut().extend(troubles);
    broker.is_old.set(is_old);
    let rt = sim.runtime(0);
    rt.spawn(TaskClass::Foreground, broker.clone().run(rt.clone()));
    let outcome = sim.run(async move {
        rt.sleep(Duration::from_millis(1)).await;
        let client = Client::new(
            rt.clone(),
            ClientOptions {
                brokers: vec![format!("127.0.0.1:{PORT}")],
                timeout: Duration::from_secs(5),
            },
        );
        write(&client).await?;
        assert_eq!(
            broker.end_offset.get(),
            i64::from(RECORDS),
            "neither lost nor twice"
        );
        read(&client).await
    });
    outcome.unwrap()
}

async fn write(client: &Client<SimRuntime>) -> Result<(), ClientError> {
    let options = ProducerOptions {
        acks: -1,
        idempotent: true,
        codec: Level::default_of(Codec::None),
    };
    let producer = Producer::new(client.clone(), options).await?;
    // The size of three records, just.
    let options = BatcherOptions {
        batch_bytes: 61 + 30,
        ..BatcherOptions::default()
    };
    let rt = client.rt().clone();
    let mut batcher = Batcher::new(rt, producer.clone(), "t", 1, options);
    for number in 0..RECORDS {
        let value = number.to_be_bytes();
        let record = NewRecord {
            timestamp_ms: 1,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        batcher.append(None, record).await?;
    }
    let deliveries = batcher.finish().await?;
    assert_eq!(deliveries.records(), RECORDS as u64);
    producer.close();
    Ok(())
}

async fn read(client: &Client<SimRuntime>) -> Result<(), ClientError> {
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    consumer.assign("t", 0, Offset(0));
    let mut numbers = Vec::new();
    let mut codecs = Codecs::new();
    while numbers.len() < RECORDS as usize {
        for fetched in consumer.poll().await? {
            fetched.for_each_record(&mut codecs, |offset, _, record| {
                assert_eq!(offset.0, numbers.len() as i64);
                numbers.push(record.value.unwrap().to_vec());
            })?;
        }
    }
    assert!(
        numbers
            .iter()
            .eq(&(0..RECORDS).map(|n| n.to_be_bytes()).collect::<Vec<_>>())
    );
    Ok(())
}

#[test]
fn records_come_back_in_order() {
    round_trip(1, false, &[]).unwrap();
}

#[test]
fn an_older_broker_is_spoken_to_in_its_versions() {
    round_trip(1, true, &[]).unwrap();
}

#[test]
fn whatever_passes_is_retried_without_loss_or_repetition() {
    let passing = [
        Trouble::Refuse(ErrorCode::NotLeaderOrFollower),
        Trouble::Refuse(ErrorCode::KafkaStorageError),
        Trouble::Cut,
        Trouble::Silence,
    ];
    for trouble in passing {
        for at in 0..40 {
            let both = [(at, trouble), (at + 3, Trouble::Cut)];
            round_trip(at as u64, false, &both).unwrap_or_else(|error| {
                panic!("{trouble:?} at {at}: {error}");
            });
        }
    }
}

#[test]
fn what_does_not_pass_is_told() {
    let refusal = Trouble::Refuse(ErrorCode::TopicAuthorizationFailed);
    for at in [0, 5, 25] {
        let error = round_trip(1, false, &[(at, refusal)]).unwrap_err();
        let code = ErrorCode::TopicAuthorizationFailed;
        assert!(
            matches!(&error, ClientError::Refused { code: told, .. } if *told == code),
            "{error}"
        );
    }
}

#[test]
fn retries_end_with_the_timeout() {
    let always: Vec<_> = (0..10_000)
        .map(|at| (at, Trouble::Refuse(ErrorCode::LeaderNotAvailable)))
        .collect();
    let error = round_trip(1, false, &always).unwrap_err();
    assert!(error.is_retriable(), "{error}");
}
