//! Fetch: sessions, long polls, and records that leave as they are stored.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;

use crate::cluster::Image;
use crate::log::ReadError;
use crate::metrics::Stage;
use crate::model::{LeaderEpoch, LookupMap, Offset, PartitionIndex, PartitionSlot, TopicId};
use crate::partition::{FetchAsk, FetchError, Fetched, Isolation, Partition, Role};
use crate::rt::{Buf, FuturePool, Runtime};
use crate::server::connection::Reply;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::fetch_session::{
    FetchPlan, INITIAL_EPOCH, PartitionAnswer, PartitionAsk, PartitionKey, Planned, SessionAsk,
    TopicKey,
};
use crate::server::locate::{NotHere, Redirects, TopicRef};
use crate::server::memory::{ResponseRoom, memory_of};
use crate::server::request::Call;
use crate::server::response::ResponseFrame;
use crate::wire::messages::{
    DivergingEpoch, FetchPartitionData, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch,
};
use crate::wire::{DecodeError, ErrorCode, List, Records};

/// Topics are named by id from this version on (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;
/// KAFKA_STORAGE_ERROR is known from this version on.
const FIRST_VERSION_WITH_STORAGE_ERROR: i16 = 6;

/// After so many partitions, the shard's other tasks have a turn.
const LOOKS_AT_ONCE: usize = 256;

/// What was read so far for one response.
struct Round<R: Runtime> {
    answers: Vec<Answer<R>>,
    /// By its place in the session, where the answer for a partition is, once there was something to
    /// wait for.
    places: LookupMap<u32, usize>,
    bytes: usize,
    /// Memory for what is read.
    room: ResponseRoom,
    /// How many of the partitions are not in the metadata.
    unknown: usize,
    has_news: bool,
    /// Whether there was no memory for some partition.
    is_short: bool,
}

struct Answer<R: Runtime> {
    planned: Planned,
    code: ErrorCode,
    fetched: Fetched,
    partition: Option<(PartitionSlot, Partition<R>)>,
    leader: Option<LeaderIdAndEpoch>,
    /// Whether there is more to read, and was no memory for it.
    is_short: bool,
}

/// A request of which it is fixed what it asks for.
pub struct PlannedFetch<R: Runtime> {
    context: Context<R>,
    call: Call,
    plan: FetchPlan,
    bounds: Bounds,
}

/// Bounds of one response.
#[derive(Clone, Copy)]
struct Bounds {
    min_bytes: usize,
    max_bytes: usize,
    deadline: Duration,
    isolation: Isolation,
}

/// Serves a Fetch request. What it asks for is fixed now; the response may wait for more to read.
pub async fn fetch<R: Runtime>(
    context: &Context<R>,
    call: Call,
    pending: &FuturePool<PlannedFetch<R>, ResponseFrame>,
) -> Result<Reply, DecodeError> {
    let request: FetchRequest = call.read()?;
    if request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0 {
        // Nobody may claim to be a follower: there are none (CVE-2018-1288).
        return Ok(Reply::Ready(failed(
            context,
            &call,
            ErrorCode::ClusterAuthorizationFailed,
        )));
    }
    let Some(isolation) = Isolation::from_number(request.isolation_level) else {
        return Ok(Reply::Ready(failed(
            context,
            &call,
            ErrorCode::InvalidRequest,
        )));
    };
    let rt = context.shard.rt();
    let cap = usize::try_from(context.shard.config().fetch_max_bytes).unwrap_or(0);
    let bounds = Bounds {
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(cap),
        deadline: call.times.last() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation,
    };
    let ask = session_ask(context, &request, call.header.version).await;
    let now = call.times.last();
    let random = match ask.epoch {
        INITIAL_EPOCH => rt.random_u64(),
        _ => 0,
    };
    let plan = context
        .sessions
        .borrow_mut()
        .plan(ask, call.session.number(), now, random);
    drop(request);
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return Ok(Reply::Ready(failed(context, &call, error.code()))),
    };
    call.lap(context, Stage::Accepted);
    Ok(Reply::Later(pending.begin(PlannedFetch {
        context: context.clone(),
        call,
        plan,
        bounds,
    })))
}

impl<R: Runtime> PlannedFetch<R> {
    /// Reads and makes the response.
    pub async fn serve(self) -> ResponseFrame {
        serve(&self.context, &self.call, self.plan, self.bounds).await
    }
}

/// Reads until there is enough, or news, or no time left. After the first round, only what has
/// changed is looked at again.
async fn serve<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    mut plan: FetchPlan,
    bounds: Bounds,
) -> ResponseFrame {
    let mut round = Round::new(context.responses.room());
    let mut due = std::mem::take(&mut plan.partitions);
    loop {
        let mut looked_at = round.read(context, &plan, due, bounds).await;
        // What is not there is answered with the rest, as in Kafka: it is known before anything is
        // read, and if it ended the wait, a consumer of one topic that is gone and one that is
        // not would ask without a pause. With nothing else there is nothing to wait for.
        round.has_news |= round.unknown == plan.asked;
        let left = bounds.deadline.saturating_sub(context.shard.rt().now());
        let has_enough = round.bytes >= bounds.min_bytes || (round.is_short && round.bytes > 0);
        if has_enough || round.has_news || left.is_zero() {
            let put_back = round.take_put_back();
            looked_at.extend(round.read(context, &plan, put_back, bounds).await);
            if round.bytes > 0 || !round.is_short || left.is_zero() {
                return respond(context, call, &plan, bounds, round).await;
            }
        }
        for (nth, place) in looked_at.into_iter().enumerate() {
            give_way(context, nth).await;
            round.watch(place, &plan);
        }
        round.put_back();
        let deadline = context.shard.deadlines().until(bounds.deadline);
        let is_short = round.is_short;
        match is_short {
            // Whatever there is to read, there is no memory for it.
            true => _ = select(pin!(round.room.wait()), deadline).await,
            false => _ = select(pin!(plan.ready.wait()), deadline).await,
        }
        round.is_short = false;
        let planned = |at: u32| match round.places.get(&at) {
            Some(place) => Some(round.answers.get(*place)?.planned.clone()),
            None => plan.planned(at),
        };
        due = plan.ready.take().into_iter().filter_map(planned).collect();
        if is_short {
            let short = round.answers.iter().filter(|answer| answer.is_short);
            due.extend(short.map(|answer| answer.planned.clone()));
        }
    }
}

impl<R: Runtime> Round<R> {
    fn new(room: ResponseRoom) -> Self {
        Self {
            room,
            is_short: false,
            answers: Vec::new(),
            places: LookupMap::default(),
            bytes: 0,
            unknown: 0,
            has_news: false,
        }
    }

    /// Looks at partitions, instead of what was read of them before, and says where the answers
    /// are.
    async fn read(
        &mut self,
        context: &Context<R>,
        plan: &FetchPlan,
        due: Vec<Planned>,
        bounds: Bounds,
    ) -> Vec<usize> {
        let image = context.shard.image();
        let mut looked_at = Vec::with_capacity(due.len());
        for planned in due {
            give_way(context, looked_at.len()).await;
            let before = self.places.get(&planned.place).copied();
            if let Some(answer) = before.and_then(|place| self.answers.get_mut(place)) {
                self.bytes -= std::mem::take(&mut answer.fetched.bytes);
            }
            let left = Bounds {
                max_bytes: bounds.max_bytes.saturating_sub(self.bytes),
                ..bounds
            };
            let is_first = self.bytes == 0;
            let room = &mut self.room;
            let answer = read_one(context, &image, plan, planned, left, is_first, room).await;
            self.bytes += answer.fetched.bytes;
            self.is_short |= answer.is_short;
            // One that goes while the request waits is an error of reading, which is told at once.
            match answer.is_unknown() && before.is_none() {
                true => self.unknown += 1,
                false => self.has_news |= answer.is_news(),
            }
            let place = before.unwrap_or(self.answers.len());
            match self.answers.get_mut(place) {
                Some(answered) => *answered = answer,
                None => self.answers.push(answer),
            }
            looked_at.push(place);
        }
        looked_at
    }

    /// Drops what was read before the request waits, which may take as long as its client likes:
    /// the memory is for those who are answered. That it is there stays known.
    fn put_back(&mut self) {
        self.room.clear();
        for answer in &mut self.answers {
            answer.fetched.records.clear();
        }
    }

    /// The partitions of which something was read that was put back: it is read again to be sent.
    fn take_put_back(&mut self) -> Vec<Planned> {
        let mut put_back = Vec::new();
        for answer in &mut self.answers {
            if answer.fetched.bytes > 0 && answer.fetched.records.is_empty() {
                self.bytes -= std::mem::take(&mut answer.fetched.bytes);
                put_back.push(answer.planned.clone());
            }
        }
        put_back
    }

    /// Has changes of a partition reported from what was read on.
    fn watch(&mut self, place: usize, plan: &FetchPlan) {
        let Some(answer) = self.answers.get(place) else {
            return;
        };
        answer.watch(plan);
        self.places.insert(answer.planned.place, place);
    }
}

/// Lets the shard's other tasks have a turn before every so many'th of the partitions.
async fn give_way<R: Runtime>(context: &Context<R>, nth: usize) {
    if nth % LOOKS_AT_ONCE == LOOKS_AT_ONCE - 1 {
        context.shard.rt().yield_now().await;
    }
}

async fn read_one<R: Runtime>(
    context: &Context<R>,
    image: &Image,
    plan: &FetchPlan,
    planned: Planned,
    left: Bounds,
    is_first: bool,
    room: &mut ResponseRoom,
) -> Answer<R> {
    let ask = planned.ask;
    let mut answer = Answer::unread(planned);
    let (slot, partition) = match find(context, image, plan, &answer.planned) {
        Ok(found) => found,
        Err(NotHere { code, leader }) => {
            (answer.code, answer.leader) = (code, leader);
            return answer;
        }
    };
    let mut ask = FetchAsk {
        offset: Offset(ask.fetch_offset),
        max_bytes: usize::try_from(ask.max_bytes)
            .unwrap_or(0)
            .min(left.max_bytes),
        whole_first: is_first,
        isolation: left.isolation,
        current_leader_epoch: LeaderEpoch(ask.current_leader_epoch),
        last_fetched_epoch: LeaderEpoch(ask.last_fetched_epoch),
    };
    let is_full = ask.max_bytes == 0 && !is_first;
    if !is_full && partition.has_more(ask.offset, ask.isolation) {
        match room.take(ask.max_bytes) {
            Some(bytes) => ask.max_bytes = ask.max_bytes.min(bytes),
            // It is left out, and its turn comes when there is memory: nothing waits for memory
            // while it holds some.
            None => {
                answer.is_short = true;
                (ask.max_bytes, ask.whole_first) = (0, false);
            }
        }
    }
    let fetched = partition.fetch(ask).await;
    let used = fetched
        .as_ref()
        .map_or(0, |fetched| memory_of(&fetched.records));
    room.settle(used);
    match fetched {
        Ok(fetched) => answer.fetched = fetched,
        Err(FetchError::Read(ReadError::NoMemory(_))) => {
            answer.is_short = true;
            answer.tell_marks(&partition);
        }
        Err(error) => {
            answer.code = error.code();
            answer.tell_marks(&partition);
        }
    }
    answer.partition = Some((slot, partition));
    answer
}

/// The partition, by its slot where it was found before.
fn find<R: Runtime>(
    context: &Context<R>,
    image: &Image,
    plan: &FetchPlan,
    planned: &Planned,
) -> Result<(PartitionSlot, Partition<R>), NotHere> {
    if let Some(slot) = planned.slot
        && let Some(partition) = context.shard.at(slot)
    {
        return Ok((slot, partition));
    }
    let (topic, index) = (
        planned.key.topic.as_ref(),
        PartitionIndex(planned.key.index),
    );
    let (slot, partition) = context.locate(image, topic, index)?;
    plan.found_at(planned, slot);
    Ok((slot, partition))
}

impl TopicKey {
    fn as_ref(&self) -> TopicRef<'_> {
        match self {
            Self::Name(name) => TopicRef::Name(name),
            Self::Id(id) => TopicRef::Id(*id),
        }
    }
}

impl<R: Runtime> Answer<R> {
    fn unread(planned: Planned) -> Self {
        Self {
            planned,
            code: ErrorCode::None,
            fetched: Fetched {
                high_watermark: Offset(-1),
                last_stable: Offset(-1),
                log_start: Offset(-1),
                ..Fetched::default()
            },
            partition: None,
            leader: None,
            is_short: false,
        }
    }

    /// Whether the metadata has no such partition.
    fn is_unknown(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        )
    }

    /// Takes the marks of a partition of which nothing was read.
    fn tell_marks(&mut self, partition: &Partition<R>) {
        let marks = partition.watermarks();
        self.fetched.log_start = marks.log_start;
        self.fetched.high_watermark = marks.high_watermark;
        self.fetched.last_stable = marks.last_stable;
    }

    /// Whether the client must hear of it at once.
    fn is_news(&self) -> bool {
        self.code != ErrorCode::None || self.fetched.diverging.is_some()
    }

    /// Whether there was nothing to read: only a change brings something.
    fn at_rest(&self, isolation: Isolation) -> bool {
        let offset = Offset(self.planned.ask.fetch_offset);
        let end = match isolation {
            Isolation::ReadUncommitted => self.fetched.high_watermark,
            Isolation::ReadCommitted => self.fetched.last_stable,
        };
        !self.is_news() && self.fetched.bytes == 0 && offset >= end
    }

    /// Has the partition report that there is more to say than this answer says.
    fn watch(&self, plan: &FetchPlan) {
        let Some((slot, partition)) = &self.partition else {
            return;
        };
        plan.watch(&self.planned, *slot, |ready, place| {
            partition.watch(ready, place)
        });
        let marks = partition.watermarks();
        let is_outdated = marks.high_watermark != self.fetched.high_watermark
            || marks.last_stable != self.fetched.last_stable
            || marks.log_start != self.fetched.log_start
            || partition.role() != Role::Leader;
        if is_outdated {
            plan.ready.tell(self.planned.place);
        }
    }

    fn data(&self, version: i16, isolation: Isolation) -> FetchPartitionData<'static> {
        let old = version < FIRST_VERSION_WITH_STORAGE_ERROR;
        let error_code = match self.code {
            ErrorCode::KafkaStorageError if old => ErrorCode::NotLeaderOrFollower,
            code => code,
        };
        let diverging = self.fetched.diverging.map(|diverging| DivergingEpoch {
            epoch: diverging.epoch,
            end_offset: diverging.end_offset,
        });
        // As in Kafka: none to tell of is an empty list, none asked for is null.
        let aborted_transactions = match isolation {
            Isolation::ReadUncommitted => None,
            Isolation::ReadCommitted => Some(Vec::new()),
        };
        FetchPartitionData {
            partition_index: PartitionIndex(self.planned.key.index),
            error_code,
            high_watermark: self.fetched.high_watermark,
            last_stable_offset: self.fetched.last_stable,
            log_start_offset: self.fetched.log_start,
            diverging_epoch: diverging.unwrap_or_default(),
            current_leader: self.leader.clone().unwrap_or_default(),
            aborted_transactions,
            records: Some(Records::Elsewhere(self.fetched.bytes as u32)),
            ..Default::default()
        }
    }
}

async fn respond<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    plan: &FetchPlan,
    bounds: Bounds,
    round: Round<R>,
) -> ResponseFrame {
    let mut redirects = Redirects::default();
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut records: Vec<Vec<Buf>> = Vec::new();
    let (answers, memory) = (round.answers, round.room.into_permit());
    for (nth, answer) in answers.into_iter().enumerate() {
        give_way(context, nth).await;
        if plan.session_id != 0 && !tell_session(plan, &answer, bounds.isolation) {
            continue;
        }
        if let Some(leader) = &answer.leader {
            redirects.add(context, &call.session, leader);
        }
        let data = answer.data(call.header.version, bounds.isolation);
        records.push(answer.fetched.records);
        let (topic, topic_id) = match &answer.planned.key.topic {
            TopicKey::Name(name) => (&**name, TopicId::ZERO),
            TopicKey::Id(id) => ("", *id),
        };
        match topics.last_mut() {
            Some(last) if *last.topic == *topic && last.topic_id == topic_id => {
                last.partitions.push(data);
            }
            _ => topics.push(FetchableTopicResponse {
                topic: topic.to_owned().into(),
                topic_id,
                partitions: List::from(data),
            }),
        }
    }
    plan.end();
    let response = FetchResponse {
        session_id: plan.session_id,
        responses: topics.into_iter().collect(),
        node_endpoints: redirects.into_endpoints(),
        ..Default::default()
    };
    call.respond_with(context, response, &records, memory)
}

/// Tells the session what was found and asks it whether the client must be told; a full response
/// tells everything.
fn tell_session<R: Runtime>(plan: &FetchPlan, answer: &Answer<R>, isolation: Isolation) -> bool {
    let at_rest = answer.at_rest(isolation);
    if at_rest {
        answer.watch(plan);
    }
    let says = PartitionAnswer {
        has_records: answer.fetched.bytes > 0,
        has_error: answer.is_news(),
        high_watermark: answer.fetched.high_watermark.0,
        log_start: answer.fetched.log_start.0,
        at_rest,
    };
    plan.is_news(&answer.planned, says) || !plan.incremental
}

fn failed<R: Runtime>(context: &Context<R>, call: &Call, error_code: ErrorCode) -> ResponseFrame {
    let response = FetchResponse {
        error_code,
        ..Default::default()
    };
    call.respond(context, response)
}

async fn session_ask<R: Runtime>(
    context: &Context<R>,
    request: &FetchRequest<'_>,
    version: i16,
) -> SessionAsk {
    let by_topic_id = version >= FIRST_VERSION_BY_ID;
    let key = |name: &str, id: TopicId| match by_topic_id {
        true => TopicKey::Id(id),
        false => TopicKey::Name(name.into()),
    };
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let topic_key = key(&topic.topic, topic.topic_id);
        for partition in &topic.partitions {
            give_way(context, partitions.len()).await;
            let ask = PartitionAsk {
                fetch_offset: partition.fetch_offset.0,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch.0,
                last_fetched_epoch: partition.last_fetched_epoch.0,
            };
            let index = partition.partition.0;
            partitions.push((
                PartitionKey {
                    topic: topic_key.clone(),
                    index,
                },
                ask,
            ));
        }
    }
    let forgotten = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let topic_key = key(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |index| PartitionKey {
                topic: topic_key.clone(),
                index: index.0,
            })
        })
        .collect();
    SessionAsk {
        id: request.session_id,
        epoch: request.session_epoch,
        by_topic_id,
        partitions,
        forgotten,
    }
}
