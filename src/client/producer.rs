//! A producer: batches go to the leaders of their partitions, several at a time and in order, and
//! are sent again until they are acknowledged or the client's timeout is over.

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
use crate::model::batch::{BatchBuilder, BatchFields, increment_sequence};
use crate::model::{Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use crate::rt::{Buf, Event, Runtime, TaskClass};
use crate::wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, PartitionProduceData, ProduceRequest,
    ProduceResponse, TopicProduceData,
};
use crate::wire::{ApiKey, ErrorCode, Records};

/// The largest batch that is sent: brokers close a connection whose request is larger than
/// `socket.request.max.bytes`, by default 100 MiB, without a word. The rest is for what stands
/// around the batch.
const BATCH_BYTES_MAX: usize = (100 << 20) - (64 << 10);

/// Batches of one partition under way: what idempotence keeps in order (Kafka keeps five).
const WINDOW: usize = 5;
/// One answer may take the client's timeout divided by this: then there is time to ask again.
const ATTEMPTS: u32 = 2;
/// The last Produce version that names topics by name, for brokers that have no topic ids.
const LAST_VERSION_BY_NAME: i16 = 12;

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// 0, 1 or −1 (all in-sync replicas).
    pub acks: i16,
    /// Whether retries are recognised by the broker; needs acks −1.
    pub idempotent: bool,
    /// Codec of the batches, and its level.
    pub codec: Level,
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
    queues: RefCell<BTreeMap<(String, i32), Rc<PartitionQueue>>>,
    codecs: RefCell<Codecs>,
}

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
        let (queues, codecs) = Default::default();
        let identity = Cell::new(identity);
        Ok(Self {
            inner: Rc::new(Inner {
                client,
                options,
                identity,
                queues,
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
        let queue = self.queue(topic, partition);
        let bytes = self.seal(&queue, records)?;
        records.clear();
        let (delivery, receiver) = oneshot::channel();
        queue.push(Batch {
            bytes: Buf::from_vec(bytes),
            queued_at: self.inner.client.rt().now(),
            delivery,
        });
        Ok(receiver)
    }

    /// Ends the producer's tasks once what was sent is delivered.
    pub fn close(&self) {
        for queue in self.inner.queues.borrow().values() {
            queue.close();
        }
    }

    fn queue(&self, topic: &str, partition: i32) -> Rc<PartitionQueue> {
        let key = (topic.to_owned(), partition);
        let mut queues = self.inner.queues.borrow_mut();
        if let Some(queue) = queues.get(&key) {
            return queue.clone();
        }
        let queue = Rc::new(PartitionQueue::new(key.0.clone(), partition));
        queues.insert(key, queue.clone());
        let rt = self.inner.client.rt();
        rt.spawn(TaskClass::Foreground, self.clone().run_queue(queue.clone()));
        queue
    }

    fn seal(&self, queue: &PartitionQueue, records: &BatchBuilder) -> Result<Vec<u8>, ClientError> {
        let unsealable = |reason: String| ClientError::Corrupt {
            topic: queue.topic.clone(),
            partition: queue.partition,
            offset: -1,
            reason,
        };
        let mut fields = records
            .fields()
            .map_err(|error| unsealable(error.to_string()))?;
        (fields.producer_id, fields.producer_epoch) = self.inner.identity.get();
        if self.inner.options.idempotent {
            fields.base_sequence = queue.next_sequence.get();
            queue
                .next_sequence
                .set(increment_sequence(fields.base_sequence, records.count()));
        }
        let mut bytes = Vec::with_capacity(records.batch_bytes());
        BatchFields::reserve(&mut bytes);
        let level = self.inner.options.codec;
        fields.compression = level.codec();
        self.inner
            .codecs
            .borrow_mut()
            .compress(level, records.records(), &mut bytes)
            .map_err(|error| unsealable(error.to_string()))?;
        fields
            .seal(&mut bytes)
            .map_err(|error| unsealable(error.to_string()))?;
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(ClientError::TooLarge {
                topic: queue.topic.clone(),
                partition: queue.partition,
                bytes: bytes.len(),
                limit_bytes: BATCH_BYTES_MAX,
            });
        }
        Ok(bytes)
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

/// The batches of one partition.
struct PartitionQueue {
    topic: String,
    partition: i32,
    next_sequence: Cell<i32>,
    waiting: RefCell<VecDeque<Batch>>,
    queued: Event,
    closed: Cell<bool>,
    /// The broker knows the producer: nothing has failed since its last acknowledgement.
    is_known: Cell<bool>,
    /// When the last batch was acknowledged.
    acknowledged_at: Cell<Duration>,
}

struct Batch {
    bytes: Buf,
    queued_at: Duration,
    delivery: oneshot::Sender<Result<Delivered, ClientError>>,
}

type InFlight<R> = VecDeque<(Batch, PendingAnswer<R>)>;

impl<R: Runtime> Producer<R> {
    async fn run_queue(self, queue: Rc<PartitionQueue>) {
        let mut in_flight = InFlight::new();
        let mut backoff = Backoff::default();
        loop {
            let filled = self
                .fill_window(&queue, &mut in_flight, queue.window())
                .await;
            if let Some((batch, answer)) = in_flight.pop_front() {
                let acknowledged = self.acknowledged(&queue, &batch, answer, &mut in_flight);
                match acknowledged.await {
                    Ok(delivered) => {
                        backoff = Backoff::default();
                        queue.is_known.set(true);
                        queue.acknowledged_at.set(self.inner.client.rt().now());
                        // Whoever sent it may not wait for it any more.
                        let _ = batch.delivery.send(Ok(delivered));
                    }
                    Err(error) => {
                        self.recover(&queue, batch, error, &mut in_flight).await;
                        backoff.wait(self.inner.client.rt()).await;
                    }
                }
            } else if let Err(error) = filled {
                self.give_up_or_keep(&queue, error);
                backoff.wait(self.inner.client.rt()).await;
            } else if !queue.wait_for_more().await {
                return;
            }
        }
    }

    /// Sends queued batches until `limit` are under way.
    async fn fill_window(
        &self,
        queue: &PartitionQueue,
        in_flight: &mut InFlight<R>,
        limit: usize,
    ) -> Result<(), ClientError> {
        let client = &self.inner.client;
        while in_flight.len() < limit && !queue.waiting.borrow().is_empty() {
            let left = queue
                .waiting
                .borrow()
                .front()
                .map(|next| self.left(queue, next));
            let what = format!("leader of {}-{}", queue.topic, queue.partition);
            let leader = client.leader(&queue.topic, queue.partition);
            let (_, connection) = client
                .within(left.unwrap_or_default(), &what, leader)
                .await?;
            let topic_id = client.topic_id(&queue.topic);
            let newest = connection.version(ApiKey::Produce)?;
            let version = if topic_id == TopicId::ZERO {
                newest.min(LAST_VERSION_BY_NAME)
            } else {
                newest
            };
            let Some(batch) = queue.waiting.borrow_mut().pop_front() else {
                break;
            };
            let request = self.request(queue, topic_id, &batch);
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
                    queue.waiting.borrow_mut().push_front(batch);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn request(
        &self,
        queue: &PartitionQueue,
        topic_id: TopicId,
        batch: &Batch,
    ) -> ProduceRequest<'static> {
        let partition = PartitionProduceData {
            index: PartitionIndex(queue.partition),
            records: Some(Records::Elsewhere(batch.bytes.len() as u32)),
        };
        let topic = TopicProduceData {
            name: queue.topic.clone().into(),
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
        queue: &PartitionQueue,
        batch: &Batch,
        answer: PendingAnswer<R>,
        in_flight: &mut InFlight<R>,
    ) -> Result<Delivered, ClientError> {
        let mut answer = pin!(self.answer_in_time(queue, batch, answer));
        // The oldest is under way too, though not among the others.
        let others = queue.window() - 1;
        while in_flight.len() < others {
            match select(answer.as_mut(), pin!(queue.wait_for_more())).await {
                Either::Left((result, _)) => return self.outcome(queue, result),
                Either::Right((true, _)) => {
                    if self.fill_window(queue, in_flight, others).await.is_err() {
                        break;
                    }
                }
                Either::Right((false, _)) => break,
            }
        }
        let result = answer.await;
        self.outcome(queue, result)
    }

    async fn answer_in_time(
        &self,
        queue: &PartitionQueue,
        batch: &Batch,
        answer: PendingAnswer<R>,
    ) -> Result<Answer, ClientError> {
        let client = &self.inner.client;
        let limit = self.left(queue, batch).min(client.timeout() / ATTEMPTS);
        client.within(limit, "Produce", answer).await
    }

    /// How long a batch is still tried: the client's timeout, from when it was queued or from when
    /// its partition last acknowledged anything. A partition that is slow is not one that is gone.
    fn left(&self, queue: &PartitionQueue, batch: &Batch) -> Duration {
        let client = &self.inner.client;
        let since = batch.queued_at.max(queue.acknowledged_at.get());
        (since + client.timeout()).saturating_sub(client.rt().now())
    }

    fn outcome(
        &self,
        queue: &PartitionQueue,
        answer: Result<Answer, ClientError>,
    ) -> Result<Delivered, ClientError> {
        let answer = answer?;
        let response: ProduceResponse = answer.read()?;
        let what = || format!("produce to {}-{}", queue.topic, queue.partition);
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
        queue: &PartitionQueue,
        failed: Batch,
        error: ClientError,
        in_flight: &mut InFlight<R>,
    ) {
        queue.is_known.set(false);
        let refusal = match &error {
            ClientError::Refused { code, .. } if !error.is_retriable() => Some(*code),
            _ => None,
        };
        let mut again = VecDeque::new();
        self.fail_or_retry(queue, failed, error, &mut again);
        while let Some((batch, answer)) = in_flight.pop_front() {
            let answer = self.answer_in_time(queue, &batch, answer).await;
            match self.outcome(queue, answer) {
                Ok(delivered) => {
                    let _ = batch.delivery.send(Ok(delivered));
                }
                Err(ClientError::Refused { what, code, .. }) if is_behind(code, refusal) => {
                    let error = refused(what, refusal.unwrap_or(code));
                    self.fail_or_retry(queue, batch, error, &mut again);
                }
                Err(error) => self.fail_or_retry(queue, batch, error, &mut again),
            }
        }
        let mut waiting = queue.waiting.borrow_mut();
        while let Some(batch) = again.pop_back() {
            waiting.push_front(batch);
        }
        drop(waiting);
        self.inner.client.forget(&queue.topic);
    }

    fn fail_or_retry(
        &self,
        queue: &PartitionQueue,
        batch: Batch,
        error: ClientError,
        again: &mut VecDeque<Batch>,
    ) {
        // Behind a batch that failed, later ones of the window are out of order until it is there.
        let follows = matches!(
            error,
            ClientError::Refused {
                code: ErrorCode::OutOfOrderSequenceNumber,
                ..
            }
        ) && !again.is_empty();
        let in_time = !self.left(queue, &batch).is_zero();
        if (error.is_retriable() || follows) && in_time {
            again.push_back(batch);
        } else {
            let _ = batch.delivery.send(Err(error));
        }
    }

    /// Nothing could be sent: batches that are too old, or that can never be sent, fail.
    fn give_up_or_keep(&self, queue: &PartitionQueue, error: ClientError) {
        let retriable = error.is_retriable() || matches!(error, ClientError::Unreachable { .. });
        let mut waiting = queue.waiting.borrow_mut();
        let old = waiting
            .iter()
            .take_while(|batch| !retriable || self.left(queue, batch).is_zero())
            .count();
        let mut error = Some(error);
        for batch in waiting.drain(..old) {
            let error = error
                .take()
                .unwrap_or_else(|| refused("produce", ErrorCode::RequestTimedOut));
            let _ = batch.delivery.send(Err(error));
        }
        drop(waiting);
        self.inner.client.forget(&queue.topic);
    }
}

/// Whether a batch is refused only because one before it was, which is the reason to tell.
fn is_behind(code: ErrorCode, refusal: Option<ErrorCode>) -> bool {
    code == ErrorCode::OutOfOrderSequenceNumber && refusal.is_some()
}

impl PartitionQueue {
    /// Of a partition to which nothing was sent yet.
    fn new(topic: String, partition: i32) -> Self {
        Self {
            topic,
            partition,
            next_sequence: Cell::new(0),
            waiting: RefCell::default(),
            queued: Event::new(),
            closed: Cell::new(false),
            is_known: Cell::new(false),
            acknowledged_at: Cell::default(),
        }
    }

    /// Takes the next batch.
    fn push(&self, batch: Batch) {
        self.waiting.borrow_mut().push_back(batch);
        self.queued.notify();
    }

    /// Nothing more comes: the queue ends when everything is delivered.
    fn close(&self) {
        self.closed.set(true);
        self.queued.notify();
    }

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
                if !self.waiting.borrow().is_empty() {
                    Some(true)
                } else {
                    self.closed.get().then_some(false)
                }
            })
            .await
    }
}
