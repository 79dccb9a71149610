//! The start of a node's shards, step by step: the lanes between shard 0, which leads it, and each shard.
//!
//! In every step a shard is told something, does its work, and answers; the next step begins when all have
//! answered. A shard that fails answers with its error, which fails the start: shard 0 lets go of its ends of
//! the lanes, and whoever waits for the next step, or for the topology, learns that it does not come.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select, try_join_all};

use super::error::ServeError;
use crate::log::files::run::RunId;
use crate::log::{ShardPart, ShardReport};
use crate::rt::{LaneReceiver, LaneSender, Runtime};
use crate::shard::{ShardSeed, Topology};

/// What a shard's thread waits for: every step of its start.
pub struct ShardSetup {
    /// To recover its partitions, durably.
    pub(super) recovery: Step<ShardPart, ShardReport>,
    /// To write its checkpoint of the next run.
    pub(super) checkpoint: Step<RunId, ()>,
    /// To open, and to tell what it has bound.
    pub(super) opening: Step<ShardSeed, Vec<SocketAddr>>,
    /// Where it learns where the others listen.
    pub(super) topology: LaneReceiver<Arc<Topology>>,
    /// Dropped when the shard has ended.
    pub(super) lives: LaneSender<()>,
}

/// The shards that start, as the one that leads them sees them.
pub(super) struct Roster {
    pub recovery: Steps<ShardPart, ShardReport>,
    pub checkpoint: Steps<RunId, ()>,
    pub opening: Steps<ShardSeed, Vec<SocketAddr>>,
    pub topologies: Vec<LaneSender<Arc<Topology>>>,
}

/// A step at one shard.
pub(super) struct Step<T: Send + 'static, A: Send + 'static> {
    told: LaneReceiver<T>,
    answer: LaneSender<Result<A, ServeError>>,
}

/// The same step at all shards, in order.
pub(super) struct Steps<T: Send + 'static, A: Send + 'static> {
    tell: Vec<LaneSender<T>>,
    answers: Vec<LaneReceiver<Result<A, ServeError>>>,
}

impl Roster {
    /// So many shards, what each of their threads waits for, and a lane that ends when all of them have.
    pub fn new<R: Runtime>(rt: &R, shards: u16) -> (Self, Vec<ShardSetup>, LaneReceiver<()>) {
        let (lives, ended) = rt.lane(1);
        let mut roster = Self {
            recovery: Steps::new(),
            checkpoint: Steps::new(),
            opening: Steps::new(),
            topologies: Vec::new(),
        };
        let setup = |_| {
            let (tell, topology) = rt.lane(1);
            roster.topologies.push(tell);
            ShardSetup {
                recovery: roster.recovery.add(rt),
                checkpoint: roster.checkpoint.add(rt),
                opening: roster.opening.add(rt),
                topology,
                lives: lives.clone(),
            }
        };
        let setups = (0..shards).map(setup).collect();
        (roster, setups, ended)
    }
}

impl<T: Send + 'static, A: Send + 'static> Steps<T, A> {
    /// No shard yet.
    pub fn new() -> Self {
        Self {
            tell: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// One more shard, and its end of the step.
    pub fn add<R: Runtime>(&mut self, rt: &R) -> Step<T, A> {
        let ((tell, told), (answer, answered)) = (rt.lane(1), rt.lane(1));
        self.tell.push(tell);
        self.answers.push(answered);
        Step { told, answer }
    }

    /// Has every shard take the step, each with what it is told, and gives their answers in order.
    ///
    /// # Errors
    /// That of the first one that fails; the others may still be at work.
    pub async fn take(&mut self, told: impl IntoIterator<Item = T>) -> Result<Vec<A>, ServeError> {
        for (shard, told) in self.tell.iter().zip(told) {
            // A thread that is gone shows when its answer is awaited.
            let _ = shard.try_send(told);
        }
        let answers = self.answers.iter_mut().enumerate();
        let answers = answers.map(|(shard, answer)| async move {
            let answered = answer.recv().await;
            answered.unwrap_or(Err(ServeError::Lost(shard)))
        });
        try_join_all(answers).await
    }
}

impl<T: Send + 'static, A: Send + 'static> Step<T, A> {
    /// Takes the step: `work` gives what is kept, and the answer. None where the start has failed.
    pub async fn take<W>(
        mut self,
        work: impl AsyncFnOnce(T) -> Result<(W, A), ServeError>,
    ) -> Option<W> {
        let told = self.told.recv().await?;
        let worked = work(told).await;
        self.answer(worked)
    }

    /// The same with work that may take long, and is dropped when the start fails elsewhere.
    pub async fn take_while_wanted<W>(
        mut self,
        work: impl AsyncFnOnce(T) -> Result<(W, A), ServeError>,
    ) -> Option<W> {
        let told = self.told.recv().await?;
        let worked = {
            let (work, unwanted) = (pin!(work(told)), pin!(self.told.recv()));
            match select(work, unwanted).await {
                Either::Left((worked, _)) => worked,
                Either::Right(_) => return None,
            }
        };
        self.answer(worked)
    }

    fn answer<W>(self, worked: Result<(W, A), ServeError>) -> Option<W> {
        let (kept, answer) = match worked {
            Ok((kept, answer)) => (Some(kept), Ok(answer)),
            Err(error) => (None, Err(error)),
        };
        // Nobody waits for it where the start has failed elsewhere.
        let _ = self.answer.try_send(answer);
        kept
    }
}
