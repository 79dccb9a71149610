//! The lanes between cores, and [`ControlPlane`], the way to the controller and to other shards: for
//! changes of metadata, never for a client's records.
//!
//! | lane of a shard | what | who waits |
//! |---|---|---|
//! | control | what has changed, in the order in which it was decided | nobody, or who wants to know how it went |
//! | calls | what it is asked for, each with its reply | who asks |
//! | stop | the end | nobody |
//!
//! One that is slow holds up no other.

use std::net::SocketAddr;
use std::sync::Arc;

use super::control::{ChangeError, ChangeRequest, Changed};
use crate::cluster::controller::Change;
use crate::cluster::{Image, Record};
use crate::rt::{LaneReceiver, LaneSender, Runtime, UNBOUNDED};

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
    /// The room that shards hold for its partitions, if any was asked for.
    pub room: Option<RoomTicket>,
    /// Where to say how it went, if somebody waits for that.
    pub applied: Option<LaneSender<Applied>>,
}

/// What a shard is asked for on its lane of calls.
pub enum ShardCall {
    /// To hold room for new partitions: before a change that makes them is decided on, so that no
    /// partition that clients know lacks it. The change takes it, or a
    /// [`LetGo`](ShardCall::LetGo) gives it back.
    HoldRoom {
        /// Names the room.
        ticket: RoomTicket,
        /// Topics, and how many partitions of each this shard gets at most.
        topics: Arc<[(Arc<str>, usize)]>,
        /// Whether there is room.
        reply: LaneSender<Result<(), ChangeError>>,
    },
    /// To give back room that no change will take; nothing, if there is none.
    LetGo(RoomTicket),
}

/// Names the room that every shard holds for one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomTicket(pub u64);

/// How a shard has carried out a change.
#[derive(Debug, Default)]
pub struct Applied {
    /// Whether files of a deleted topic are still under its name.
    pub has_undeleted: bool,
}

/// What one shard receives.
pub struct ShardLanes {
    /// What is applied, in the order in which it was decided.
    pub control: LaneReceiver<ControlMessage>,
    /// What is answered.
    pub calls: LaneReceiver<ShardCall>,
    /// A message, or the end of the lane, stops the shard: no further requests, then the log is
    /// closed.
    pub stop: LaneReceiver<()>,
}

/// The lanes to one shard, as the controller uses them.
#[derive(Clone)]
pub struct ShardLink {
    pub control: LaneSender<ControlMessage>,
    pub calls: LaneSender<ShardCall>,
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

impl ShardLanes {
    /// The lanes of one shard, with the ends that are the controller's, and the one that stops it.
    pub fn new<R: Runtime>(rt: &R) -> (ShardLink, LaneSender<()>, Self) {
        let (to_control, control) = rt.lane(UNBOUNDED);
        let (to_calls, calls) = rt.lane(UNBOUNDED);
        let (to_stop, stop) = rt.lane(1);
        let link = ShardLink {
            control: to_control,
            calls: to_calls,
        };
        let lanes = Self {
            control,
            calls,
            stop,
        };
        (link, to_stop, lanes)
    }
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
