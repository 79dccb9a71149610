//! What a Produce or Fetch request costs the allocator, once the broker is warm: nothing.
//!
//! The broker runs in this process, on threads of its own; what these take from the allocator is
//! counted while this one, which is not counted, sends requests that were made before. Reads, writes
//! and the executor's rounds do take some, so that many requests are sent at a time: what is left is
//! little for each of them, where one that is taken for each request would show.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use corelane::config::{Host, Sources};
use corelane::model::batch::BatchBuilder;
use corelane::model::{Offset, PartitionIndex, TopicId};
use corelane::node::{NodeOptions, run_on_threads};
use corelane::rt::{DurableWrites, Shards, lane};
use corelane::wire::messages::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse, FetchPartition, FetchRequest,
    FetchResponse, FetchTopic, PartitionProduceData, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use corelane::wire::{ApiKey, ErrorCode, List, Records, Request, decode_response, encode_request};

/// Requests that are sent at a time.
const TOGETHER: usize = 64;
/// How often, before the count begins and while it runs.
const WARM_UP: usize = 50;
const COUNTED: usize = 50;
/// What rounds, reads and writes may come to: 0.7 to 1.2 were seen on a busy machine, and 12 when each
/// request took some.
const PER_REQUEST_MAX: f64 = 2.0;
const MEMORY_BYTES: usize = 256 << 20;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;
static TAKEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether what this thread takes is left out.
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !IS_CLIENT.try_with(Cell::get).unwrap_or(true) {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: it hands everything on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

fn options(dir: &Path) -> NodeOptions {
    let host = Host {
        cpus: 1,
        memory_bytes: 1 << 30,
        is_root: false,
    };
    let mut sources = Sources::default();
    let log_dirs = format!("log.dirs={}", dir.display());
    for setting in [
        log_dirs.as_str(),
        "listeners=PLAINTEXT://127.0.0.1:0",
        "corelane.shards=1",
        "corelane.durability=written",
        "corelane.journal.bytes=134217728",
    ] {
        sources.set(setting).expect("a setting");
    }
    let (settings, _) = sources.load(&host).expect("settings");
    let config = settings.resolve(&Default::default()).expect("settings");
    NodeOptions {
        settings: Arc::new(settings),
        config: Arc::new(config),
        shards: 1,
        memory_bytes: MEMORY_BYTES / 2,
    }
}

struct Client {
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("accepted");
        socket.set_nodelay(true).expect("a socket");
        let answer = Vec::new();
        Self { socket, answer }
    }

    fn send(&mut self, frame: &[u8]) {
        self.socket.write_all(frame).expect("sent");
    }

    fn receive(&mut self) -> &[u8] {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix).expect("an answer");
        self.answer.resize(u32::from_be_bytes(prefix) as usize, 0);
        self.socket.read_exact(&mut self.answer).expect("an answer");
        &self.answer
    }

    fn create_topic(&mut self) -> TopicId {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "t".into(),
                num_partitions: 1,
                replication_factor: 1,
                assignments: Vec::new(),
                configs: Vec::new(),
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let version = *ApiKey::CreateTopics.versions().end();
        self.send(&encoded(version, &request));
        let answer = self.receive();
        let response = decode_response::<CreateTopicsResponse<'_>>(answer, version);
        let (_, response) = response.expect("an answer");
        assert_eq!(response.topics[0].error_code, ErrorCode::None);
        response.topics[0].topic_id
    }

    /// Sends so many requests together and waits for their answers.
    fn send_together(&mut self, frames: &[u8], requests: usize) {
        self.send(frames);
        for _ in 0..requests {
            self.receive();
        }
    }
}

fn encoded<'a, Q: Request<'a>>(version: i16, request: &Q) -> Vec<u8> {
    let mut frame = Vec::new();
    let _ = encode_request(&mut frame, version, 7, "allocations", request).expect("encoded");
    frame
}

/// One record of 500 bytes to one partition, in a version that names topics by id, or by name.
fn produce_request(topic: TopicId, version: i16) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let added = builder.append(1_700_000_000_000, None, Some(&[b'v'; 500]), &[]);
    added.expect("room");
    let mut batch = Vec::new();
    builder.append_batch(&mut batch).expect("a batch");
    let data = PartitionProduceData {
        index: PartitionIndex(0),
        records: Some(Records::Bytes(&batch)),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: List::from(TopicProduceData {
            name: "t".into(),
            topic_id: topic,
            partition_data: List::from(data),
        }),
        ..Default::default()
    };
    encoded(version, &request)
}

/// How often the broker takes memory for each of many requests.
fn taken_per_request(client: &mut Client, mut frames: impl FnMut() -> Vec<u8>) -> f64 {
    let mut send = |times| {
        for _ in 0..times {
            client.send_together(&frames(), TOGETHER);
        }
        TAKEN.load(Ordering::Relaxed)
    };
    let before = send(WARM_UP);
    (send(COUNTED) - before) as f64 / (TOGETHER * COUNTED) as f64
}

/// A consumer of one partition, in a fetch session that it never leaves.
struct Consumer {
    topic: TopicId,
    version: i16,
    session_id: i32,
    session_epoch: i32,
}

impl Consumer {
    /// Its session is opened with its first request.
    fn open(client: &mut Client, topic: TopicId, version: i16) -> Self {
        let mut consumer = Self {
            topic,
            version,
            session_id: 0,
            session_epoch: 0,
        };
        client.send_together(&consumer.request(Offset(0), 0), 1);
        let (session_id, bytes) = consumer.said(client);
        assert!(session_id != 0 && bytes.is_some_and(|bytes| bytes > 0));
        consumer.session_id = session_id;
        consumer
    }

    /// Its next request, which names its partition as one that has read on does.
    fn request(&mut self, fetch_offset: Offset, max_wait_ms: i32) -> Vec<u8> {
        let partition = FetchPartition {
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            topics: List::from(FetchTopic {
                topic: "t".into(),
                topic_id: self.topic,
                partitions: List::from(partition),
            }),
            ..Default::default()
        };
        self.session_epoch += 1;
        encoded(self.version, &request)
    }

    /// The session of the last response and, where it names the partition, the bytes of its
    /// records.
    fn said(&self, client: &Client) -> (i32, Option<usize>) {
        let decoded = decode_response::<FetchResponse<'_>>(&client.answer, self.version);
        let (_, response) = decoded.expect("an answer");
        assert_eq!(response.error_code, ErrorCode::None);
        let partition = response.responses.first().map(|topic| &topic.partitions[0]);
        let bytes = partition.map(|partition| {
            assert_eq!(partition.error_code, ErrorCode::None);
            match partition.records {
                Some(Records::Bytes(bytes)) => bytes.len(),
                Some(Records::Elsewhere(_)) | None => 0,
            }
        });
        (response.session_id, bytes)
    }

    /// What a request costs that finds a batch, or that waits until its time is over.
    fn taken(&mut self, client: &mut Client, offset: Offset, max_wait_ms: i32) -> f64 {
        let frames = || {
            let requests = (0..TOGETHER).map(|_| self.request(offset, max_wait_ms));
            requests.flatten().collect()
        };
        taken_per_request(client, frames)
    }
}

fn start(dir: &Path) -> (Client, impl FnOnce()) {
    let (stop, stopped) = lane(1);
    let (ready, started) = mpsc::channel();
    let shards = Shards {
        count: 1,
        cpus: Vec::new(),
        memory_bytes: MEMORY_BYTES,
        durable_writes: DurableWrites::Dsync,
    };
    let tell = move |started: corelane::node::Started| {
        ready.send(started.listeners[0][0]).expect("heard");
    };
    let handles = run_on_threads(&shards, options(dir), tell, stopped).expect("started");
    let client = Client::open(started.recv().expect("an address"));
    let end = move || {
        stop.try_send(()).expect("the node waits for it");
        for handle in handles {
            handle.join().expect("no panic").expect("a clean stop");
        }
    };
    (client, end)
}

fn few_enough(what: &str, version: i16, taken: f64) {
    println!("{what} version {version}: {taken:.2} per request");
    assert!(taken < PER_REQUEST_MAX, "{what}: {taken} per request");
}

#[test]
fn a_warm_broker_takes_no_memory_for_a_hot_request() {
    IS_CLIENT.set(true);
    let dir = tempfile::tempdir().expect("a directory");
    let (mut client, end) = start(dir.path());
    let topic = client.create_topic();
    for version in [12, *ApiKey::Produce.versions().end()] {
        let frame = produce_request(topic, version);
        client.send_together(&frame, 1);
        let (_, response) =
            decode_response::<ProduceResponse<'_>>(&client.answer, version).expect("an answer");
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::None);
        let frames = frame.repeat(TOGETHER);
        let taken = taken_per_request(&mut client, || frames.clone());
        few_enough("Produce", version, taken);
    }
    // One of each version, and all that were sent together.
    let end_offset = Offset(2 * (1 + (TOGETHER * (WARM_UP + COUNTED)) as i64));
    for version in [12, *ApiKey::Fetch.versions().end()] {
        let mut consumer = Consumer::open(&mut client, topic, version);
        let last = Offset(end_offset.0 - 1);
        let taken = consumer.taken(&mut client, last, 30_000);
        assert!(consumer.said(&client).1.is_some_and(|bytes| bytes > 500));
        few_enough("Fetch of a batch", version, taken);
        let taken = consumer.taken(&mut client, end_offset, 1);
        assert_eq!(consumer.said(&client).1, None);
        few_enough("Fetch of nothing", version, taken);
    }
    end();
}
