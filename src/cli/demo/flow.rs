//! Records in and out of a broker: the ingest, and the readers that check what comes back.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::check::Checker;
use super::corpus::Corpus;
use crate::cli::connect::{MEMORY_BYTES, Rt};
use crate::cli::terminal::progress::Progress;
use crate::cli::{CliError, Context, Exit};
use crate::client::{
    Batcher, BatcherOptions, Client, ClientOptions, Consumer, ConsumerOptions, Deliveries, Fetched,
    Producer, ProducerOptions, When,
};
use crate::compress::{Codecs, Level};
use crate::model::batch::Header;
use crate::model::{Codec, Offset};
use crate::rt::{DurableWrites, Runtime, Shards, run_shards};

/// Bytes on their way at a time: enough to keep a broker busy, little enough for the
/// acknowledgement's time to be the broker's and not the queue's.
const IN_FLIGHT_BYTES: usize = 4 << 20;
/// Lines sent before other tasks get their turn.
const LINES_PER_TURN: usize = 1000;
/// A reader that waits so long for the next record waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// One codec's way through a broker.
#[derive(Clone)]
pub(super) struct Flow {
    pub(super) corpus: Arc<Corpus>,
    pub(super) options: ClientOptions,
    pub(super) topic: String,
    pub(super) codec: Codec,
    pub(super) context: Context,
}

/// What an ingest and its tail consumer measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingested {
    pub(super) seconds: f64,
    pub(super) tail_seconds: f64,
    pub(super) ack_p50_us: u64,
    pub(super) ack_p99_us: u64,
}

/// What one of the two threads brings.
enum Half {
    Sent { seconds: f64, ack_us: [u64; 2] },
    Read { seconds: f64 },
}

impl Flow {
    /// The codec's name.
    pub(super) fn codec_name(&self) -> &'static str {
        self.codec.name()
    }

    /// Sends every record while a tail consumer, in a thread of its own, reads and compares them.
    pub(super) fn ingest_and_tail(&self) -> Result<Ingested, CliError> {
        let failed = Arc::new(AtomicBool::new(false));
        let threads = Shards {
            count: 2,
            cpus: Vec::new(),
            memory_bytes: MEMORY_BYTES,
            durable_writes: DurableWrites::default(),
        };
        let flow = self.clone();
        let run = move |rt: Rt, thread| async move {
            let half = match thread {
                0 => flow.ingest(rt, &failed).await,
                _ => flow.read(rt, "tail", &failed).await,
            };
            failed.fetch_or(half.is_err(), Ordering::Relaxed);
            half
        };
        let mut halves = Vec::new();
        for thread in run_shards(&threads, run)? {
            halves.push(thread.join()?);
        }
        match <[_; 2]>::try_from(halves) {
            Ok([sent, read]) => match (sent?, read?) {
                (
                    Half::Sent {
                        seconds,
                        ack_us: [ack_p50_us, ack_p99_us],
                    },
                    Half::Read {
                        seconds: tail_seconds,
                    },
                ) => Ok(Ingested {
                    seconds,
                    tail_seconds,
                    ack_p50_us,
                    ack_p99_us,
                }),
                _ => unreachable!("the first thread sends, the second reads"),
            },
            Err(_) => unreachable!("two threads were started"),
        }
    }

    /// Reads and compares everything from the beginning; returns how many seconds it took.
    pub(super) async fn read_cold(&self, rt: Rt) -> Result<f64, CliError> {
        match self.read(rt, "cold", &AtomicBool::new(false)).await? {
            Half::Read { seconds } | Half::Sent { seconds, .. } => Ok(seconds),
        }
    }

    async fn ingest(&self, rt: Rt, failed: &AtomicBool) -> Result<Half, CliError> {
        let client = Client::new(rt.clone(), self.options.clone());
        let options = ProducerOptions {
            acks: -1,
            idempotent: true,
            codec: Level::default_of(self.codec),
        };
        let producer = Producer::new(client, options).await?;
        let count = self.corpus.partitions().len() as i32;
        let options = BatcherOptions {
            in_flight_bytes: IN_FLIGHT_BYTES,
            ..BatcherOptions::default()
        };
        let batcher = Batcher::new(rt.clone(), producer.clone(), &self.topic, count, options);
        let started = rt.now();
        let sent = self.send_all(batcher, &rt, failed).await;
        producer.close();
        let deliveries = sent?;
        Ok(Half::Sent {
            seconds: (rt.now() - started).as_secs_f64(),
            ack_us: [0.5, 0.99].map(|quantile| deliveries.latency_us(quantile)),
        })
    }

    async fn send_all(
        &self,
        mut batcher: Batcher<Rt>,
        rt: &Rt,
        failed: &AtomicBool,
    ) -> Result<Rc<Deliveries>, CliError> {
        let partitions = self.corpus.partitions().len() as i32;
        let what = format!("ingest, {}", self.codec_name());
        let total = Some(self.corpus.bytes());
        let mut progress = Progress::new(&self.context, what, total, rt.now());
        let mut sent_bytes = 0;
        for line in 0..self.corpus.records() {
            let expected = self.corpus.expected(line);
            let mut headers = [Header {
                key: b"",
                value: None,
            }; 2];
            let record = expected.record(&mut headers);
            sent_bytes += record.value.map_or(0, <[u8]>::len) as u64;
            let partition = self.corpus.partition(line, partitions);
            batcher.append(Some(partition), record).await?;
            if line % LINES_PER_TURN == 0 {
                progress.show(sent_bytes, rt.now());
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                rt.yield_now().await;
            }
        }
        progress.finish();
        Ok(batcher.finish().await?)
    }

    async fn read(&self, rt: Rt, kind: &str, failed: &AtomicBool) -> Result<Half, CliError> {
        let client = Client::new(rt.clone(), self.options.clone());
        let mut consumer = Consumer::new(client, ConsumerOptions::default());
        let mut checker = Checker::new(&self.corpus, &self.topic);
        for partition in 0..self.corpus.partitions().len() as i32 {
            if !checker.has_all_of(partition) {
                consumer.assign(&self.topic, partition, Offset(0));
            }
        }
        let what = format!("read {kind}, {}", self.codec_name());
        let mut progress = Progress::new(&self.context, what, None, rt.now());
        let mut codecs = Codecs::new();
        let started = rt.now();
        let (mut last_read, mut read_bytes) = (started, 0);
        while !checker.is_complete() {
            for fetched in consumer.poll().await? {
                if !fetched.bytes().is_empty() {
                    last_read = rt.now();
                }
                read_bytes += fetched.bytes().len() as u64;
                compare(&fetched, &mut codecs, &mut checker)?;
                if checker.has_all_of(fetched.partition) {
                    consumer.unassign(&self.topic, fetched.partition);
                }
            }
            if failed.load(Ordering::Relaxed) {
                return Err(checker.missing("the ingest failed"));
            }
            if rt.now() - last_read > PATIENCE {
                return Err(checker.missing("nothing more came"));
            }
            // Beside a tail consumer the ingest shows how far it is.
            if kind == "cold" {
                progress.show(read_bytes, rt.now());
            }
            rt.yield_now().await;
        }
        progress.finish();
        Ok(Half::Read {
            seconds: (rt.now() - started).as_secs_f64(),
        })
    }

    /// Nothing but what was sent: each partition ends where its lines do.
    pub(super) async fn check_ends(&self, client: &Client<Rt>) -> Result<(), CliError> {
        let partitions: Vec<i32> = (0..self.corpus.partitions().len() as i32).collect();
        let ends = client
            .list_offsets(&self.topic, &partitions, When::End)
            .await?;
        for (partition, lines) in self.corpus.partitions().iter().enumerate() {
            let end = ends
                .get(&(partition as i32))
                .and_then(|listed| listed.offset);
            if end != Some(Offset(lines.len() as i64)) {
                let what = format!(
                    "{}-{partition} ends at offset {}, but {} records were sent",
                    self.topic,
                    end.map_or(-1, |end| end.0),
                    lines.len()
                );
                return Err(CliError::new(Exit::Failure, what));
            }
        }
        Ok(())
    }
}

fn compare(
    fetched: &Fetched,
    codecs: &mut Codecs,
    checker: &mut Checker<'_>,
) -> Result<(), CliError> {
    let mut outcome = Ok(());
    fetched.for_each_record(codecs, |offset, timestamp_ms, record| {
        if outcome.is_ok() {
            outcome = checker.take(fetched.partition, offset.0, timestamp_ms, record);
        }
    })?;
    outcome
}
