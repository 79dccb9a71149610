//! Produce: each batch is accepted in the request's order; the response waits until all are
//! acknowledged.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use smallvec::SmallVec;

use crate::cluster::Image;
use crate::log::StorageError;
use crate::metrics::Stage;
use crate::model::{Offset, PartitionIndex};
use crate::partition::{Accepted, Acks, ProduceAsk, ProduceError};
use crate::rt::{FuturePool, Runtime};
use crate::server::connection::Reply;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::locate::{NotHere, Redirects, TopicRef};
use crate::server::request::Call;
use crate::server::response::ResponseFrame;
use crate::wire::messages::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::wire::{DecodeError, ErrorCode, List};

/// zstd may be produced from this version on (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
/// Topics are named by id from this version on (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;

/// A request whose batches are accepted or not, until those that are can be acknowledged.
pub struct AcceptedProduce<R: Runtime> {
    context: Context<R>,
    call: Call,
    outcomes: Outcomes<R>,
    /// When a batch that is not safe yet times out.
    deadline: Duration,
}

/// What has become of each batch, in the order of the request. Most requests have one.
type Outcomes<R> = SmallVec<[Outcome<R>; 1]>;

enum Outcome<R: Runtime> {
    Accepted(Accepted<R>),
    Refused(Refusal),
}

/// Why a batch was not accepted, as the response tells it.
#[derive(Default)]
struct Refusal {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<(i32, String)>,
    leader: Option<LeaderIdAndEpoch>,
}

/// Serves a Produce request.
pub async fn produce<R: Runtime>(
    context: &Context<R>,
    call: Call,
    pending: &FuturePool<AcceptedProduce<R>, ResponseFrame>,
) -> Result<Reply, DecodeError> {
    let request: ProduceRequest = call.read()?;
    let acks = request.acks;
    let mut outcomes = Outcomes::new();
    for topic in &request.topic_data {
        accept_topic(context, &call, &request, topic, &mut outcomes).await;
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let deadline = call.times.last() + timeout;
    drop(request);
    if acks == 0 {
        let refused = |outcome: &Outcome<R>| matches!(outcome, Outcome::Refused(_));
        let failed = outcomes.iter().any(refused);
        context.metrics.times.record(call.kind(), &call.times);
        // There is no response to carry an error: the closed connection is the message.
        return Ok(if failed { Reply::Close } else { Reply::Nothing });
    }
    Ok(Reply::Later(pending.begin(AcceptedProduce {
        context: context.clone(),
        call,
        outcomes,
        deadline,
    })))
}

async fn accept_topic<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    request: &ProduceRequest<'_>,
    topic: &TopicProduceData<'_>,
    outcomes: &mut Outcomes<R>,
) {
    let image = context.shard.image();
    let named = match call.header.version >= FIRST_VERSION_BY_ID {
        true => TopicRef::Id(topic.topic_id),
        false => TopicRef::Name(&topic.name),
    };
    for data in &topic.partition_data {
        outcomes.push(accept(context, call, request, &image, named, data).await);
    }
}

async fn accept<R: Runtime>(
    context: &Context<R>,
    call: &Call,
    request: &ProduceRequest<'_>,
    image: &Image,
    topic: TopicRef<'_>,
    data: &PartitionProduceData<'_>,
) -> Outcome<R> {
    let acks = match request.acks {
        -1 => Acks::All,
        // With acks=0 nobody waits.
        0 | 1 => Acks::Leader,
        _ => return Outcome::Refused(ErrorCode::InvalidRequiredAcks.into()),
    };
    if request.transactional_id.is_some() {
        return Outcome::Refused(ErrorCode::TransactionalIdAuthorizationFailed.into());
    }
    let partition = match context.locate(image, topic, data.index) {
        Ok((_, partition)) => partition,
        Err(not_here) => return Outcome::Refused(not_here.into()),
    };
    let records = data
        .records
        .map(|records| records.bytes())
        .unwrap_or_default();
    let rt = context.shard.rt();
    let ask = ProduceAsk {
        is_zstd_allowed: call.header.version >= FIRST_VERSION_WITH_ZSTD,
        acks,
        now: call.times.last(),
        now_ms: rt.wall_clock_ms(),
    };
    let pause = async || rt.yield_now().await;
    let checked = || call.lap(context, Stage::Checked);
    let produced = partition.produce(records, ask, context.shard.opener(), &pause, &checked);
    let produced = produced.await;
    call.lap(context, Stage::Accepted);
    match produced {
        Ok(accepted) => Outcome::Accepted(accepted),
        Err(error) => Outcome::Refused(error.into()),
    }
}

impl<R: Runtime> AcceptedProduce<R> {
    /// Waits for every accepted batch, all of them at once, and makes the response.
    pub async fn acknowledge(self) -> ResponseFrame {
        let (context, call) = (&self.context, &self.call);
        let latch = context.latches.take();
        for outcome in &self.outcomes {
            if let Outcome::Accepted(accepted) = outcome {
                accepted.join(&latch);
            }
        }
        if latch.is_held() {
            let deadline = context.shard.deadlines().until(self.deadline);
            select(pin!(latch.wait()), deadline).await;
        }
        call.lap(context, Stage::Journaled);
        self.respond()
    }

    /// The outcomes under the names that the request has, which is read once more instead of
    /// copied.
    fn respond(self) -> ResponseFrame {
        let (context, call) = (&self.context, &self.call);
        let request: ProduceRequest = call.read().ok()?;
        let mut outcomes = self.outcomes.into_iter();
        let mut redirects = Redirects::default();
        let mut response = |(data, outcome): (&PartitionProduceData<'_>, Outcome<R>)| match outcome
        {
            Outcome::Accepted(accepted) => acknowledged(data.index, &accepted),
            Outcome::Refused(refusal) => {
                if let Some(leader) = &refusal.leader {
                    redirects.add(context, &call.session, leader);
                }
                refused(data.index, refusal)
            }
        };
        let mut responses = List::with_capacity(request.topic_data.len());
        for topic in &request.topic_data {
            let batches = topic.partition_data.iter().zip(&mut outcomes);
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: batches.map(&mut response).collect(),
            });
        }
        let response = ProduceResponse {
            responses,
            throttle_time_ms: 0,
            node_endpoints: redirects.into_endpoints(),
        };
        call.respond(context, response)
    }
}

fn acknowledged<R: Runtime>(
    index: PartitionIndex,
    accepted: &Accepted<R>,
) -> PartitionProduceResponse<'static> {
    match accepted.outcome() {
        // It may become durable later; Kafka says the same of a batch that waits for replicas.
        None => refused(index, ErrorCode::RequestTimedOut.into()),
        Some(Ok(acknowledged)) => PartitionProduceResponse {
            index,
            base_offset: acknowledged.base_offset,
            log_append_time_ms: acknowledged.log_append_time_ms.unwrap_or(-1),
            log_start_offset: acknowledged.log_start,
            ..Default::default()
        },
        Some(Err(error)) => refused(index, error.into()),
    }
}

fn refused(index: PartitionIndex, refusal: Refusal) -> PartitionProduceResponse<'static> {
    let record_error = |(batch_index, message): (i32, String)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(message.into()),
    };
    PartitionProduceResponse {
        index,
        error_code: refusal.code,
        base_offset: Offset(-1),
        record_errors: refusal.records.into_iter().map(record_error).collect(),
        error_message: refusal.message.map(Into::into),
        current_leader: refusal.leader.unwrap_or_default(),
        ..Default::default()
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

impl From<NotHere> for Refusal {
    fn from(not_here: NotHere) -> Self {
        Self {
            code: not_here.code,
            leader: not_here.leader,
            ..Self::default()
        }
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self {
            code: error.code(),
            message: Some(error.to_string()),
            ..Self::default()
        }
    }
}

impl From<ProduceError> for Refusal {
    fn from(error: ProduceError) -> Self {
        let records = match &error {
            ProduceError::Refused(error) => error
                .rejected_records()
                .map(|record| (record.index, record.reason.to_string()))
                .collect(),
            ProduceError::Append(_) | ProduceError::Awaited(_) => Vec::new(),
        };
        Self {
            code: error.code(),
            message: Some(error.to_string()),
            records,
            leader: None,
        }
    }
}
