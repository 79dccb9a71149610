//! The controller of a node: changes of metadata, one at a time. It runs beside shard 0; the way to
//! it is [`ControlPlane`](super::ControlPlane).
//!
//! A change is decided on the newest image, made durable, applied by every shard, and answered, in
//! this order. With the next change it waits until then: a deleted topic's name, for one, is free
//! again only when every owner has renamed its directories.

use std::sync::Arc;

use futures_util::future::{Either, select};

use super::mailbox::ShardMessage;
use super::metadata::MetadataLog;
use crate::cluster::controller::{ControllerError, purge_topic};
use crate::cluster::{ApplyError, Image, Record};
use crate::log::files::record_log::RecordLogError;
use crate::rt::Runtime;

/// Makes records of the newest image, or refuses.
pub type Decision = Box<dyn FnOnce(&Image) -> Result<Vec<Record>, ControllerError> + Send>;

/// A change that somebody asks for.
pub struct ControlRequest {
    /// What is to change.
    pub decision: Decision,
    /// Who waits for it.
    pub reply: flume::Sender<Result<Arc<Image>, ChangeError>>,
}

/// Why nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The controller refuses.
    #[error(transparent)]
    Refused(#[from] ControllerError),
    /// There is no room for the record; the same change may be asked for again.
    #[error("no space left on device")]
    DiskFull,
    /// The metadata log cannot be written.
    #[error("metadata log: {0}")]
    Storage(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl From<RecordLogError> for ChangeError {
    fn from(error: RecordLogError) -> Self {
        match error {
            RecordLogError::DiskFull => Self::DiskFull,
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<ApplyError> for ChangeError {
    fn from(error: ApplyError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// The controller of one node.
pub(super) struct Controller<R: Runtime> {
    log: MetadataLog<R>,
    image: Arc<Image>,
    shards: Vec<flume::Sender<ShardMessage>>,
}

impl<R: Runtime> Controller<R> {
    /// A controller over the metadata log, which adds up to `image`.
    pub(super) fn new(
        log: MetadataLog<R>,
        image: Arc<Image>,
        shards: Vec<flume::Sender<ShardMessage>>,
    ) -> Self {
        Self { log, image, shards }
    }

    /// The cluster's id.
    pub(super) fn cluster_id(&self) -> String {
        self.image
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default()
    }

    /// Serves requests until `stop` says so or hangs up.
    pub(super) async fn run(
        mut self,
        requests: flume::Receiver<ControlRequest>,
        stop: flume::Receiver<()>,
    ) {
        let mut stop = stop.into_recv_async();
        loop {
            let request = match select(requests.recv_async(), stop).await {
                Either::Left((request, pending)) => {
                    stop = pending;
                    request
                }
                Either::Right(_) => return,
            };
            let Ok(ControlRequest { decision, reply }) = request else {
                return;
            };
            let changed = self.change(decision).await;
            // Whoever asked may have gone.
            let _ = reply.send(changed);
            if let Err(error) = self.log.snapshot_when_due(&self.image).await {
                tracing::warn!(%error, "metadata snapshot failed; the log goes on without it");
            }
        }
    }

    async fn change(&mut self, decision: Decision) -> Result<Arc<Image>, ChangeError> {
        let records = decision(&self.image)?;
        if records.is_empty() {
            return Ok(self.image.clone());
        }
        let deleted: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                Record::TopicDeleted { id } => Some(*id),
                _ => None,
            })
            .collect();
        let all_deleted = self.commit(records).await?;
        if !all_deleted && !deleted.is_empty() {
            // The next start renames the directories, as long as it is told of the topic.
            tracing::error!("a deleted topic keeps its name until the next start");
            return Ok(self.image.clone());
        }
        for id in deleted {
            let records = purge_topic(&self.image, id)?;
            self.commit(records).await?;
        }
        Ok(self.image.clone())
    }

    /// Durable first, then everywhere. Gives whether every shard has done it, with all that is
    /// deleted off its name.
    async fn commit(&mut self, records: Vec<Record>) -> Result<bool, ChangeError> {
        let image = Arc::new(self.image.apply_all(&records)?);
        self.log.append(&records).await?;
        self.image = image.clone();
        let records = Arc::new(records);
        let (done, applied) = flume::bounded(self.shards.len());
        for shard in &self.shards {
            let (records, image, done) = (records.clone(), image.clone(), done.clone());
            // A shard that has ended applies nothing any more.
            let _ = shard.send(ShardMessage::Apply {
                records,
                image,
                done,
            });
        }
        drop(done);
        let mut carried_out = 0;
        while let Ok(all_deleted) = applied.recv_async().await {
            carried_out += usize::from(all_deleted);
        }
        Ok(carried_out == self.shards.len())
    }
}
