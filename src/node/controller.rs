//! The controller of a node: decides on changes of the metadata, makes them durable, and has every
//! shard apply them. It runs beside shard 0; the way to it is
//! [`ControlPlane`](crate::shard::ControlPlane).
//!
//! Changes are pipelined. Whatever has gathered while one write was under way is decided in its
//! order, each change on the image that the one before leads to, and becomes durable in one write. A
//! write that fails drops the changes in it, which are all that were decided on one another; the next
//! are decided on what is durable. A change that frees space is written apart from those that take
//! some: it must go through when the disk is full. Shards apply behind, and an answer waits for them
//! where the change concerns them, the next change for nobody.
//!
//! A change that makes partitions is decided on only when every shard holds the room that they need:
//! what clients have seen is there to stay, on a full disk as well. Others do not wait for that.
//!
//! An example. While a write is under way, A (CreateTopics), B (AllocateProducerIds) and C
//! (DeleteTopics) arrive. A and B are decided and written together. B is answered at once. A's
//! partitions are made by their owners, and A is answered when the last of them has said so; C, which
//! waits for neither, is written meanwhile. Should the write of A and B find the disk full, both are
//! answered so, and C goes on alone.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::{Either, select};

use super::metadata_log::MetadataLog;
use super::rules::NodeRules;
use crate::cluster::controller::{
    Change, Deciding, Decision, Made, RoomNeeded, Rules, new_partition_counts,
};
use crate::cluster::{Image, Record};
use crate::log::files::record_log::Reserve;
use crate::model::TopicId;
use crate::rt::{LaneReceiver, LaneSender, Runtime, TaskClass, UNBOUNDED};
use crate::shard::{
    Applied, Apply, ChangeError, ChangeRequest, Changed, ControlMessage, RoomTicket, ShardCall,
    ShardLink,
};

/// Records of one write together, about, so that it stays below the longest that can be written.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Changes of one write.
const WRITE_CHANGES_MAX: usize = 1024;

/// What decisions may cost before other tasks have their turn, in new partitions ([`Deciding::step`]).
const COST_AT_ONCE: usize = 1000;
/// Topics whose room is reckoned before other tasks have their turn.
const RECKONED_AT_ONCE: usize = 512;

/// The controller of one node.
pub(super) struct Controller<R: Runtime> {
    rt: R,
    log: MetadataLog<R>,
    /// What is durable.
    image: Arc<Image>,
    rules: NodeRules,
    shards: Arc<[ShardLink]>,
    last_ticket: RoomTicket,
}

/// A change that can be decided on, and the room that shards hold for it.
struct Ready {
    request: ChangeRequest,
    room: Option<RoomTicket>,
}

/// A change that has been decided on, until its write.
struct Decided {
    decision: Decision,
    reply: LaneSender<Changed>,
    validate_only: bool,
    room: Option<RoomTicket>,
}

impl<R: Runtime> Controller<R> {
    /// A controller over the metadata log, which adds up to `image`; no shard has started yet.
    pub(super) fn new(rt: &R, log: MetadataLog<R>, image: Arc<Image>, rules: NodeRules) -> Self {
        Self {
            rt: rt.clone(),
            log,
            image,
            rules,
            shards: Arc::default(),
            last_ticket: RoomTicket(0),
        }
    }

    /// The shards that apply what is decided from now on.
    pub(super) fn set_shards(&mut self, shards: Vec<ShardLink>) {
        self.shards = shards.into();
    }

    /// The metadata as far as it is durable.
    pub(super) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    pub(super) fn cluster_id(&self) -> String {
        self.image
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default()
    }

    /// A change before there are shards that ask for one; durable when this returns.
    pub(super) async fn propose(&mut self, change: Change) -> Result<(), ChangeError> {
        let (reply, mut answer) = self.rt.lane(1);
        let request = ChangeRequest {
            change,
            validate_only: false,
            reply,
        };
        let ready = Ready {
            request,
            room: None,
        };
        self.write_group(&mut VecDeque::from([ready]), None).await;
        let outcome = answer.recv().await.ok_or(ChangeError::Stopping)??;
        outcome.into_iter().try_for_each(|item| item.map(drop))
    }

    /// Serves requests until `stop` says so or hangs up.
    pub(super) async fn run(
        mut self,
        mut requests: LaneReceiver<ChangeRequest>,
        mut stop: LaneReceiver<()>,
    ) {
        // What follows from changes, and what has found its room.
        let (ready, mut readied) = self.rt.lane(UNBOUNDED);
        let mut waiting = VecDeque::new();
        loop {
            self.snapshot_when_due().await;
            if waiting.is_empty() {
                let next_ready = std::pin::pin!(readied.recv());
                let asked = std::pin::pin!(requests.recv());
                let stopped = std::pin::pin!(stop.recv());
                match select(select(next_ready, asked), stopped).await {
                    Either::Left((Either::Left((Some(next), _)), _)) => waiting.push_back(next),
                    Either::Left((Either::Right((Some(next), _)), _)) => {
                        waiting.extend(self.find_room(next, &ready));
                    }
                    _ => return,
                }
            }
            while waiting.len() < WRITE_CHANGES_MAX
                && let Some(next) = readied.try_recv()
            {
                waiting.push_back(next);
            }
            while waiting.len() < WRITE_CHANGES_MAX
                && let Some(next) = requests.try_recv()
            {
                waiting.extend(self.find_room(next, &ready));
            }
            self.write_group(&mut waiting, Some(&ready)).await;
        }
    }

    /// Asks every shard to hold the room that a change needs. Gives the change where it needs none;
    /// otherwise it comes by `ready` when there is room, and is answered when there is not.
    fn find_room(&mut self, request: ChangeRequest, ready: &LaneSender<Ready>) -> Option<Ready> {
        let makes_partitions = matches!(
            request.change,
            Change::CreateTopics(_) | Change::CreatePartitions(_)
        );
        if request.validate_only || !makes_partitions {
            let room = None;
            return Some(Ready { request, room });
        }
        self.last_ticket.0 += 1;
        let (ticket, shards) = (self.last_ticket, self.shards.clone());
        let (rt, ready, image) = (self.rt.clone(), ready.clone(), self.image.clone());
        let default_count = self.rules.default_partition_count(&image);
        self.rt.spawn(TaskClass::Foreground, async move {
            let topics = room_needed(&rt, &image, default_count, &request.change).await;
            if topics.is_empty() {
                let room = None;
                // It is dropped, and answered by that, when the controller has ended; so below.
                let _ = ready.try_send(Ready { request, room });
                return;
            }
            let held = hold_room(&rt, &shards, ticket, topics.into()).await;
            let refused = match held {
                Ok(()) => {
                    let room = Some(ticket);
                    let _ = ready.try_send(Ready { request, room });
                    return;
                }
                Err(refused) => refused,
            };
            let_go(&shards, ticket);
            // Whoever asked may have gone.
            let _ = request.reply.try_send(Err(refused));
        });
        None
    }

    async fn snapshot_when_due(&mut self) {
        if let Err(error) = self.log.snapshot_when_due(&self.image).await {
            tracing::warn!(%error, "metadata snapshot failed; the log goes on without it");
        }
    }

    /// Decides on the first changes that wait and can be written together, writes their records, and
    /// has them applied and answered.
    async fn write_group(
        &mut self,
        waiting: &mut VecDeque<Ready>,
        follow_up: Option<&LaneSender<Ready>>,
    ) {
        let frees_space = waiting
            .front()
            .is_some_and(|first| first.request.change.frees_space());
        let mut image = self.image.clone();
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < WRITE_BYTES_MAX
            && let Some(Ready { request, room }) =
                waiting.pop_front_if(|next| next.request.change.frees_space() == frees_space)
        {
            let decision = self.decide(&image, &request.change).await;
            if !request.validate_only {
                image = Arc::new(decision.image.clone());
                bytes += decision
                    .records
                    .iter()
                    .map(Record::estimated_bytes)
                    .sum::<usize>();
            }
            group.push(Decided {
                decision,
                reply: request.reply,
                validate_only: request.validate_only,
                room,
            });
            self.rt.yield_now().await;
        }
        let changed = group.iter().filter(|decided| !decided.validate_only);
        let mut records = changed
            .flat_map(|decided| &decided.decision.records)
            .peekable();
        if records.peek().is_some() {
            let reserve = match frees_space {
                true => Reserve::Use,
                false => Reserve::Keep,
            };
            if let Err(error) = self.log.append(records, reserve).await {
                let error = ChangeError::from(error);
                for Decided { reply, room, .. } in group {
                    room.inspect(|ticket| let_go(&self.shards, *ticket));
                    // Whoever asked may have gone.
                    let _ = reply.try_send(Err(error.clone()));
                }
                return;
            }
            self.image = image;
        }
        for decided in group {
            self.carry_out(decided, follow_up);
        }
    }

    /// Decides on a change, and lets the shard's other tasks have their turns meanwhile: of 10,000 new
    /// topics the decision takes tens of milliseconds. Nobody else decides, so that the image stays as
    /// it is.
    async fn decide(&self, image: &Image, change: &Change) -> Decision {
        let mut deciding = Deciding::begin(image, &self.rules, change);
        let mut cost = 0;
        while let Some(more) = deciding.step(&self.rules) {
            cost += more;
            if cost >= COST_AT_ONCE {
                cost = 0;
                self.rt.yield_now().await;
            }
        }
        deciding.finish()
    }

    /// Tells the shards of a change that is durable, and answers behind them.
    fn carry_out(&self, decided: Decided, follow_up: Option<&LaneSender<Ready>>) {
        let Decided {
            decision,
            reply,
            validate_only,
            room,
        } = decided;
        let outcome = decision.outcome.into_iter();
        let outcome = outcome
            .map(|item| item.map_err(ChangeError::from))
            .collect();
        if validate_only || decision.records.is_empty() {
            room.inspect(|ticket| let_go(&self.shards, *ticket));
            // Whoever asked may have gone; so below.
            let _ = reply.try_send(Ok(outcome));
            return;
        }
        let (applied, reports) = self.rt.lane(UNBOUNDED);
        let concerns_shards = decision.records.iter().any(concerns_shards);
        let records: Arc<[Record]> = decision.records.into();
        let image = Arc::new(decision.image);
        for shard in self.shards.iter() {
            // A shard that has ended applies nothing any more.
            let _ = shard.control.try_send(ControlMessage::Apply(Apply {
                records: records.clone(),
                image: image.clone(),
                room,
                applied: concerns_shards.then(|| applied.clone()),
            }));
        }
        drop(applied);
        let Some(follow_up) = follow_up.filter(|_| concerns_shards) else {
            let _ = reply.try_send(Ok(outcome));
            return;
        };
        let answer = Answer {
            rt: self.rt.clone(),
            outcome,
            shards: self.shards.len(),
            follow_up: follow_up.clone(),
        };
        self.rt.spawn(TaskClass::Foreground, async move {
            let _ = reply.try_send(answer.behind(reports).await);
        });
    }
}

/// Of each topic of which a change makes partitions, how many one shard may get at most.
async fn room_needed<R: Runtime>(
    rt: &R,
    image: &Image,
    default_count: i32,
    change: &Change,
) -> Vec<(Arc<str>, usize)> {
    let mut needed = RoomNeeded::on(image);
    for (nth, new) in new_partition_counts(image, default_count, change).enumerate() {
        needed.add(new);
        if nth % RECKONED_AT_ONCE == RECKONED_AT_ONCE - 1 {
            rt.yield_now().await;
        }
    }
    needed.per_topic()
}

/// Has every shard hold room for so many partitions of these topics.
async fn hold_room<R: Runtime>(
    rt: &R,
    shards: &[ShardLink],
    ticket: RoomTicket,
    topics: Arc<[(Arc<str>, usize)]>,
) -> Result<(), ChangeError> {
    let mut replies = Vec::with_capacity(shards.len());
    for shard in shards {
        let (reply, answer) = rt.lane(1);
        let topics = topics.clone();
        let call = ShardCall::HoldRoom {
            ticket,
            topics,
            reply,
        };
        let asked = shard.calls.try_send(call);
        asked.map_err(|_| ChangeError::Stopping)?;
        replies.push(answer);
    }
    for mut reply in replies {
        reply.recv().await.ok_or(ChangeError::Stopping)??;
    }
    Ok(())
}

fn let_go(shards: &[ShardLink], ticket: RoomTicket) {
    for shard in shards {
        // A shard that has ended holds nothing any more.
        let _ = shard.calls.try_send(ShardCall::LetGo(ticket));
    }
}

/// Whether a record means work for shards that its answer waits for. The others are in their images
/// soon enough.
fn concerns_shards(record: &Record) -> bool {
    !matches!(
        record,
        Record::ProducerIdsAllocated { .. } | Record::TopicPurged { .. }
    )
}

/// An answer that waits for the shards.
struct Answer<R: Runtime> {
    rt: R,
    outcome: Vec<Result<Made, ChangeError>>,
    shards: usize,
    follow_up: LaneSender<Ready>,
}

impl<R: Runtime> Answer<R> {
    /// The answer, when every shard has carried the change out and what was deleted is off its name.
    async fn behind(self, mut reports: LaneReceiver<Applied>) -> Changed {
        let mut carried_out = 0;
        while let Some(report) = reports.recv().await {
            carried_out += usize::from(!report.has_undeleted);
        }
        let deleted = self.deleted();
        if !deleted.is_empty() && carried_out == self.shards {
            self.ask(Change::PurgeTopics(deleted)).await?;
        } else if !deleted.is_empty() {
            // The next start renames the directories, as long as it is told of the topic.
            tracing::error!("a deleted topic keeps its name until the next start");
        }
        Ok(self.outcome)
    }

    fn deleted(&self) -> Vec<TopicId> {
        let ids = self.outcome.iter().filter_map(|item| match item {
            Ok(Made::Deleted { id, .. }) => Some(*id),
            _ => None,
        });
        ids.collect()
    }

    async fn ask(&self, change: Change) -> Result<(), ChangeError> {
        let (reply, mut answer) = self.rt.lane(1);
        let request = ChangeRequest {
            change,
            validate_only: false,
            reply,
        };
        let room = None;
        let asked = self.follow_up.try_send(Ready { request, room });
        asked.map_err(|_| ChangeError::Stopping)?;
        answer.recv().await.ok_or(ChangeError::Stopping)?.map(drop)
    }
}
