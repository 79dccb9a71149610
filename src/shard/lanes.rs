//! The lanes between cores, and [`ControlPlane`], the way to the controller and to other shards: for
//! changes of metadata, never for a client's records.

use std::net::SocketAddr;
use std::sync::Arc;

use super::control::{ChangeError, ChangeRequest, Changed};
use crate::cluster::controller::Change;
use crate::cluster::{Image, Record};
use crate::model::TopicId;
use crate::rt::{LaneReceiver, LaneSender, Runtime};

/// What a shard is told on its control lane.
pub enum ControlMessage {
    /// Metadata has changed, durably.
    Apply(Apply),
    /// The log directory can no longer be used.
    LogDirFailed(Arc<str>),
}

/// A change of metadata that every shard takes over.
pub struct Apply {
    /// The records, in order.
    pub records: Arc<[Record]>,
    /// The image that they lead to.
    pub image: Arc<Image>,
    /// Where to say how it went, if somebody waits for that.
    pub applied: Option<LaneSender<Applied>>,
}

/// How a shard has carried out a change.
#[derive(Debug, Default)]
pub struct Applied {
    /// Topics of which a partition here could not be made, and why.
    pub unmade: Vec<(TopicId, ChangeError)>,
    /// Whether files of a deleted topic are still under its name.
    pub has_undeleted: bool,
}

/// What one shard receives.
pub struct ShardLanes {
    /// What is applied, in the order in which it was decided.
    pub control: LaneReceiver<ControlMessage>,
    /// A message, or the end of the lane, stops the shard: no further requests, then the log is
    /// closed.
    pub stop: LaneReceiver<()>,
}

/// The way to the controller and to the other shards.
#[derive(Clone)]
pub struct ControlPlane {
    requests: LaneSender<ChangeRequest>,
    shards: Vec<LaneSender<ControlMessage>>,
}

/// Where every shard listens: by shard, then by listener in the order of `listeners`.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Bound addresses.
    pub listeners: Vec<Vec<SocketAddr>>,
}

impl ControlPlane {
    /// The lane to the controller and the control lanes of all shards, in order.
    pub fn new(
        requests: LaneSender<ChangeRequest>,
        shards: Vec<LaneSender<ControlMessage>>,
    ) -> Self {
        Self { requests, shards }
    }

    /// Number of shards of the node.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Asks for a change; completes when it is durable and every shard that it concerns has carried
    /// it out. With `validate_only` it is decided and nothing else.
    pub async fn change<R: Runtime>(&self, rt: &R, change: Change, validate_only: bool) -> Changed {
        let (reply, mut answer) = rt.lane(1);
        let request = ChangeRequest {
            change,
            validate_only,
            reply,
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| ChangeError::Stopping)?;
        answer.recv().await.ok_or(ChangeError::Stopping)?
    }

    /// Tells every shard but `from` that the log directory can no longer be used.
    pub fn tell_log_dir_failed(&self, from: usize, reason: &Arc<str>) {
        for (index, shard) in self.shards.iter().enumerate() {
            if index != from {
                // A shard that has ended needs no message.
                let _ = shard.try_send(ControlMessage::LogDirFailed(reason.clone()));
            }
        }
    }
}
