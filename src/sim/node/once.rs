//! Producers that send each batch once, whatever is answered, and now and then one that must be
//! refused: so that it is known of each whether it is in the log, must not be, or may be.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::Scene;
use super::history::{BatchAnswer, PartitionName, RecordId};
use super::load::{Shared, client};
use crate::client::{Client, ClientError, Connection, PendingAnswer};
use crate::log::AppendError;
use crate::model::batch::{BatchBuilder, BatchFields};
use crate::model::{PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use crate::partition::EarlierBatchAwaited;
use crate::rt::{Buf, Runtime};
use crate::sim::{Rng, SimRuntime};
use crate::wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, PartitionProduceData, ProduceRequest,
    ProduceResponse, TopicProduceData,
};
use crate::wire::{ApiKey, ErrorCode, Records};

const TIMEOUT: Duration = Duration::from_secs(20);
/// More than `message.max.bytes`.
const TOO_LARGE_BYTES: usize = 1_200_000;
/// More than `message.timestamp.after.max.ms`.
const FUTURE_MS: i64 = 2 * 60 * 60 * 1000;
/// How far away a wrong sequence is: where the producer is not known yet it is taken, and no later one
/// may look like a retry of it.
const ELSEWHERE: i32 = 1_000_000;
/// No partition of any topic.
const NO_PARTITION: i32 = 1_000;

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoiled {
    Not,
    /// Its checksum.
    Crc,
    /// It counts a record more than it has.
    Count,
    Size,
    /// Its records are from the future.
    Time,
    /// Another sequence is next.
    Sequence,
    /// The request names a number of acknowledgements that there is not.
    Acks,
    /// It is sent to whoever leads another partition of the topic.
    Shard,
    /// There is no such partition.
    Partition,
}

impl Spoiled {
    fn any(rng: &mut Rng) -> Self {
        match rng.below(40) {
            0 => Self::Crc,
            1 => Self::Count,
            2 => Self::Size,
            3 => Self::Time,
            4 => Self::Sequence,
            5 => Self::Acks,
            6 => Self::Shard,
            7 => Self::Partition,
            _ => Self::Not,
        }
    }
}

/// One such producer after the other.
pub(super) async fn produce(scene: Scene, shared: Rc<Shared>, mut rng: Rng) {
    while !shared.is_ending() {
        let client = client(&scene);
        // Whatever has failed, the next one begins anew.
        let _ = one_producer(&scene, &shared, &client, &mut rng).await;
        client.close();
        let pause = Duration::from_millis(rng.below(200));
        scene.rt.sleep(pause).await;
    }
}

async fn one_producer(
    scene: &Scene,
    shared: &Shared,
    client: &Client<SimRuntime>,
    rng: &mut Rng,
) -> Result<(), ClientError> {
    let topics = scene.history.borrow().live_topics();
    let Some(topic) = topics.get(rng.index(topics.len().max(1))).cloned() else {
        return Ok(());
    };
    let partitions = scene.history.borrow().partitions_of(&topic);
    let (partition, other) = (rng.index(partitions) as i32, rng.index(partitions) as i32);
    let (_, leader) = client.leader(&topic, partition).await?;
    let (_, elsewhere) = client.leader(&topic, other).await?;
    let identity = match rng.coin() {
        true => Some(init_producer_id(client).await?),
        false => None,
    };
    let mut producer = OnceProducer {
        scene,
        client,
        leader,
        elsewhere,
        topic_id: client.topic_id(&topic),
        partition: (topic, partition),
        identity,
        id: scene.history.borrow_mut().next_producer(true),
        next_number: 0,
        next_sequence: 0,
        under_way: VecDeque::new(),
    };
    let window = [1, 5][rng.index(2)];
    let mut goes_on = true;
    for _ in 0..1 + rng.below(30) {
        if shared.is_ending() || !goes_on {
            break;
        }
        producer.send(rng)?;
        while producer.under_way.len() >= window {
            goes_on &= producer.settle_one().await;
        }
        let pause = Duration::from_micros(rng.below(100_000));
        scene.rt.sleep(pause).await;
    }
    while !producer.under_way.is_empty() {
        producer.settle_one().await;
    }
    Ok(())
}

async fn init_producer_id(
    client: &Client<SimRuntime>,
) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        ..Default::default()
    };
    let answer = client.call(&request).await?;
    let response: InitProducerIdResponse = answer.read()?;
    Ok((response.producer_id, response.producer_epoch))
}

struct OnceProducer<'a> {
    scene: &'a Scene,
    client: &'a Client<SimRuntime>,
    leader: Connection<SimRuntime>,
    /// Leads another partition, or the same.
    elsewhere: Connection<SimRuntime>,
    topic_id: TopicId,
    partition: PartitionName,
    /// None of one that is not idempotent.
    identity: Option<(ProducerId, ProducerEpoch)>,
    id: u32,
    next_number: u32,
    next_sequence: i32,
    under_way: VecDeque<UnderWay>,
}

/// A batch whose answer is to come.
struct UnderWay {
    /// Under which it is noted, and where among those of that name.
    partition: PartitionName,
    index: usize,
    first_sequence: i32,
    answer: PendingAnswer<SimRuntime>,
}

impl OnceProducer<'_> {
    fn send(&mut self, rng: &mut Rng) -> Result<(), ClientError> {
        let spoiled = Spoiled::any(rng);
        let first = RecordId {
            producer: self.id,
            number: self.next_number,
        };
        let (count, bytes) = self.batch(first, 1 + rng.below(20) as u32, spoiled);
        let (topic, mut partition) = self.partition.clone();
        if spoiled == Spoiled::Partition {
            partition += NO_PARTITION;
        }
        let data = PartitionProduceData {
            index: PartitionIndex(partition),
            records: Some(Records::Elsewhere(bytes.len() as u32)),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: if spoiled == Spoiled::Acks { 2 } else { -1 },
            timeout_ms: TIMEOUT.as_millis() as i32,
            topic_data: TopicProduceData {
                name: topic.clone().into(),
                topic_id: self.topic_id,
                partition_data: data.into(),
            }
            .into(),
        };
        let to = match spoiled {
            Spoiled::Shard => &self.elsewhere,
            _ => &self.leader,
        };
        let version = to.version(ApiKey::Produce)?;
        let partition = (topic, partition);
        let mut history = self.scene.history.borrow_mut();
        let index = history.send(partition.clone(), first, count);
        drop(history);
        self.under_way.push_back(UnderWay {
            partition,
            index,
            first_sequence: self.next_sequence,
            answer: to.send(&request, version, &[Buf::from_vec(bytes)])?,
        });
        self.next_number += count;
        self.next_sequence += count as i32;
        Ok(())
    }

    /// How many records, and the batch.
    fn batch(&self, first: RecordId, count: u32, spoiled: Spoiled) -> (u32, Vec<u8>) {
        let mut now = self.scene.rt.wall_clock_ms();
        if spoiled == Spoiled::Time {
            now += FUTURE_MS;
        }
        let mut builder = BatchBuilder::new();
        let (mut added, mut len) = (0, 0);
        while added < count || (spoiled == Spoiled::Size && len < TOO_LARGE_BYTES) {
            let value = first.plus(added).value();
            len += value.len();
            builder.append(now, None, Some(&value), &[]).expect("room");
            added += 1;
        }
        let fields = builder.fields().expect("records");
        let more = i32::from(spoiled == Spoiled::Count);
        let (producer_id, producer_epoch) = self
            .identity
            .unwrap_or((fields.producer_id, fields.producer_epoch));
        let base_sequence = match (self.identity, spoiled) {
            (None, _) => fields.base_sequence,
            (Some(_), Spoiled::Sequence) => self.next_sequence + ELSEWHERE,
            (Some(_), _) => self.next_sequence,
        };
        let fields = BatchFields {
            record_count: fields.record_count + more,
            last_offset_delta: fields.last_offset_delta + more,
            producer_id,
            producer_epoch,
            base_sequence,
            ..fields
        };
        let mut bytes = Vec::new();
        let sealed = fields.append(builder.records(), &mut bytes);
        sealed.expect("a batch");
        if let (Spoiled::Crc, Some(last)) = (spoiled, bytes.last_mut()) {
            *last ^= 1;
        }
        (added, bytes)
    }

    /// Waits for the oldest answer; false when the producer cannot go on behind it.
    async fn settle_one(&mut self) -> bool {
        let Some(oldest) = self.under_way.pop_front() else {
            return true;
        };
        let answer = self.client.within(TIMEOUT * 2, "Produce", oldest.answer);
        let answer = answer.await;
        let read = answer.and_then(|answer| {
            let response: ProduceResponse = answer.read()?;
            let answered = &response.responses[0].partition_responses[0];
            let message = answered.error_message.as_deref().unwrap_or_default();
            Ok(match answered.error_code {
                ErrorCode::None => Some(answered.base_offset.0),
                code if self.is_refusal(code, message) => None,
                _ => {
                    return Err(ClientError::TimedOut {
                        what: "the outcome".to_owned(),
                    });
                }
            })
        });
        let mut history = self.scene.history.borrow_mut();
        let answer = match read {
            Ok(Some(base)) => history.acknowledged(base),
            Ok(None) => BatchAnswer::Refused,
            Err(_) => BatchAnswer::Unknown,
        };
        history.answer(&oldest.partition, oldest.index, answer);
        match (answer, self.identity) {
            (BatchAnswer::Acknowledged { .. }, _) | (_, None) => true,
            // The same sequence again, for other records.
            (BatchAnswer::Refused, Some(_)) if self.under_way.is_empty() => {
                self.next_sequence = oldest.first_sequence;
                true
            }
            (_, Some(_)) => false,
        }
    }

    /// Whether the answer says that the batch was not accepted, and never will be.
    fn is_refusal(&self, code: ErrorCode, message: &str) -> bool {
        let awaited = |(producer_id, _)| EarlierBatchAwaited { producer_id }.to_string();
        match code {
            ErrorCode::RequestTimedOut | ErrorCode::UnknownServerError => false,
            ErrorCode::KafkaStorageError => {
                message == AppendError::DiskFull.to_string()
                    || self
                        .identity
                        .map(awaited)
                        .is_some_and(|awaited| message == awaited)
            }
            _ => true,
        }
    }
}
