//! One request, one answer, on a blocking connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corelane::model::{PartitionIndex, TopicId};
use corelane::wire::messages::{
    ApiVersionsRequest, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
    CreateTopicsResponse, PartitionProduceData, ProduceRequest, TopicProduceData,
};
use corelane::wire::{List, Records, Request, Response, decode_response, encode_request};

/// The name under which the benchmark's connections show in the broker.
const CLIENT_ID: &str = "corelane-bench";
/// How long the broker may take for one batch before it answers with an error.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Far above any answer to a request of this kind.
const MAX_ANSWER_BYTES: u32 = 64 << 20;

/// Makes `out` the frame of a request that holds all of its bytes, in the newest version.
pub fn encode<'a, Q: Request<'a>>(
    out: &mut Vec<u8>,
    correlation_id: i32,
    request: &Q,
) -> Result<()> {
    out.clear();
    let version = *Q::KEY.versions().end();
    // It also says which pieces lie elsewhere: none.
    let _ = encode_request(out, version, correlation_id, CLIENT_ID, request)?;
    Ok(())
}

/// A Produce request of one batch.
pub fn produce_request(
    topic: TopicId,
    partition: PartitionIndex,
    batch: &[u8],
) -> ProduceRequest<'_> {
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::Bytes(batch)),
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: PRODUCE_TIMEOUT_MS,
        topic_data: List::from(TopicProduceData {
            topic_id: topic,
            partition_data: List::from(data),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A connection on which one request is under way at a time, in the newest versions.
pub struct Control {
    socket: TcpStream,
    frame: Vec<u8>,
}

impl Control {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        let frame = Vec::new();
        Ok(Self { socket, frame })
    }

    /// Sends a request and reads its answer.
    pub fn call<'a, 'r, Q: Request<'a>>(&'r mut self, request: &Q) -> Result<Q::Response<'r>>
    where
        Q::Response<'r>: Response<'r>,
    {
        let version = *Q::KEY.versions().end();
        encode(&mut self.frame, 0, request)?;
        self.socket.write_all(&self.frame)?;
        self.read_frame()?;
        let (_, response) = decode_response(&self.frame, version)?;
        Ok(response)
    }

    /// Asks for the broker's versions, as every client does first.
    pub fn api_versions(&mut self) -> Result<()> {
        let response = self.call(&ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        })?;
        ensure!(
            response.error_code.is_none(),
            "ApiVersions: {:?}",
            response.error_code
        );
        Ok(())
    }

    /// Creates a topic that takes batches of 8 MiB.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<TopicId> {
        let ids = self.create_topics(&[name.to_owned()], partitions)?;
        ids.first().copied().context("no topic in the answer")
    }

    /// Creates topics of as many partitions each that take batches of 8 MiB, with one request.
    pub fn create_topics(&mut self, names: &[String], partitions: i32) -> Result<Vec<TopicId>> {
        let topic = |name: &String| {
            let config = CreatableTopicConfig {
                name: "max.message.bytes".into(),
                value: Some((8 << 20).to_string().into()),
            };
            CreatableTopic {
                name: name.clone().into(),
                num_partitions: partitions,
                replication_factor: 1,
                assignments: Vec::new(),
                configs: vec![config],
            }
        };
        let request = CreateTopicsRequest {
            topics: names.iter().map(topic).collect(),
            ..Default::default()
        };
        let response: CreateTopicsResponse<'_> = self.call(&request)?;
        let created = response.topics.iter().map(|topic| {
            let (code, message) = (topic.error_code, &topic.error_message);
            ensure!(
                code.is_none(),
                "creating {}: {code:?} {message:?}",
                topic.name
            );
            Ok(topic.topic_id)
        });
        created.collect()
    }

    fn read_frame(&mut self) -> Result<()> {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix)?;
        let frame_bytes = u32::from_be_bytes(prefix);
        ensure!(
            frame_bytes <= MAX_ANSWER_BYTES,
            "an answer of {frame_bytes} bytes"
        );
        self.frame.resize(frame_bytes as usize, 0);
        self.socket.read_exact(&mut self.frame)?;
        Ok(())
    }
}
