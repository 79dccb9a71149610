//! The messages between cores, and [`ControlPlane`], the way to the controller and to other shards:
//! for changes of metadata, never for a client's records.

use std::net::SocketAddr;
use std::sync::Arc;

use super::control::{ChangeError, ControlRequest, Decision};
use crate::cluster::{Image, Record};

/// What a shard is told.
pub enum ShardMessage {
    /// Metadata has changed, durably: apply it and say when that is done.
    Apply {
        /// The records, in order.
        records: Arc<Vec<Record>>,
        /// The image that they lead to.
        image: Arc<Image>,
        /// Where to say so, and whether all that is deleted is off its name.
        done: flume::Sender<bool>,
    },
    /// The log directory can no longer be used.
    LogDirFailed(Arc<str>),
    /// Stop: no further requests, then close the log and end.
    Stop,
}

/// The way to the controller and to the other shards.
#[derive(Clone)]
pub struct ControlPlane {
    /// The controller's mailbox.
    pub(super) requests: flume::Sender<ControlRequest>,
    /// Every shard's mailbox, by its index.
    pub(super) shards: Vec<flume::Sender<ShardMessage>>,
}

/// Where every shard listens: by shard, then by listener in the order of `listeners`.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Bound addresses.
    pub listeners: Vec<Vec<SocketAddr>>,
}

impl ControlPlane {
    /// Asks for a change; completes when every shard has applied it.
    pub async fn change(&self, decision: Decision) -> Result<Arc<Image>, ChangeError> {
        let (reply, answer) = flume::bounded(1);
        let request = ControlRequest { decision, reply };
        self.requests
            .send_async(request)
            .await
            .map_err(|_| ChangeError::Stopping)?;
        answer
            .recv_async()
            .await
            .map_err(|_| ChangeError::Stopping)?
    }

    /// The mailboxes of all shards, in order.
    pub fn mailboxes(&self) -> Vec<flume::Sender<ShardMessage>> {
        self.shards.clone()
    }

    /// Tells every shard but `from`.
    pub fn tell_others(&self, from: usize, message: impl Fn() -> ShardMessage) {
        for (index, shard) in self.shards.iter().enumerate() {
            if index != from {
                // A shard that has ended needs no message.
                let _ = shard.send(message());
            }
        }
    }
}
