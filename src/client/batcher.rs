//! Records into batches: full ones leave at once, others when they have lingered.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use hdrhistogram::Histogram;

use super::partitioner::{Sticky, partition_of};
use super::{ClientError, Delivered, Producer};
use crate::model::batch::{BatchBuilder, Header};
use crate::rt::{Budget, Event, Permit, Runtime, TaskClass};

/// How records are gathered.
#[derive(Clone, Copy, Debug)]
pub struct BatcherOptions {
    /// Size at which a batch is sent, in uncompressed bytes.
    pub batch_bytes: usize,
    /// How long a batch waits to fill.
    pub linger: Duration,
    /// Uncompressed bytes that may be on their way; appending waits beyond.
    pub in_flight_bytes: usize,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self {
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            in_flight_bytes: 16 << 20,
        }
    }
}

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// Its key; decides the partition.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

impl NewRecord<'_> {
    /// Bytes of key, value and headers.
    pub fn payload_bytes(&self) -> usize {
        let optional = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        let headers = headers.map(|header| header.key.len() + optional(header.value));
        optional(self.key) + optional(self.value) + headers.sum::<usize>()
    }
}

/// What became of the batches so far. Records have numbers, from 1, in the order in which they were
/// taken.
#[derive(Debug)]
pub struct Deliveries {
    taken: Cell<u64>,
    records: Cell<u64>,
    bytes: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
    failure: RefCell<Option<ClientError>>,
    failed: Cell<Option<Span>>,
    /// The first record of every batch that is not acknowledged.
    open: RefCell<BTreeSet<u64>>,
    under_way: Cell<usize>,
    changed: Event,
}

/// The records of one batch. Others may lie between them, in batches of other partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// How many there are.
    pub count: u64,
}

/// Gathers the records of one topic into batches of a producer.
pub struct Batcher<R: Runtime> {
    rt: R,
    producer: Producer<R>,
    topic: Rc<str>,
    options: BatcherOptions,
    open: BTreeMap<i32, OpenBatch>,
    partitions: i32,
    sticky: Sticky,
    in_flight: Budget,
    deliveries: Rc<Deliveries>,
}

struct OpenBatch {
    records: BatchBuilder,
    due: Duration,
    first: u64,
    last: u64,
    payload_bytes: u64,
}

impl<R: Runtime> fmt::Debug for Batcher<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batcher of {}", self.topic)
    }
}

impl<R: Runtime> Batcher<R> {
    /// For a topic with so many partitions.
    pub fn new(
        rt: R,
        producer: Producer<R>,
        topic: &str,
        partitions: i32,
        options: BatcherOptions,
    ) -> Self {
        Self {
            sticky: Sticky::new(partitions, rt.random_u64()),
            rt,
            producer,
            topic: topic.into(),
            in_flight: Budget::new(options.in_flight_bytes),
            options,
            open: BTreeMap::new(),
            partitions,
            deliveries: Rc::default(),
        }
    }

    /// Takes a record for `partition`, or for the one that Kafka's default partitioner chooses;
    /// returns which. Waits while too much is on its way; fails once any batch has failed.
    pub async fn append(
        &mut self,
        partition: Option<i32>,
        record: NewRecord<'_>,
    ) -> Result<i32, ClientError> {
        let chosen = partition.unwrap_or_else(|| match record.key {
            Some(key) => partition_of(key, self.partitions),
            None => self.sticky.current(),
        });
        let payload_bytes = record.payload_bytes();
        if payload_bytes >= self.options.batch_bytes {
            // It fills a batch alone: should it be too large, nothing else is refused with it.
            self.send(chosen).await?;
        }
        let due = self.rt.now() + self.options.linger;
        let number = self.deliveries.taken.get() + 1;
        let open = self.open.entry(chosen).or_insert_with(|| OpenBatch {
            records: BatchBuilder::new(),
            due,
            first: number,
            last: number,
            payload_bytes: 0,
        });
        if open.records.is_empty() {
            (open.due, open.first, open.payload_bytes) = (due, number, 0);
            self.deliveries.open.borrow_mut().insert(number);
        }
        open.last = number;
        open.payload_bytes += payload_bytes as u64;
        self.deliveries.taken.set(number);
        open.records
            .append(
                record.timestamp_ms,
                record.key,
                record.value,
                record.headers,
            )
            .map_err(|error| self.unfit(chosen, &error.to_string()))?;
        let is_full = self
            .open
            .get(&chosen)
            .is_some_and(|open| open.records.batch_bytes() >= self.options.batch_bytes);
        if is_full {
            self.send(chosen).await?;
        }
        Ok(chosen)
    }

    /// When the oldest open batch has lingered long enough; none when none is open.
    pub fn next_due(&self) -> Option<Duration> {
        let open = self.open.values().filter(|open| !open.records.is_empty());
        open.map(|open| open.due).min()
    }

    /// Sends every batch that is due.
    pub async fn send_due(&mut self) -> Result<(), ClientError> {
        let now = self.rt.now();
        self.send_those(|open| open.due <= now).await
    }

    /// Sends everything and waits for all acknowledgements.
    pub async fn finish(mut self) -> Result<Rc<Deliveries>, ClientError> {
        self.send_those(|_| true).await?;
        let deliveries = self.deliveries.clone();
        let all = || (deliveries.under_way.get() == 0).then_some(());
        deliveries.changed.wait_until(all).await;
        deliveries.check()?;
        Ok(deliveries)
    }

    /// What became of the batches so far.
    pub fn deliveries(&self) -> &Rc<Deliveries> {
        &self.deliveries
    }

    async fn send_those(&mut self, wanted: impl Fn(&OpenBatch) -> bool) -> Result<(), ClientError> {
        let partitions: Vec<i32> = self
            .open
            .iter()
            .filter(|(_, open)| !open.records.is_empty() && wanted(open))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in partitions {
            self.send(partition).await?;
        }
        Ok(())
    }

    async fn send(&mut self, partition: i32) -> Result<(), ClientError> {
        let open = self.open.get_mut(&partition);
        let Some(open) = open.filter(|open| !open.records.is_empty()) else {
            return Ok(());
        };
        let bytes = open.records.batch_bytes();
        // A single record may be larger than everything that may be on its way.
        let memory = self
            .in_flight
            .acquire(bytes.min(self.options.in_flight_bytes));
        let memory = memory.await;
        self.deliveries.check()?;
        let span = Span {
            first: open.first,
            last: open.last,
            count: open.records.count() as u64,
        };
        let payload_bytes = open.payload_bytes;
        let delivery = self
            .producer
            .send(&self.topic, partition, &mut open.records)
            .inspect_err(|_| self.deliveries.failed.set(Some(span)))?;
        if partition == self.sticky.current() {
            self.sticky.advance();
        }
        let (rt, deliveries) = (self.rt.clone(), self.deliveries.clone());
        let sent_at = rt.now();
        deliveries.under_way.set(deliveries.under_way.get() + 1);
        self.rt.spawn(TaskClass::Foreground, async move {
            let delivered = delivery.await;
            let took = rt.now() - sent_at;
            match delivered {
                Ok(result) => deliveries.note(result, span, payload_bytes, took),
                // The producer is gone, and with it the reason.
                Err(_) => deliveries.changed.notify(),
            }
            deliveries.end(memory);
        });
        Ok(())
    }

    fn unfit(&self, partition: i32, reason: &str) -> ClientError {
        ClientError::Corrupt {
            topic: self.topic.to_string(),
            partition,
            offset: -1,
            reason: reason.to_owned(),
        }
    }
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            taken: Cell::default(),
            records: Cell::default(),
            bytes: Cell::default(),
            latency_us: RefCell::new(histogram()),
            failure: RefCell::default(),
            failed: Cell::default(),
            open: RefCell::default(),
            under_way: Cell::default(),
            changed: Event::new(),
        }
    }
}

impl Deliveries {
    /// Records taken, the number of the last one.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Records acknowledged.
    pub fn records(&self) -> u64 {
        self.records.get()
    }

    /// So many of the first records are acknowledged, each of them; later ones may be as well.
    pub fn all_up_to(&self) -> u64 {
        match self.open.borrow().first() {
            Some(first) => first - 1,
            None => self.taken(),
        }
    }

    /// The first of the batches that failed.
    pub fn failed(&self) -> Option<Span> {
        self.failed.get()
    }

    /// Waits until the fate of every batch under way is known, but no longer than `limit`.
    pub async fn settle<R: Runtime>(&self, rt: &R, limit: Duration) {
        let all = || (self.under_way.get() == 0).then_some(());
        let settled = std::pin::pin!(self.changed.wait_until(all));
        select(settled, std::pin::pin!(rt.sleep(limit))).await;
    }

    /// Bytes of keys, values and headers acknowledged.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Microseconds from sending a batch to its acknowledgement, at a quantile from 0 to 1.
    pub fn latency_us(&self, quantile: f64) -> u64 {
        self.latency_us.borrow().value_at_quantile(quantile)
    }

    /// The first failure, once.
    fn check(&self) -> Result<(), ClientError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn note(&self, result: Result<Delivered, ClientError>, span: Span, bytes: u64, took: Duration) {
        match result {
            Ok(_) => {
                self.records.set(self.records.get() + span.count);
                self.open.borrow_mut().remove(&span.first);
                self.bytes.set(self.bytes.get() + bytes);
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latency_us.borrow_mut().saturating_record(took_us);
            }
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                let earlier = self.failed.get().filter(|known| known.first < span.first);
                self.failed.set(Some(earlier.unwrap_or(span)));
            }
        }
    }

    fn end(&self, memory: Permit) {
        drop(memory);
        self.under_way.set(self.under_way.get() - 1);
        self.changed.notify();
    }
}

/// Microseconds up to a minute, three digits.
fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}
