//! Idempotent producers that go on through every end of the broker.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use corelane::wire::ErrorCode;

use crate::common::{Batch, Broker, Connection, Noise};
use crate::history::{self, History};

/// Batches of a partition that the broker recognises when they come again.
const WINDOW: usize = 5;
const ACK_LIMIT: Duration = Duration::from_secs(60);

/// What the producers of a run share.
pub struct Load {
    bootstrap: SocketAddr,
    stopping: AtomicBool,
    /// Starts of the broker so far.
    start: AtomicU64,
    first_ack: Mutex<Option<Instant>>,
}

struct Sent {
    first: u64,
    count: u64,
    bytes: Vec<u8>,
}

struct Producer<'a> {
    load: &'a Load,
    topic: &'a str,
    partition: i32,
    identity: (i64, i16),
    next: u64,
    pending: VecDeque<Sent>,
    history: History,
    noise: Noise,
}

impl Load {
    pub fn new(bootstrap: SocketAddr) -> Self {
        Self {
            bootstrap,
            stopping: AtomicBool::new(false),
            start: AtomicU64::new(0),
            first_ack: Mutex::new(None),
        }
    }

    /// The broker is about to start again.
    pub fn restarted(&self) {
        self.start.fetch_add(1, SeqCst);
        *self.first_ack.lock().expect("no panic") = None;
    }

    /// Time from `started` to the first acknowledgement since.
    pub fn wait_for_ack(&self, started: Instant, broker: &Broker) -> Duration {
        loop {
            if let Some(at) = *self.first_ack.lock().expect("no panic") {
                return at - started;
            }
            assert!(
                started.elapsed() < ACK_LIMIT,
                "no acknowledgement\n{}",
                broker.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// No new batches; those that were sent are seen through.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
    }

    fn acknowledged(&self, start: u64) {
        if start == self.start.load(SeqCst) {
            let mut first = self.first_ack.lock().expect("no panic");
            first.get_or_insert_with(Instant::now);
        }
    }
}

/// Writes to a partition until told to stop and until all is acknowledged.
pub fn produce_until_stopped(load: &Load, topic: &str, partition: i32) -> History {
    let mut bootstrap = Connection::open(load.bootstrap).expect("the first start");
    let mut producer = Producer {
        load,
        topic,
        partition,
        identity: bootstrap.producer_id().expect("a producer id"),
        next: 0,
        pending: VecDeque::new(),
        history: History::default(),
        noise: Noise::new(partition as u64 + 1),
    };
    let mut stopping_since = None;
    while !producer.is_done() {
        if load.stopping.load(SeqCst) {
            let since = *stopping_since.get_or_insert_with(Instant::now);
            assert!(
                since.elapsed() < ACK_LIMIT,
                "{} batches not acknowledged",
                producer.pending.len()
            );
        }
        // A connection ends with the broker; the next one sends again what was not acknowledged.
        if producer.use_one_connection().is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    producer.history
}

impl Producer<'_> {
    fn is_done(&self) -> bool {
        self.load.stopping.load(SeqCst) && self.pending.is_empty()
    }

    fn use_one_connection(&mut self) -> io::Result<()> {
        let start = self.load.start.load(SeqCst);
        let leaders = Connection::open(self.load.bootstrap)?.leaders(self.topic)?;
        let leader = leaders
            .get(&self.partition)
            .ok_or(io::ErrorKind::NotFound)?;
        let mut connection = Connection::open(*leader)?;
        for sent in &self.pending {
            connection.send_batch(self.topic, self.partition, &sent.bytes)?;
        }
        self.history.sent_again += self.pending.len() as u64;
        while !self.is_done() {
            while self.pending.len() < WINDOW && !self.load.stopping.load(SeqCst) {
                self.send_next(&mut connection)?;
            }
            self.take_ack(connection.receive_ack()?)?;
            self.load.acknowledged(start);
        }
        Ok(())
    }

    fn send_next(&mut self, connection: &mut Connection) -> io::Result<()> {
        let count = 1 + self.noise.below(20) as u64;
        let longest = if self.noise.below(20) == 0 {
            30_000
        } else {
            500
        };
        let len = self.noise.below(longest);
        let values = (0..count).map(|nth| history::value(self.partition, self.next + nth, len));
        let (id, epoch) = self.identity;
        let sequence = i32::try_from(self.next).expect("fewer records");
        let mut batch = Batch::of(values);
        batch.producer = Some((id, epoch, sequence));
        let bytes = batch.bytes();
        let first = self.next;
        self.next += count;
        self.pending.push_back(Sent {
            first,
            count,
            bytes,
        });
        let sent = self.pending.back().expect("just put there");
        connection.send_batch(self.topic, self.partition, &sent.bytes)
    }

    fn take_ack(&mut self, answer: Result<i64, ErrorCode>) -> io::Result<()> {
        match answer {
            Ok(offset) => {
                let sent = self.pending.pop_front().expect("an answer to something");
                self.history.acknowledged(sent.first, sent.count, offset);
                Ok(())
            }
            Err(code) if code.is_retriable() && code != ErrorCode::OutOfOrderSequenceNumber => {
                Err(io::Error::other(format!("{code:?}")))
            }
            Err(code) => panic!(
                "{}-{}: {code:?} for the batch of record {:?}",
                self.topic,
                self.partition,
                self.pending.front().map(|sent| sent.first),
            ),
        }
    }
}
