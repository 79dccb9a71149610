//! A producer: batches go to the leaders of their partitions, several at a time and in order, and
//! are sent again until they are acknowledged or too old.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use super::cluster::refused;
use super::{Answer, Backoff, Client, ClientError, PendingAnswer};
use crate::compress::{Codecs, Level};
use crate::model::batch::{BatchBuilder, BatchFields, Compression, increment_sequence};
use crate::model::{Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use crate::rt::{Buf, Event, Runtime, TaskClass};
use crate::wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, PartitionProduceData, ProduceRequest,
    ProduceResponse, TopicProduceData,
};
use crate::wire::{ApiKey, ErrorCode, Records};

/// Batches of one partition under way: what idempotence keeps in order (Kafka keeps five).
const WINDOW: usize = 5;
/// A batch is given up after so many times the client's timeout, in which one answer must come.
const ATTEMPTS: u32 = 3;
/// The last Produce version that names topics by name, for brokers that have no topic ids.
const LAST_VERSION_BY_NAME: i16 = 12;

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// 0, 1 or −1 (all in-sync replicas).
    pub acks: i16,
    /// Whether retries are recognised by the broker; needs acks −1.
    pub idempotent: bool,
    /// Codec of the batches; none leaves them plain.
    pub codec: Option<Level>,
}

/// What the broker said of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Offset of its first record; −1 with acks=0.
    pub base_offset: Offset,
}

/// An acknowledgement that is to come.
pub type Delivery = oneshot::Receiver<Result<Delivered, ClientError>>;

/// A producer over a client. Clones share it.
pub struct Producer<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    client: Client<R>,
    options: ProducerOptions,
    identity: Cell<(ProducerId, ProducerEpoch)>,
    lanes: RefCell<BTreeMap<(String, i32), Rc<Lane>>>,
    codecs: RefCell<Codecs>,
}

/// The batches of one partition.
struct Lane {
    topic: String,
    partition: i32,
    next_sequence: Cell<i32>,
    queue: RefCell<VecDeque<Batch>>,
    queued: Event,
    closed: Cell<bool>,
    /// The broker knows the producer: nothing has failed since its last acknowledgement.
    is_known: Cell<bool>,
}

struct Batch {
    bytes: Buf,
    deadline: Duration,
    delivery: oneshot::Sender<Result<Delivered, ClientError>>,
}

type InFlight<R> = VecDeque<(Batch, PendingAnswer<R>)>;

impl<R: Runtime> Clone for Producer<R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Producer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer over {:?}", self.inner.client)
    }
}

impl<R: Runtime> Producer<R> {
    /// A producer; an idempotent one asks the cluster for its id first.
    pub async fn new(client: Client<R>, options: ProducerOptions) -> Result<Self, ClientError> {
        let identity = if options.idempotent {
            init_producer_id(&client).await?
        } else {
            (ProducerId::NONE, ProducerEpoch(-1))
        };
        let (lanes, codecs) = Default::default();
        let identity = Cell::new(identity);
        Ok(Self {
            inner: Rc::new(Inner {
                client,
                options,
                identity,
                lanes,
                codecs,
            }),
        })
    }

    /// Takes the records gathered in `records` as the next batch of a partition, and empties it.
    /// Waiting for the delivery is the caller's, who also bounds how much is under way.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        records: &mut BatchBuilder,
    ) -> Result<Delivery, ClientError> {
        let lane = self.lane(topic, partition);
        let bytes = self.seal(&lane, records)?;
        records.clear();
        let (delivery, receiver) = oneshot::channel();
        let limit = self.inner.client.timeout() * ATTEMPTS;
        let deadline = self.inner.client.rt().now() + limit;
        lane.queue.borrow_mut().push_back(Batch {
            bytes: Buf::from_vec(bytes),
            deadline,
            delivery,
        });
        lane.queued.notify();
        Ok(receiver)
    }

    /// Ends the producer's tasks once what was sent is delivered.
    pub fn close(&self) {
        for lane in self.inner.lanes.borrow().values() {
            lane.closed.set(true);
            lane.queued.notify();
        }
    }

    fn lane(&self, topic: &str, partition: i32) -> Rc<Lane> {
        let key = (topic.to_owned(), partition);
        let mut lanes = self.inner.lanes.borrow_mut();
        if let Some(lane) = lanes.get(&key) {
            return lane.clone();
        }
        let lane = Rc::new(Lane {
            topic: key.0.clone(),
            partition,
            next_sequence: Cell::new(0),
            queue: RefCell::default(),
            queued: Event::new(),
            closed: Cell::new(false),
            is_known: Cell::new(false),
        });
        lanes.insert(key, lane.clone());
        let rt = self.inner.client.rt();
        rt.spawn(TaskClass::Foreground, self.clone().run_lane(lane.clone()));
        lane
    }

    fn seal(&self, lane: &Lane, records: &BatchBuilder) -> Result<Vec<u8>, ClientError> {
        let unsealable = |reason: String| ClientError::Corrupt {
            topic: lane.topic.clone(),
            partition: lane.partition,
            offset: -1,
            reason,
        };
        let mut fields = records
            .fields()
            .map_err(|error| unsealable(error.to_string()))?;
        (fields.producer_id, fields.producer_epoch) = self.inner.identity.get();
        if self.inner.options.idempotent {
            fields.base_sequence = lane.next_sequence.get();
            lane.next_sequence
                .set(increment_sequence(fields.base_sequence, records.count()));
        }
        let mut bytes = Vec::with_capacity(records.batch_bytes());
        BatchFields::reserve(&mut bytes);
        match self.inner.options.codec {
            Some(level) => {
                fields.compression = Compression::ALL[level.codec() as usize];
                let mut codecs = self.inner.codecs.borrow_mut();
                codecs
                    .compress(level, records.records(), &mut bytes)
                    .map_err(|error| unsealable(error.to_string()))?;
            }
            None => bytes.extend_from_slice(records.records()),
        }
        fields
            .seal(&mut bytes)
            .map_err(|error| unsealable(error.to_string()))?;
        Ok(bytes)
    }

    async fn run_lane(self, lane: Rc<Lane>) {
        let mut in_flight = InFlight::new();
        let mut backoff = Backoff::default();
        loop {
            let filled = self.fill_window(&lane, &mut in_flight, lane.window()).await;
            if let Some((batch, answer)) = in_flight.pop_front() {
                match self.acknowledged(&lane, answer, &mut in_flight).await {
                    Ok(delivered) => {
                        backoff = Backoff::default();
                        lane.is_known.set(true);
                        // Whoever sent it may not wait for it any more.
                        let _ = batch.delivery.send(Ok(delivered));
                    }
                    Err(error) => {
                        self.recover(&lane, batch, error, &mut in_flight).await;
                        backoff.wait(self.inner.client.rt()).await;
                    }
                }
            } else if let Err(error) = filled {
                self.give_up_or_keep(&lane, error);
                backoff.wait(self.inner.client.rt()).await;
            } else if !lane.wait_for_more().await {
                return;
            }
        }
    }

    /// Sends queued batches until `limit` are under way.
    async fn fill_window(
        &self,
        lane: &Lane,
        in_flight: &mut InFlight<R>,
        limit: usize,
    ) -> Result<(), ClientError> {
        while in_flight.len() < limit && !lane.queue.borrow().is_empty() {
            let (_, connection) = self
                .inner
                .client
                .leader(&lane.topic, lane.partition)
                .await?;
            let topic_id = self.inner.client.topic_id(&lane.topic);
            let newest = connection.version(ApiKey::Produce)?;
            let version = if topic_id == TopicId::ZERO {
                newest.min(LAST_VERSION_BY_NAME)
            } else {
                newest
            };
            let Some(batch) = lane.queue.borrow_mut().pop_front() else {
                break;
            };
            let request = self.request(lane, topic_id, &batch);
            let bytes = std::slice::from_ref(&batch.bytes);
            let sent = if self.inner.options.acks == 0 {
                let written = connection.send_only(&request, version, bytes).await;
                written.map(|()| None)
            } else {
                connection.send(&request, version, bytes).map(Some)
            };
            match sent {
                Ok(Some(answer)) => in_flight.push_back((batch, answer)),
                Ok(None) => {
                    let _ = batch.delivery.send(Ok(Delivered {
                        base_offset: Offset(-1),
                    }));
                }
                Err(error) => {
                    lane.queue.borrow_mut().push_front(batch);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn request(&self, lane: &Lane, topic_id: TopicId, batch: &Batch) -> ProduceRequest<'static> {
        let partition = PartitionProduceData {
            index: PartitionIndex(lane.partition),
            records: Some(Records::Elsewhere(batch.bytes.len() as u32)),
        };
        let topic = TopicProduceData {
            name: lane.topic.clone().into(),
            topic_id,
            partition_data: partition.into(),
        };
        ProduceRequest {
            transactional_id: None,
            acks: self.inner.options.acks,
            timeout_ms: self.inner.client.timeout_ms(),
            topic_data: topic.into(),
        }
    }

    /// The answer to the oldest batch; while it is awaited, the window is kept full.
    async fn acknowledged(
        &self,
        lane: &Lane,
        answer: PendingAnswer<R>,
        in_flight: &mut InFlight<R>,
    ) -> Result<Delivered, ClientError> {
        let mut answer = pin!(self.answer_in_time(answer));
        // The oldest is under way too, though not among the others.
        let others = lane.window() - 1;
        while in_flight.len() < others {
            match select(answer.as_mut(), pin!(lane.wait_for_more())).await {
                Either::Left((result, _)) => return self.outcome(lane, result),
                Either::Right((true, _)) => {
                    if self.fill_window(lane, in_flight, others).await.is_err() {
                        break;
                    }
                }
                Either::Right((false, _)) => break,
            }
        }
        let result = answer.await;
        self.outcome(lane, result)
    }

    async fn answer_in_time(&self, answer: PendingAnswer<R>) -> Result<Answer, ClientError> {
        let client = &self.inner.client;
        client.within(client.timeout(), "Produce", answer).await
    }

    fn outcome(
        &self,
        lane: &Lane,
        answer: Result<Answer, ClientError>,
    ) -> Result<Delivered, ClientError> {
        let answer = answer?;
        let response: ProduceResponse = answer.read()?;
        let what = || format!("produce to {}-{}", lane.topic, lane.partition);
        let partition = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .ok_or_else(|| refused(what(), ErrorCode::UnknownServerError))?;
        match partition.error_code {
            // A retry of what is stored already, beyond the batches that the broker remembers.
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Ok(Delivered {
                base_offset: partition.base_offset,
            }),
            code => {
                let message = partition.error_message.as_deref().map(str::to_owned);
                Err(ClientError::Refused {
                    what: what(),
                    code,
                    message,
                })
            }
        }
    }

    /// After a failure: whatever else is under way is awaited, and all that was not acknowledged
    /// is queued again in the old order.
    async fn recover(
        &self,
        lane: &Lane,
        failed: Batch,
        error: ClientError,
        in_flight: &mut InFlight<R>,
    ) {
        lane.is_known.set(false);
        let mut again = VecDeque::new();
        self.fail_or_retry(failed, error, &mut again);
        while let Some((batch, answer)) = in_flight.pop_front() {
            let answer = self.answer_in_time(answer).await;
            match self.outcome(lane, answer) {
                Ok(delivered) => {
                    let _ = batch.delivery.send(Ok(delivered));
                }
                Err(error) => self.fail_or_retry(batch, error, &mut again),
            }
        }
        let mut queue = lane.queue.borrow_mut();
        while let Some(batch) = again.pop_back() {
            queue.push_front(batch);
        }
        drop(queue);
        self.inner.client.forget(&lane.topic);
    }

    fn fail_or_retry(&self, batch: Batch, error: ClientError, again: &mut VecDeque<Batch>) {
        // Behind a batch that failed, later ones of the window are out of order until it is there.
        let follows = matches!(
            error,
            ClientError::Refused {
                code: ErrorCode::OutOfOrderSequenceNumber,
                ..
            }
        ) && !again.is_empty();
        let in_time = self.inner.client.rt().now() < batch.deadline;
        if (error.is_retriable() || follows) && in_time {
            again.push_back(batch);
        } else {
            let _ = batch.delivery.send(Err(error));
        }
    }

    /// Nothing could be sent: batches that are too old, or that can never be sent, fail.
    fn give_up_or_keep(&self, lane: &Lane, error: ClientError) {
        let now = self.inner.client.rt().now();
        let retriable = error.is_retriable() || matches!(error, ClientError::Unreachable { .. });
        let mut queue = lane.queue.borrow_mut();
        let old = queue
            .iter()
            .take_while(|batch| !retriable || batch.deadline <= now)
            .count();
        let mut error = Some(error);
        for batch in queue.drain(..old) {
            let error = error
                .take()
                .unwrap_or_else(|| refused("produce", ErrorCode::RequestTimedOut));
            let _ = batch.delivery.send(Err(error));
        }
        drop(queue);
        self.inner.client.forget(&lane.topic);
    }
}

impl Lane {
    /// How many batches may be under way. A broker takes any sequence of a producer that it does not
    /// know (KIP-360): were the first batch to fail and the second to be taken, the first could never
    /// follow. So one goes alone until it is acknowledged.
    fn window(&self) -> usize {
        if self.is_known.get() { WINDOW } else { 1 }
    }

    /// Waits until something is queued; false when nothing will be any more.
    async fn wait_for_more(&self) -> bool {
        self.queued
            .wait_until(|| {
                if !self.queue.borrow().is_empty() {
                    Some(true)
                } else {
                    self.closed.get().then_some(false)
                }
            })
            .await
    }
}

async fn init_producer_id<R: Runtime>(
    client: &Client<R>,
) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let ask = || async {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: i32::MAX,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            ..Default::default()
        };
        let answer = client.any().await?.call(&request).await?;
        let response: InitProducerIdResponse = answer.read()?;
        response
            .error_code
            .ok()
            .map_err(|code| refused("InitProducerId", code))?;
        Ok((response.producer_id, response.producer_epoch))
    };
    client.retry("InitProducerId", ask).await
}
