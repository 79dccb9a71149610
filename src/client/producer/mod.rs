//! A producer: batches go to the leaders of their partitions, several at a time and in order, and
//! are sent again until they are acknowledged or the client's timeout is over.

mod lane;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use futures_channel::oneshot;

use self::lane::{Batch, Lane};
use super::cluster::refused;
use super::{Client, ClientError};
use crate::compress::{Codecs, Level};
use crate::model::batch::{BatchBuilder, BatchFields, Compression, increment_sequence};
use crate::model::{Offset, ProducerEpoch, ProducerId};
use crate::rt::{Buf, Runtime, TaskClass};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// The largest batch that is sent: brokers close a connection whose request is larger than
/// `socket.request.max.bytes`, by default 100 MiB, without a word. The rest is for what stands
/// around the batch.
const BATCH_BYTES_MAX: usize = (100 << 20) - (64 << 10);

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
        lane.push(Batch {
            bytes: Buf::from_vec(bytes),
            queued_at: self.inner.client.rt().now(),
            delivery,
        });
        Ok(receiver)
    }

    /// Ends the producer's tasks once what was sent is delivered.
    pub fn close(&self) {
        for lane in self.inner.lanes.borrow().values() {
            lane.close();
        }
    }

    fn lane(&self, topic: &str, partition: i32) -> Rc<Lane> {
        let key = (topic.to_owned(), partition);
        let mut lanes = self.inner.lanes.borrow_mut();
        if let Some(lane) = lanes.get(&key) {
            return lane.clone();
        }
        let lane = Rc::new(Lane::new(key.0.clone(), partition));
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
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(ClientError::TooLarge {
                topic: lane.topic.clone(),
                partition: lane.partition,
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
