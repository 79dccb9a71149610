//! Fetch: sessions, long polls, and records that leave as they are stored.

use std::cmp::Ordering;
use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use smallvec::SmallVec;

use crate::cluster::Image;
use crate::log::ReadError;
use crate::metrics::Stage;
use crate::model::{LeaderEpoch, LookupMap, Offset, PartitionIndex, PartitionSlot, TopicId};
use crate::partition::{FetchAsk, FetchError, Fetched, Isolation, Partition, Role};
use crate::rt::{FuturePool, Permit, Runtime};
use crate::server::connection::Reply;
use crate::server::context::{Context, STEPS_AT_ONCE};
use crate::server::errors::Code;
use crate::server::fetch_session::{
    FetchPlan, INITIAL_EPOCH, PartitionAnswer, PartitionAsk, Places, Planned,
    REQUEST_PARTITION_BYTES, SessionAsk, SessionError, TopicKey,
};
use crate::server::locate::{NotHere, Redirects, TopicRef};
use crate::server::memory::{ResponseRoom, memory_of};
use crate::server::request::Call;
use crate::server::response::{Pieces, ResponseFrame, Written};
use crate::wire::messages::{
    DivergingEpoch, FetchPartition, FetchPartitionData, FetchResponse, LeaderIdAndEpoch,
};
use crate::wire::{
    DecodeError, EncodeError, Encoded, ErrorCode, FetchItem, FetchWalk, FetchWriter, Piece, Records,
};

/// Topics are named by id from this version on (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;
/// KAFKA_STORAGE_ERROR is known from this version on.
const FIRST_VERSION_WITH_STORAGE_ERROR: i16 = 6;

/// So many answers are looked through for one, instead of kept by their places.
const FEW_ANSWERS: usize = 8;

/// What was read so far for one response.
struct Round<R: Runtime> {
    answers: SmallVec<[Answer<R>; 1]>,
    /// By its place in the session, where the answer for a partition is, once there are more than
    /// [`FEW_ANSWERS`].
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
    /// Whether the response names it.
    is_told: bool,
}

/// A request of which it is fixed what it asks for.
pub struct PlannedFetch<R: Runtime> {
    context: Context<R>,
    call: Call,
    plan: FetchPlan,
    /// The places of what is to be looked at first.
    due: Places,
    bounds: Bounds,
    /// What the answers are charged to.
    memory: Permit,
}

/// How much a request says.
#[derive(Clone, Copy, Default)]
struct Extent {
    partitions: usize,
    /// Bytes of its topics' names, and what these take beside them.
    names_bytes: usize,
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
    let (walk, extent) = walk_through(context, &call).await?;
    let request = walk.fields();
    if request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0 {
        // Nobody may claim to be a follower: there are none (CVE-2018-1288).
        let code = ErrorCode::ClusterAuthorizationFailed;
        return Ok(Reply::Ready(failed(context, &call, code)));
    }
    let Some(isolation) = Isolation::from_number(request.isolation_level) else {
        let code = ErrorCode::InvalidRequest;
        return Ok(Reply::Ready(failed(context, &call, code)));
    };
    let cap = usize::try_from(context.shard.config().fetch_max_bytes).unwrap_or(0);
    let bounds = Bounds {
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(cap),
        deadline: call.times.last() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation,
    };
    let ask = SessionAsk {
        id: request.session_id,
        epoch: request.session_epoch,
        by_topic_id: call.header.version >= FIRST_VERSION_BY_ID,
    };
    drop(walk);
    let (plan, due, memory) = match planned(context, &call, ask, extent).await? {
        Ok(planned) => planned,
        Err(reply) => return Ok(reply),
    };
    call.lap(context, Stage::Accepted);
    Ok(Reply::Later(pending.begin(PlannedFetch {
        context: context.clone(),
        call,
        plan,
        due,
        bounds,
        memory,
    })))
}

/// Reads a request to its end, before anything follows from it: what it says beside its partitions,
/// and how many of these there are.
async fn walk_through<'a, R: Runtime>(
    context: &Context<R>,
    call: &'a Call,
) -> Result<(FetchWalk<'a>, Extent), DecodeError> {
    let mut walk = FetchWalk::begin(call.body(), call.header.version)?;
    let mut extent = Extent::default();
    let mut steps = 0;
    while let Some(item) = walk.step()? {
        context.give_way(steps).await;
        steps += 1;
        match item {
            FetchItem::Topic { name: "", .. } => {}
            FetchItem::Topic { name, .. } => {
                extent.names_bytes += size_of::<usize>() * 2 + name.len()
            }
            FetchItem::Partition(_) => extent.partitions += 1,
            FetchItem::Forgotten(_) => {}
        }
    }
    Ok((walk, extent))
}

/// What a request asks for, the places to be looked at first, and the memory for their answers; or
/// what is replied instead.
type Planning = Result<(FetchPlan, Places, Permit), Reply>;

async fn planned<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    ask: SessionAsk,
    extent: Extent,
) -> Result<Planning, DecodeError> {
    // What a session remembers is charged to the session.
    let of_request = match ask.is_full() {
        true => extent.partitions * (answer_bytes::<R>() + ask.bytes_of_request()),
        false => 0,
    };
    let mut memory = match context
        .fetches
        .acquire(of_request + extent.names_bytes)
        .await
    {
        Ok(memory) => memory,
        Err(too_large) => {
            let (now, refusals) = (context.shard.rt().now(), &context.refusals);
            refusals.tell(now, &call.session, &"a Fetch request", &too_large);
            return Ok(Err(Reply::Close));
        }
    };
    let mut plan = match session_plan(context, call, ask, extent).await? {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(Reply::Ready(failed(context, call, error.code())))),
    };
    if plan.refused.is_some() {
        memory.overdraw(extent.partitions * REQUEST_PARTITION_BYTES);
    }
    let most = match plan.incremental {
        // Whoever is left out has its turn with the next request.
        true => context.fetches.most_bytes() / answer_bytes::<R>(),
        false => usize::MAX,
    };
    let mut due = Places::new();
    while !plan.gather(&mut due, STEPS_AT_ONCE, most) {
        context.shard.rt().yield_now().await;
    }
    if plan.incremental
        && let Ok(of_answers) = context
            .fetches
            .acquire(due.len() * answer_bytes::<R>())
            .await
    {
        memory = of_answers;
    }
    Ok(Ok((plan, due, memory)))
}

/// Names the request's partitions to its session, or to one that nobody finds again.
async fn session_plan<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    ask: SessionAsk,
    extent: Extent,
) -> Result<Result<FetchPlan, SessionError>, DecodeError> {
    let (rt, sessions, now) = (context.shard.rt(), &context.sessions, call.times.last());
    let opened = sessions.borrow_mut().open(ask, call.session.number(), now);
    let mut naming = match opened {
        Ok(naming) => naming,
        Err(error) => return Ok(Err(error)),
    };
    if ask.is_full() {
        naming.expect(extent.partitions);
    }
    let mut walk = FetchWalk::begin(call.body(), call.header.version)?;
    let mut steps = 0;
    while let Some(item) = walk.step()? {
        context.give_way(steps).await;
        steps += 1;
        match item {
            FetchItem::Topic { name, id } => naming.topic(name, id),
            FetchItem::Partition(asked) => naming.read(asked.partition.0, partition_ask(&asked)),
            FetchItem::Forgotten(index) => naming.forget(index.0),
        }
    }
    let random = match ask.epoch {
        INITIAL_EPOCH => rt.random_u64(),
        _ => 0,
    };
    let plan = sessions.borrow_mut().begin(naming, now, random);
    let refused: Option<&dyn Display> = match &plan {
        Ok(plan) => plan.refused.as_ref().map(|why| why as _),
        Err(error) => Some(error),
    };
    if let Some(why) = refused {
        context.metrics.sessions_refused.add(1);
        context
            .refusals
            .tell_of_session(rt.now(), &call.session, why);
    }
    context.take_down_sessions().await;
    Ok(plan)
}

fn partition_ask(asked: &FetchPartition) -> PartitionAsk {
    PartitionAsk {
        fetch_offset: asked.fetch_offset.0,
        max_bytes: asked.partition_max_bytes,
        current_leader_epoch: asked.current_leader_epoch.0,
        last_fetched_epoch: asked.last_fetched_epoch.0,
    }
}

/// What a partition takes of a response that is being made.
const fn answer_bytes<R: Runtime>() -> usize {
    size_of::<Answer<R>>() + size_of::<(u32, usize)>() * 2
}

impl<R: Runtime> PlannedFetch<R> {
    /// Reads until there is enough, or news, or no time left, and makes the response. After the first
    /// round, only what has changed is looked at again.
    pub async fn serve(self) -> ResponseFrame {
        let Self {
            context,
            call,
            plan,
            mut due,
            bounds,
            mut memory,
        } = self;
        let mut round = Round::new(context.responses.room());
        round.answers.reserve_exact(due.len());
        loop {
            round.read(&context, &plan, &due, bounds).await;
            let answers = round.answers.len() * answer_bytes::<R>();
            memory.overdraw(answers.saturating_sub(memory.amount()));
            // What is not there is answered with the rest, as in Kafka: it is known before anything
            // is read, and if it ended the wait, a consumer of one topic that is gone and one that
            // is not would ask without a pause. With nothing else there is nothing to wait for.
            round.has_news |= round.unknown == plan.asked();
            let is_late = context.shard.rt().now() >= bounds.deadline;
            if round.is_enough(bounds) || is_late {
                let put_back = due.len();
                round.take_put_back(&mut due);
                round.read(&context, &plan, &due[put_back..], bounds).await;
                if round.bytes > 0 || !round.is_short || is_late {
                    break;
                }
            }
            round.wait(&context, &plan, &mut due, bounds).await;
        }
        let frame = respond(&context, &call, &plan, bounds, &mut round).await;
        take_down(&context, &plan, round).await;
        frame
    }
}

/// Lets go of what the request held, which may be as much as it asked for.
async fn take_down<R: Runtime>(context: &Context<R>, plan: &FetchPlan, mut round: Round<R>) {
    while !round.answers.is_empty() {
        context.give_way(round.answers.len()).await;
        round.answers.pop();
    }
    while plan.take_down(STEPS_AT_ONCE) {
        context.shard.rt().yield_now().await;
    }
}

impl<R: Runtime> Round<R> {
    fn new(room: ResponseRoom) -> Self {
        Self {
            room,
            is_short: false,
            answers: SmallVec::new(),
            places: LookupMap::default(),
            bytes: 0,
            unknown: 0,
            has_news: false,
        }
    }

    /// Looks at the partitions of these places, instead of what was read of them before.
    async fn read(&mut self, context: &Context<R>, plan: &FetchPlan, due: &[u32], bounds: Bounds) {
        let image = context.shard.image();
        for (nth, place) in due.iter().enumerate() {
            context.give_way(nth).await;
            let before = self.answer_at(*place);
            let planned = match before.and_then(|at| self.answers.get_mut(at)) {
                Some(answer) => {
                    self.bytes -= std::mem::take(&mut answer.fetched.bytes);
                    Some(answer.planned.clone())
                }
                None => plan.planned(*place),
            };
            // It may have left the session meanwhile.
            let Some(planned) = planned else { continue };
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
            match before.and_then(|at| self.answers.get_mut(at)) {
                Some(answered) => *answered = answer,
                None => self.push(answer),
            }
        }
    }

    /// Where the answer for the partition of a place is.
    fn answer_at(&self, place: u32) -> Option<usize> {
        match self.answers.len() <= FEW_ANSWERS {
            true => self
                .answers
                .iter()
                .position(|answer| answer.planned.place == place),
            false => self.places.get(&place).copied(),
        }
    }

    fn push(&mut self, answer: Answer<R>) {
        self.answers.push(answer);
        let answers = self.answers.len();
        let unlisted = match answers.cmp(&(FEW_ANSWERS + 1)) {
            Ordering::Less => return,
            Ordering::Equal => 0,
            Ordering::Greater => answers - 1,
        };
        self.places
            .reserve(self.answers.capacity() - self.places.len());
        for (at, answer) in self.answers.iter().enumerate().skip(unlisted) {
            self.places.insert(answer.planned.place, at);
        }
    }

    /// Whether the client is to be told at once.
    fn is_enough(&self, bounds: Bounds) -> bool {
        let has_enough = self.bytes >= bounds.min_bytes || (self.is_short && self.bytes > 0);
        has_enough || self.has_news
    }

    /// Waits for something to change, or to be over. `due` has what was looked at last, and then what
    /// is to be looked at next.
    async fn wait(
        &mut self,
        context: &Context<R>,
        plan: &FetchPlan,
        due: &mut Places,
        bounds: Bounds,
    ) {
        for (nth, place) in due.iter().enumerate() {
            context.give_way(nth).await;
            let looked_at = self.answer_at(*place).and_then(|at| self.answers.get(at));
            looked_at.into_iter().for_each(|answer| answer.watch(plan));
        }
        due.clear();
        self.put_back();
        let deadline = context.shard.deadlines().until(bounds.deadline);
        if self.is_short {
            // Whatever there is to read, there is no memory for it.
            select(pin!(self.room.wait()), deadline).await;
            let short = self.answers.iter().filter(|answer| answer.is_short);
            due.extend(short.map(|answer| answer.planned.place));
        } else {
            select(pin!(plan.ready.wait()), deadline).await;
        }
        self.is_short = false;
        due.extend(std::iter::from_fn(|| plan.ready.take()));
    }

    /// Drops what was read before the request waits, which may take as long as its client likes:
    /// the memory is for those who are answered. That it is there stays known.
    fn put_back(&mut self) {
        self.room.clear();
        for answer in &mut self.answers {
            answer.fetched.records.clear();
        }
    }

    /// The places of what was read and put back: it is read again to be sent.
    fn take_put_back(&mut self, due: &mut Places) {
        for answer in &mut self.answers {
            if answer.fetched.bytes > 0 && answer.fetched.records.is_empty() {
                self.bytes -= std::mem::take(&mut answer.fetched.bytes);
                due.push(answer.planned.place);
            }
        }
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

    /// As a response names it: one of the two is empty.
    fn name_and_id(&self) -> (&str, TopicId) {
        match self {
            Self::Name(name) => (name, TopicId::ZERO),
            Self::Id(id) => ("", *id),
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
            is_told: false,
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
            records: Some(match self.fetched.bytes {
                0 => Records::Bytes(&[]),
                bytes => Records::Elsewhere(bytes as u32),
            }),
            ..Default::default()
        }
    }
}

async fn respond<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    plan: &FetchPlan,
    bounds: Bounds,
    round: &mut Round<R>,
) -> ResponseFrame {
    let mut redirects = Redirects::default();
    for (nth, answer) in round.answers.iter_mut().enumerate() {
        context.give_way(nth).await;
        answer.is_told = plan.session_id == 0 || tell_session(plan, answer, bounds.isolation);
        if let Some(leader) = answer.leader.as_ref().filter(|_| answer.is_told) {
            redirects.add(context, &call.session, leader);
        }
    }
    let mut response = FetchResponse {
        session_id: plan.session_id,
        node_endpoints: redirects.into_endpoints(),
        ..Default::default()
    };
    call.throttle(context, &mut response);
    let mut bytes = context.writer.begin();
    let encoded = encode(context, call, bounds, &round.answers, &response, &mut bytes).await;
    let arena = context.shard.rt().arena();
    let Written {
        encoded,
        framing,
        counted,
    } = context.writer.end(arena, call.header, bytes, encoded)?;
    let mut pieces = Pieces::new();
    let with_records = |answer: &&mut Answer<R>| answer.is_told && answer.fetched.bytes > 0;
    let mut records = round.answers.iter_mut().filter(with_records);
    for (nth, piece) in encoded.pieces().enumerate() {
        context.give_way(nth).await;
        match piece {
            Piece::Framing(range) => pieces.push(framing.slice(range)),
            Piece::Records(_) => {
                let records = records
                    .next()
                    .map(|answer| answer.fetched.records.drain(..));
                pieces.extend(records.into_iter().flatten());
            }
        }
    }
    let memory = round.room.take_permit();
    Some(call.outgoing(context, pieces, counted, memory))
}

/// Writes the answers that are told, those of one topic together where they follow each other.
async fn encode<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    bounds: Bounds,
    answers: &[Answer<R>],
    response: &FetchResponse<'_>,
    bytes: &mut Vec<u8>,
) -> Result<Encoded, EncodeError> {
    let header = call.header;
    let is_together =
        |one: &Answer<R>, next: &Answer<R>| one.planned.key.topic == next.planned.key.topic;
    let told = |answers: &[Answer<R>]| answers.iter().filter(|answer| answer.is_told).count();
    let topics = || {
        answers
            .chunk_by(is_together)
            .filter(|topic| told(topic) > 0)
    };
    let (version, id) = (header.version, header.correlation_id);
    let mut writer = FetchWriter::begin(bytes, version, id, response, topics().count());
    let mut nth = 0;
    for topic in topics() {
        let (name, id) = topic[0].planned.key.topic.name_and_id();
        writer.begin_topic(name, id, told(topic));
        for answer in topic.iter().filter(|answer| answer.is_told) {
            context.give_way(nth).await;
            nth += 1;
            writer.partition(&answer.data(version, bounds.isolation));
        }
        writer.end_topic();
    }
    writer.finish(response)
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
