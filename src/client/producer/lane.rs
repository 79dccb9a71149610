//! The batches of one partition: several under way, and sent again in the old order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use super::{Delivered, Producer};
use crate::client::cluster::refused;
use crate::client::{Answer, Backoff, ClientError, PendingAnswer};
use crate::model::{Offset, PartitionIndex, TopicId};
use crate::rt::{Buf, Event, Runtime};
use crate::wire::messages::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::{ApiKey, ErrorCode, Records};

/// Batches of one partition under way: what idempotence keeps in order (Kafka keeps five).
const WINDOW: usize = 5;
/// One answer may take the client's timeout divided by this: then there is time to ask again.
const ATTEMPTS: u32 = 2;
/// The last Produce version that names topics by name, for brokers that have no topic ids.
const LAST_VERSION_BY_NAME: i16 = 12;

/// The batches of one partition.
pub(super) struct Lane {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next_sequence: Cell<i32>,
    queue: RefCell<VecDeque<Batch>>,
    queued: Event,
    closed: Cell<bool>,
    /// The broker knows the producer: nothing has failed since its last acknowledgement.
    is_known: Cell<bool>,
    /// When the last batch was acknowledged.
    acknowledged_at: Cell<Duration>,
}

pub(super) struct Batch {
    pub(super) bytes: Buf,
    pub(super) queued_at: Duration,
    pub(super) delivery: oneshot::Sender<Result<Delivered, ClientError>>,
}

type InFlight<R> = VecDeque<(Batch, PendingAnswer<R>)>;

impl<R: Runtime> Producer<R> {
    pub(super) async fn run_lane(self, lane: Rc<Lane>) {
        let mut in_flight = InFlight::new();
        let mut backoff = Backoff::default();
        loop {
            let filled = self.fill_window(&lane, &mut in_flight, lane.window()).await;
            if let Some((batch, answer)) = in_flight.pop_front() {
                let acknowledged = self.acknowledged(&lane, &batch, answer, &mut in_flight);
                match acknowledged.await {
                    Ok(delivered) => {
                        backoff = Backoff::default();
                        lane.is_known.set(true);
                        lane.acknowledged_at.set(self.inner.client.rt().now());
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
        let client = &self.inner.client;
        while in_flight.len() < limit && !lane.queue.borrow().is_empty() {
            let left = lane
                .queue
                .borrow()
                .front()
                .map(|next| self.left(lane, next));
            let what = format!("leader of {}-{}", lane.topic, lane.partition);
            let leader = client.leader(&lane.topic, lane.partition);
            let (_, connection) = client
                .within(left.unwrap_or_default(), &what, leader)
                .await?;
            let topic_id = client.topic_id(&lane.topic);
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
        batch: &Batch,
        answer: PendingAnswer<R>,
        in_flight: &mut InFlight<R>,
    ) -> Result<Delivered, ClientError> {
        let mut answer = pin!(self.answer_in_time(lane, batch, answer));
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

    async fn answer_in_time(
        &self,
        lane: &Lane,
        batch: &Batch,
        answer: PendingAnswer<R>,
    ) -> Result<Answer, ClientError> {
        let client = &self.inner.client;
        let limit = self.left(lane, batch).min(client.timeout() / ATTEMPTS);
        client.within(limit, "Produce", answer).await
    }

    /// How long a batch is still tried: the client's timeout, from when it was queued or from when
    /// its partition last acknowledged anything. A partition that is slow is not one that is gone.
    fn left(&self, lane: &Lane, batch: &Batch) -> Duration {
        let client = &self.inner.client;
        let since = batch.queued_at.max(lane.acknowledged_at.get());
        (since + client.timeout()).saturating_sub(client.rt().now())
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
        let refusal = match &error {
            ClientError::Refused { code, .. } if !error.is_retriable() => Some(*code),
            _ => None,
        };
        let mut again = VecDeque::new();
        self.fail_or_retry(lane, failed, error, &mut again);
        while let Some((batch, answer)) = in_flight.pop_front() {
            let answer = self.answer_in_time(lane, &batch, answer).await;
            match self.outcome(lane, answer) {
                Ok(delivered) => {
                    let _ = batch.delivery.send(Ok(delivered));
                }
                Err(ClientError::Refused { what, code, .. }) if is_behind(code, refusal) => {
                    let error = refused(what, refusal.unwrap_or(code));
                    self.fail_or_retry(lane, batch, error, &mut again);
                }
                Err(error) => self.fail_or_retry(lane, batch, error, &mut again),
            }
        }
        let mut queue = lane.queue.borrow_mut();
        while let Some(batch) = again.pop_back() {
            queue.push_front(batch);
        }
        drop(queue);
        self.inner.client.forget(&lane.topic);
    }

    fn fail_or_retry(
        &self,
        lane: &Lane,
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
        let in_time = !self.left(lane, &batch).is_zero();
        if (error.is_retriable() || follows) && in_time {
            again.push_back(batch);
        } else {
            let _ = batch.delivery.send(Err(error));
        }
    }

    /// Nothing could be sent: batches that are too old, or that can never be sent, fail.
    fn give_up_or_keep(&self, lane: &Lane, error: ClientError) {
        let retriable = error.is_retriable() || matches!(error, ClientError::Unreachable { .. });
        let mut queue = lane.queue.borrow_mut();
        let old = queue
            .iter()
            .take_while(|batch| !retriable || self.left(lane, batch).is_zero())
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

/// Whether a batch is refused only because one before it was, which is the reason to tell.
fn is_behind(code: ErrorCode, refusal: Option<ErrorCode>) -> bool {
    code == ErrorCode::OutOfOrderSequenceNumber && refusal.is_some()
}

impl Lane {
    /// A partition to which nothing was sent yet.
    pub(super) fn new(topic: String, partition: i32) -> Self {
        Self {
            topic,
            partition,
            next_sequence: Cell::new(0),
            queue: RefCell::default(),
            queued: Event::new(),
            closed: Cell::new(false),
            is_known: Cell::new(false),
            acknowledged_at: Cell::default(),
        }
    }

    /// Takes the next batch.
    pub(super) fn push(&self, batch: Batch) {
        self.queue.borrow_mut().push_back(batch);
        self.queued.notify();
    }

    /// Nothing more comes: the lane ends when everything is delivered.
    pub(super) fn close(&self) {
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
                if !self.queue.borrow().is_empty() {
                    Some(true)
                } else {
                    self.closed.get().then_some(false)
                }
            })
            .await
    }
}
