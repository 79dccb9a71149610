//! A consumer of partitions from explicit offsets.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::cluster::refused;
use super::{Answer, Backoff, Client, ClientError};
use crate::compress::Codecs;
use crate::model::batch::{BatchError, BatchView, Batches, RecordRef, Records};
use crate::model::{Codec, LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::rt::Runtime;
use crate::wire::messages::{
    FetchPartition, FetchPartitionData, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse,
};
use crate::wire::{ApiKey, ErrorCode};

/// The last Fetch version that names topics by name, for brokers that have no topic ids.
const LAST_VERSION_BY_NAME: i16 = 12;
/// A decompressed batch may not be larger than this.
const BATCH_LIMIT_BYTES: usize = 1 << 30;

/// How a consumer asks.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// How long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// The least that is worth an answer.
    pub min_bytes: i32,
    /// The most of one answer.
    pub max_bytes: i32,
    /// The most of one partition in one answer.
    pub partition_max_bytes: i32,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
        }
    }
}

/// What was read of one partition in one answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub topic: Rc<str>,
    /// Its index.
    pub partition: i32,
    /// The first offset asked for; batches may begin before it.
    pub from: Offset,
    /// The partition's high watermark at that moment.
    pub high_watermark: Offset,
    answer: Rc<Answer>,
    start: usize,
    end: usize,
}

impl Fetched {
    /// The record batches, as stored by the broker; the last may be cut short.
    pub fn bytes(&self) -> &[u8] {
        &self.answer.frame()[self.start..self.end]
    }

    /// Gives every record from [`Fetched::from`] on to `take` with its offset and its timestamp in
    /// Unix milliseconds. Batches whose CRC fails, and control batches, are never given.
    pub fn for_each_record(
        &self,
        codecs: &mut Codecs,
        mut take: impl FnMut(Offset, i64, &RecordRef<'_>),
    ) -> Result<(), ClientError> {
        let mut plain = Vec::new();
        for batch in Batches::new(self.bytes()) {
            let batch = match batch {
                Ok((_, batch)) => batch,
                // An answer may end within a batch.
                Err(broken) if broken.error == BatchError::Truncated => break,
                Err(broken) => {
                    let reason = broken.error.to_string();
                    return Err(corrupt(&self.topic, self.partition, self.from, &reason));
                }
            };
            if !batch.crc_holds() {
                return Err(self.corrupt(&batch, "CRC fails"));
            }
            if batch.is_control() || batch.end_offset() <= self.from {
                continue;
            }
            self.open(codecs, &batch, &mut plain, &mut take)?;
        }
        Ok(())
    }

    fn open(
        &self,
        codecs: &mut Codecs,
        batch: &BatchView<'_>,
        plain: &mut Vec<u8>,
        take: &mut impl FnMut(Offset, i64, &RecordRef<'_>),
    ) -> Result<(), ClientError> {
        plain.clear();
        let records = match batch.compression() {
            Codec::None => batch.records(),
            codec => {
                codecs
                    .decompress(codec, batch.records(), plain, BATCH_LIMIT_BYTES)
                    .map_err(|error| self.corrupt(batch, &error.to_string()))?;
                plain.as_slice()
            }
        };
        for record in Records::new(records, batch.record_count()) {
            let record = record.map_err(|error| self.corrupt(batch, &error.to_string()))?;
            let offset = batch.base_offset().plus(i64::from(record.offset_delta));
            if offset >= self.from {
                take(offset, batch.timestamp_ms_of(&record), &record);
            }
        }
        Ok(())
    }

    fn corrupt(&self, batch: &BatchView<'_>, reason: &str) -> ClientError {
        corrupt(&self.topic, self.partition, batch.base_offset(), reason)
    }
}

fn corrupt(topic: &str, partition: i32, offset: Offset, reason: &str) -> ClientError {
    ClientError::Corrupt {
        topic: topic.to_owned(),
        partition,
        offset: offset.0,
        reason: reason.to_owned(),
    }
}

/// A consumer over a client.
pub struct Consumer<R: Runtime> {
    client: Client<R>,
    options: ConsumerOptions,
    positions: BTreeMap<(Rc<str>, i32), Position>,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, Round>>,
    backoff: Backoff,
    /// When retriable failures began, if the last answer was one.
    failing_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    next: Offset,
    busy: bool,
}

/// One fetch to one broker and what it was about.
struct Round {
    asked: Vec<(Rc<str>, TopicId, i32, Offset)>,
    answer: Result<Answer, ClientError>,
}

impl<R: Runtime> fmt::Debug for Consumer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer of {} partitions", self.positions.len())
    }
}

impl<R: Runtime> Consumer<R> {
    /// A consumer of nothing yet.
    pub fn new(client: Client<R>, options: ConsumerOptions) -> Self {
        let (positions, in_flight) = Default::default();
        Self {
            client,
            options,
            positions,
            in_flight,
            backoff: Backoff::default(),
            failing_since: None,
        }
    }

    /// Reads a partition from `from` on.
    pub fn assign(&mut self, topic: &str, partition: i32, from: Offset) {
        let position = Position {
            next: from,
            busy: false,
        };
        self.positions.insert((topic.into(), partition), position);
    }

    /// Reads a partition no further.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.positions.remove(&(topic.into(), partition));
    }

    /// The next offset to be read of a partition.
    pub fn position(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.positions
            .get(&(topic.into(), partition))
            .map(|position| position.next)
    }

    /// Whether nothing is assigned.
    pub fn is_idle(&self) -> bool {
        self.positions.is_empty()
    }

    /// What the next answer of a broker brings; nothing when it waited in vain. Leader changes and
    /// lost connections are retried until the client's timeout; an offset out of range or corrupt
    /// data end at once.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>, ClientError> {
        if let Err(error) = self.ask().await {
            self.pass_over(error).await?;
        }
        let Some(Round { asked, answer }) = self.in_flight.next().await else {
            return Ok(Vec::new());
        };
        for (topic, _, partition, _) in &asked {
            if let Some(position) = self.positions.get_mut(&(topic.clone(), *partition)) {
                position.busy = false;
            }
        }
        match answer.and_then(|answer| self.take(&asked, Rc::new(answer))) {
            Ok(fetched) => {
                self.backoff = Backoff::default();
                self.failing_since = None;
                Ok(fetched)
            }
            Err(error) => {
                for (topic, ..) in &asked {
                    self.client.forget(topic);
                }
                self.pass_over(error).await?;
                Ok(Vec::new())
            }
        }
    }

    /// Waits before the next attempt, unless the error is final or has lasted too long.
    async fn pass_over(&mut self, error: ClientError) -> Result<(), ClientError> {
        let now = self.client.rt().now();
        let since = *self.failing_since.get_or_insert(now);
        if !error.is_retriable() || now - since > self.client.timeout() {
            return Err(error);
        }
        self.backoff.wait(self.client.rt()).await;
        Ok(())
    }

    /// Sends a fetch to every broker that leads partitions which no fetch asks for yet.
    async fn ask(&mut self) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<(Rc<str>, i32, Offset)>> = BTreeMap::new();
        let idle: Vec<_> = self
            .positions
            .iter()
            .filter(|(_, position)| !position.busy)
            .map(|((topic, partition), position)| (topic.clone(), *partition, position.next))
            .collect();
        for (topic, partition, next) in idle {
            let leader = match self.client.known_leader(&topic, partition) {
                Some(leader) => leader,
                None => self.client.leader(&topic, partition).await?.0,
            };
            by_leader
                .entry(leader)
                .or_default()
                .push((topic, partition, next));
        }
        for (leader, partitions) in by_leader {
            let connection = self.client.broker(leader).await?;
            let asked: Vec<_> = partitions
                .into_iter()
                .map(|(topic, partition, next)| {
                    let id = self.client.topic_id(&topic);
                    (topic, id, partition, next)
                })
                .collect();
            let by_name = asked.iter().any(|(_, id, ..)| *id == TopicId::ZERO);
            let newest = connection.version(ApiKey::Fetch)?;
            let version = if by_name {
                newest.min(LAST_VERSION_BY_NAME)
            } else {
                newest
            };
            let pending = connection.send(&self.request(&asked), version, &[])?;
            for (topic, _, partition, _) in &asked {
                if let Some(position) = self.positions.get_mut(&(topic.clone(), *partition)) {
                    position.busy = true;
                }
            }
            let client = self.client.clone();
            let limit = client.timeout() + self.options.max_wait;
            self.in_flight.push(Box::pin(async move {
                let answer = client.within(limit, "Fetch", pending).await;
                Round { asked, answer }
            }));
        }
        Ok(())
    }

    fn request(&self, asked: &[(Rc<str>, TopicId, i32, Offset)]) -> FetchRequest<'static> {
        let mut request = FetchRequest {
            max_wait_ms: self.options.max_wait.as_millis() as i32,
            min_bytes: self.options.min_bytes,
            max_bytes: self.options.max_bytes,
            ..Default::default()
        };
        for (topic, id, partition, next) in asked {
            let partition = FetchPartition {
                partition: PartitionIndex(*partition),
                current_leader_epoch: LeaderEpoch::NONE,
                fetch_offset: *next,
                partition_max_bytes: self.options.partition_max_bytes,
                ..Default::default()
            };
            match request.topics.last_mut() {
                Some(last) if *last.topic == **topic => last.partitions.push(partition),
                _ => request.topics.push(FetchTopic {
                    topic: topic.to_string().into(),
                    topic_id: *id,
                    partitions: partition.into(),
                }),
            }
        }
        request
    }

    fn take(
        &mut self,
        asked: &[(Rc<str>, TopicId, i32, Offset)],
        answer: Rc<Answer>,
    ) -> Result<Vec<Fetched>, ClientError> {
        let response: FetchResponse = answer.read()?;
        let refused_all = |code| refused("Fetch", code);
        response.error_code.ok().map_err(refused_all)?;
        let (mut all, mut refusal) = (Vec::<Fetched>::new(), None);
        for topic in &response.responses {
            for partition in &topic.partitions {
                let Some(ask) = asked.iter().find(|ask| is_of(ask, topic, partition)) else {
                    continue;
                };
                match fetched_of(ask, partition, &answer) {
                    Ok(fetched) => all.push(fetched),
                    Err(error) if error.is_retriable() => {
                        refusal.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for fetched in &all {
            self.advance(fetched)?;
        }
        match refusal {
            // One partition's trouble does not hold up the others.
            Some(error) if all.iter().all(|fetched| fetched.bytes().is_empty()) => Err(error),
            Some(_) => {
                for (topic, ..) in asked {
                    self.client.forget(topic);
                }
                Ok(all)
            }
            None => Ok(all),
        }
    }

    /// Moves a position behind the last whole batch of an answer.
    fn advance(&mut self, fetched: &Fetched) -> Result<(), ClientError> {
        let last = Batches::new(fetched.bytes()).map_while(Result::ok).last();
        let Some(position) = self
            .positions
            .get_mut(&(fetched.topic.clone(), fetched.partition))
        else {
            return Ok(());
        };
        match last {
            Some((_, batch)) => position.next = position.next.max(batch.end_offset()),
            None if !fetched.bytes().is_empty() => {
                return Err(refused(
                    "a batch larger than the answer",
                    ErrorCode::CorruptMessage,
                ));
            }
            None => {}
        }
        Ok(())
    }
}

/// Whether an answer's partition is the one asked for.
fn is_of(
    (name, id, index, _): &(Rc<str>, TopicId, i32, Offset),
    topic: &FetchableTopicResponse<'_>,
    partition: &FetchPartitionData<'_>,
) -> bool {
    let same_topic = match topic.topic.is_empty() {
        true => *id == topic.topic_id,
        false => **name == *topic.topic,
    };
    same_topic && *index == partition.partition_index.0
}

fn fetched_of(
    (name, _, index, from): &(Rc<str>, TopicId, i32, Offset),
    partition: &FetchPartitionData<'_>,
    answer: &Rc<Answer>,
) -> Result<Fetched, ClientError> {
    let what = || format!("fetch of {name}-{index} at offset {from}");
    match partition.error_code {
        ErrorCode::None => {}
        ErrorCode::CorruptMessage => {
            return Err(corrupt(
                name,
                *index,
                *from,
                "the broker finds a damaged batch",
            ));
        }
        code => return Err(refused(what(), code)),
    }
    let bytes = partition
        .records
        .map(|records| records.bytes())
        .unwrap_or_default();
    let start = match bytes.is_empty() {
        true => 0,
        false => bytes.as_ptr() as usize - answer.frame().as_ptr() as usize,
    };
    Ok(Fetched {
        topic: name.clone(),
        partition: *index,
        from: *from,
        high_watermark: partition.high_watermark,
        answer: answer.clone(),
        start,
        end: start + bytes.len(),
    })
}
