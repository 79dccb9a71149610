//! A client as plain as can be: one socket, one request at a time or several in a row.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use corelane::compress::{Codecs, Level};
use corelane::model::batch::{BatchBuilder, BatchFields, BatchView, Header, RecordRef, Records};
use corelane::model::{Codec, Offset, PartitionIndex, ProducerEpoch, ProducerId};
use corelane::wire::messages::*;
use corelane::wire::{self, ErrorCode, Request, Response, decode_response, encode_request};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Topics by name, fetch without sessions' topic ids.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;

pub struct Connection {
    pub stream: TcpStream,
    correlation_id: i32,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A batch to be made.
#[derive(Clone, Debug)]
pub struct Batch {
    pub compression: Codec,
    /// Id, epoch, and sequence of the first record.
    pub producer: Option<(i64, i16, i32)>,
    pub timestamp_ms: i64,
    pub values: Vec<Vec<u8>>,
}

impl Batch {
    pub fn of(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            compression: Codec::None,
            producer: None,
            timestamp_ms: super::now_ms(),
            values: values.into_iter().collect(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for value in &self.values {
            let header = Header {
                key: b"from",
                value: Some(b"test"),
            };
            let appended = builder.append(self.timestamp_ms, Some(b"key"), Some(value), &[header]);
            appended.expect("a record");
        }
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let fields = BatchFields {
            compression: self.compression,
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: sequence,
            ..builder.fields().expect("records")
        };
        let mut out = Vec::new();
        let records = compress(self.compression, builder.records());
        fields.append(&records, &mut out).expect("a batch");
        out
    }
}

/// Records in the framing of a codec.
pub fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let done = Codecs::new().compress(Level::default_of(codec), records, &mut out);
    done.expect("compressed");
    out
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self {
            stream,
            correlation_id: 0,
        })
    }

    /// Sends a request and does not wait for its answer.
    pub fn send<'a, Q: Request<'a>>(&mut self, version: i16, request: &Q) -> io::Result<()> {
        self.correlation_id += 1;
        let mut frame = Vec::new();
        let encoded = encode_request(&mut frame, version, self.correlation_id, "test", request);
        let _ = encoded.expect("a request that can be written");
        self.stream.write_all(&frame)
    }

    /// The next answer, without its length.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    pub fn call<'a, Q: Request<'a>>(&mut self, version: i16, request: &Q) -> io::Result<Vec<u8>> {
        self.send(version, request)?;
        self.receive()
    }

    /// Whether the broker answers an ApiVersions request.
    pub fn answers(&mut self) -> bool {
        let answer = self.call(0, &ApiVersionsRequest::default());
        answer.is_ok_and(|frame| read::<ApiVersionsResponse<'_>>(&frame, 0).api_keys.len() > 10)
    }

    /// Creates a topic. `configs` are `key=value`.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[&str]) -> ErrorCode {
        let configs = configs.iter().map(|config| {
            let (name, value) = config.split_once('=').expect("key=value");
            CreatableTopicConfig {
                name: name.into(),
                value: Some(value.into()),
            }
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            validate_only: false,
        };
        let frame = self.call(7, &request).expect("an answer");
        read::<CreateTopicsResponse<'_>>(&frame, 7).topics[0].error_code
    }

    pub fn delete_topic(&mut self, name: &str) -> ErrorCode {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.into()],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let frame = self.call(5, &request).expect("an answer");
        read::<DeleteTopicsResponse<'_>>(&frame, 5).responses[0].error_code
    }

    /// Sets one key: of a topic, or of all brokers when `topic` is empty.
    pub fn alter(&mut self, topic: &str, key: &str, value: Option<&str>) -> ErrorCode {
        let config = IncrementalAlterableConfig {
            name: key.into(),
            config_operation: i8::from(value.is_none()),
            value: value.map(Into::into),
        };
        let resource = IncrementalAlterConfigsResource {
            resource_type: if topic.is_empty() { 4 } else { 2 },
            resource_name: topic.into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            validate_only: false,
        };
        let frame = self.call(1, &request).expect("an answer");
        read::<IncrementalAlterConfigsResponse<'_>>(&frame, 1).responses[0].error_code
    }

    /// An id and epoch for an idempotent producer.
    pub fn producer_id(&mut self) -> io::Result<(i64, i16)> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let frame = self.call(4, &request)?;
        let answer = read::<InitProducerIdResponse>(&frame, 4);
        match answer.error_code {
            ErrorCode::None => Ok((answer.producer_id.0, answer.producer_epoch.0)),
            code => Err(io::Error::other(format!("InitProducerId: {code:?}"))),
        }
    }

    /// Where each partition's leader listens; those without one are left out.
    pub fn leaders(&mut self, topic: &str) -> io::Result<BTreeMap<i32, SocketAddr>> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let frame = self.call(9, &request)?;
        let answer = read::<MetadataResponse<'_>>(&frame, 9);
        let port = |leader| {
            let broker = answer.brokers.iter().find(|b| b.node_id == leader)?;
            u16::try_from(broker.port).ok()
        };
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let led = partitions.filter_map(|partition| {
            let address = (Ipv4Addr::LOCALHOST, port(partition.leader_id)?).into();
            Some((partition.partition_index.0, address))
        });
        Ok(led.collect())
    }

    /// Sends a batch and does not wait.
    pub fn send_batch(&mut self, topic: &str, partition: i32, batch: &[u8]) -> io::Result<()> {
        let data = PartitionProduceData {
            index: PartitionIndex(partition),
            records: Some(wire::Records::Bytes(batch)),
        };
        let topic = TopicProduceData {
            name: topic.into(),
            partition_data: data.into(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: topic.into(),
            ..Default::default()
        };
        self.send(PRODUCE, &request)
    }

    /// The answer to a batch: its base offset.
    pub fn receive_ack(&mut self) -> io::Result<Result<i64, ErrorCode>> {
        let frame = self.receive()?;
        let answer = read::<ProduceResponse<'_>>(&frame, PRODUCE);
        let partition = &answer.responses[0].partition_responses[0];
        Ok(match partition.error_code {
            ErrorCode::None => Ok(partition.base_offset.0),
            code => Err(code),
        })
    }

    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Result<i64, ErrorCode> {
        self.send_batch(topic, partition, batch).expect("sent");
        self.receive_ack().expect("an answer")
    }

    /// One end of a partition's log: −2 earliest, −1 latest.
    pub fn offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<i64, ErrorCode> {
        let wanted = ListOffsetsPartition {
            partition_index: PartitionIndex(partition),
            timestamp,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: corelane::model::BrokerId(-1),
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![wanted],
            }],
            ..Default::default()
        };
        let frame = self.call(7, &request).expect("an answer");
        let answer = read::<ListOffsetsResponse<'_>>(&frame, 7);
        let partition = &answer.topics[0].partitions[0];
        match partition.error_code {
            ErrorCode::None => Ok(partition.offset.0),
            code => Err(code),
        }
    }

    /// The batches from an offset on, as they are stored; empty at the end of the log.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> io::Result<Result<Vec<u8>, ErrorCode>> {
        let wanted = FetchPartition {
            partition: PartitionIndex(partition),
            fetch_offset: Offset(from),
            partition_max_bytes: 4 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 8 << 20,
            topics: FetchTopic {
                topic: topic.into(),
                partitions: wanted.into(),
                ..Default::default()
            }
            .into(),
            ..Default::default()
        };
        let frame = self.call(FETCH, &request)?;
        let answer = read::<FetchResponse<'_>>(&frame, FETCH);
        let partition = &answer.responses[0].partitions[0];
        Ok(match partition.error_code {
            ErrorCode::None => Ok(partition.records.map_or(vec![], |r| r.bytes().to_vec())),
            code => Err(code),
        })
    }

    /// Every record of a partition from an offset to its end; the checksums must hold.
    pub fn read_partition(&mut self, topic: &str, partition: i32, from: i64) -> Vec<Read> {
        let mut records = Vec::new();
        let mut next = from;
        loop {
            let fetched = self.fetch(topic, partition, next).expect("an answer");
            let bytes = fetched.unwrap_or_else(|code| {
                panic!("{topic}-{partition} cannot be read at {next}: {code:?}")
            });
            let end = records_of(&bytes, next, &mut records);
            if end == next {
                return records;
            }
            next = end;
        }
    }
}

/// Every record of a topic, by partition, each read from its leader.
pub fn read_all(address: SocketAddr, topic: &str) -> BTreeMap<i32, Vec<Read>> {
    let mut bootstrap = Connection::open(address).expect("the broker accepts");
    let leaders = bootstrap.leaders(topic).expect("metadata");
    let read = |(partition, leader): (&i32, &SocketAddr)| {
        let mut connection = Connection::open(*leader).expect("the leader accepts");
        let start = connection.offset(topic, *partition, -2).expect("log start");
        (
            *partition,
            connection.read_partition(topic, *partition, start),
        )
    };
    leaders.iter().map(read).collect()
}

/// Takes the whole batches of a fetch apart; gives the offset behind the last.
fn records_of(mut bytes: &[u8], from: i64, out: &mut Vec<Read>) -> i64 {
    let mut end = from;
    while let Ok(batch) = BatchView::first(bytes) {
        assert!(
            batch.crc_holds(),
            "damaged batch at {}",
            batch.base_offset()
        );
        bytes = &bytes[batch.bytes().len()..];
        let plain = decompress(&batch);
        let records = Records::new(&plain, batch.record_count());
        for record in records {
            let record = record.expect("a record");
            if batch.offset_of(&record).0 >= from {
                out.push(owned(&batch, &record));
            }
        }
        end = batch.end_offset().0;
    }
    end
}

fn owned(batch: &BatchView<'_>, record: &RecordRef<'_>) -> Read {
    Read {
        offset: batch.offset_of(record).0,
        timestamp_ms: batch.timestamp_ms_of(record),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    }
}

fn decompress(batch: &BatchView<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let done = Codecs::new().decompress(batch.compression(), batch.records(), &mut out, 1 << 30);
    done.expect("records of the codec");
    out
}

fn read<'a, M: Response<'a>>(frame: &'a [u8], version: i16) -> M {
    decode_response::<M>(frame, version)
        .expect("a well-formed answer")
        .1
}
