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
use crate::cluster::controller::{Change, Decision, Made, decide};
use crate::cluster::{Image, Record};
use crate::log::files::record_log::Reserve;
use crate::model::TopicId;
use crate::rt::{LaneReceiver, LaneSender, Runtime, TaskClass, UNBOUNDED};
use crate::shard::{Applied, Apply, ChangeError, ChangeRequest, Changed, ControlMessage};

/// Records of one write together, about, so that it stays below the longest that can be written.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Changes of one write.
const WRITE_CHANGES_MAX: usize = 1024;

/// The controller of one node.
pub(super) struct Controller<R: Runtime> {
    rt: R,
    log: MetadataLog<R>,
    /// What is durable.
    image: Arc<Image>,
    rules: NodeRules,
    shards: Vec<LaneSender<ControlMessage>>,
}

/// A change that has been decided on, until its write.
struct Decided {
    decision: Decision,
    reply: LaneSender<Changed>,
    validate_only: bool,
}

impl<R: Runtime> Controller<R> {
    /// A controller over the metadata log, which adds up to `image`; no shard has started yet.
    pub(super) fn new(rt: &R, log: MetadataLog<R>, image: Arc<Image>, rules: NodeRules) -> Self {
        Self {
            rt: rt.clone(),
            log,
            image,
            rules,
            shards: Vec::new(),
        }
    }

    /// The shards that apply what is decided from now on.
    pub(super) fn set_shards(&mut self, shards: Vec<LaneSender<ControlMessage>>) {
        self.shards = shards;
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
        self.write_group(&mut VecDeque::from([request]), None).await;
        let outcome = answer.recv().await.ok_or(ChangeError::Stopping)??;
        outcome.into_iter().try_for_each(|item| item.map(drop))
    }

    /// Serves requests until `stop` says so or hangs up.
    pub(super) async fn run(
        mut self,
        mut requests: LaneReceiver<ChangeRequest>,
        mut stop: LaneReceiver<()>,
    ) {
        // What follows from changes: names to be freed, topics to be withdrawn.
        let (follow_up, mut followed_up) = self.rt.lane(UNBOUNDED);
        let mut waiting = VecDeque::new();
        loop {
            self.snapshot_when_due().await;
            if waiting.is_empty() {
                let follows = std::pin::pin!(followed_up.recv());
                let asked = std::pin::pin!(requests.recv());
                let stopped = std::pin::pin!(stop.recv());
                let next = match select(select(follows, asked), stopped).await {
                    Either::Left((Either::Left((next, _)) | Either::Right((next, _)), _)) => next,
                    Either::Right(_) => return,
                };
                let Some(next) = next else {
                    return;
                };
                waiting.push_back(next);
            }
            while waiting.len() < WRITE_CHANGES_MAX
                && let Some(next) = followed_up.try_recv().or_else(|| requests.try_recv())
            {
                waiting.push_back(next);
            }
            self.write_group(&mut waiting, Some(&follow_up)).await;
        }
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
        waiting: &mut VecDeque<ChangeRequest>,
        follow_up: Option<&LaneSender<ChangeRequest>>,
    ) {
        let frees_space = waiting
            .front()
            .is_some_and(|first| first.change.frees_space());
        let mut image = self.image.clone();
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < WRITE_BYTES_MAX
            && let Some(request) =
                waiting.pop_front_if(|next| next.change.frees_space() == frees_space)
        {
            let decision = decide(&image, &self.rules, &request.change);
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
            });
            self.rt.yield_now().await;
        }
        let changed = group.iter().filter(|decided| !decided.validate_only);
        let records = changed.flat_map(|decided| decided.decision.records.iter().cloned());
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            let reserve = match frees_space {
                true => Reserve::Use,
                false => Reserve::Keep,
            };
            if let Err(error) = self.log.append(&records, reserve).await {
                let error = ChangeError::from(error);
                for Decided { reply, .. } in group {
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

    /// Tells the shards of a change that is durable, and answers behind them.
    fn carry_out(&self, decided: Decided, follow_up: Option<&LaneSender<ChangeRequest>>) {
        let Decided {
            decision,
            reply,
            validate_only,
        } = decided;
        let outcome = decision.outcome.into_iter();
        let outcome = outcome
            .map(|item| item.map_err(ChangeError::from))
            .collect();
        if validate_only || decision.records.is_empty() {
            // Whoever asked may have gone; so below.
            let _ = reply.try_send(Ok(outcome));
            return;
        }
        let (applied, reports) = self.rt.lane(UNBOUNDED);
        let concerns_shards = decision.records.iter().any(concerns_shards);
        let records: Arc<[Record]> = decision.records.into();
        let image = Arc::new(decision.image);
        for shard in &self.shards {
            // A shard that has ended applies nothing any more.
            let _ = shard.try_send(ControlMessage::Apply(Apply {
                records: records.clone(),
                image: image.clone(),
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
    follow_up: LaneSender<ChangeRequest>,
}

impl<R: Runtime> Answer<R> {
    /// The answer, when every shard has carried the change out, and what follows from that is done:
    /// what was deleted is off its name, what could not be made is withdrawn.
    async fn behind(mut self, mut reports: LaneReceiver<Applied>) -> Changed {
        let (mut carried_out, mut unmade) = (0, Vec::new());
        while let Some(report) = reports.recv().await {
            carried_out += usize::from(!report.has_undeleted);
            unmade.extend(report.unmade);
        }
        let deleted = self.deleted();
        if !deleted.is_empty() && carried_out == self.shards {
            self.ask(Change::PurgeTopics(deleted)).await?;
        } else if !deleted.is_empty() {
            // The next start renames the directories, as long as it is told of the topic.
            tracing::error!("a deleted topic keeps its name until the next start");
        }
        if !unmade.is_empty() {
            self.withdraw(unmade).await?;
        }
        Ok(self.outcome)
    }

    fn deleted(&self) -> Vec<TopicId> {
        let ids = self.outcome.iter().filter_map(|item| match item {
            Ok(Made::Deleted { id, .. } | Made::Withdrawn { id }) => Some(*id),
            _ => None,
        });
        ids.collect()
    }

    /// A topic of which a partition could not be made is as if it had never been asked for.
    async fn withdraw(&mut self, unmade: Vec<(TopicId, ChangeError)>) -> Result<(), ChangeError> {
        let mut withdrawn = Vec::new();
        for item in &mut self.outcome {
            let Ok(Made::Topic { id, .. }) = item else {
                continue;
            };
            let failed = unmade.iter().find(|(topic, _)| topic == id);
            if let Some((topic, error)) = failed {
                withdrawn.push(*topic);
                *item = Err(error.clone());
            }
        }
        self.ask(Change::WithdrawTopics(withdrawn)).await
    }

    async fn ask(&self, change: Change) -> Result<(), ChangeError> {
        let (reply, mut answer) = self.rt.lane(1);
        let request = ChangeRequest {
            change,
            validate_only: false,
            reply,
        };
        let asked = self.follow_up.try_send(request);
        asked.map_err(|_| ChangeError::Stopping)?;
        answer.recv().await.ok_or(ChangeError::Stopping)?.map(drop)
    }
}
