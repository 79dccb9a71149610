//! One core and what it owns: partitions, the metadata image, its place in the node.
//!
//! | file | what |
//! |---|---|
//! | `node` | the start: data directory, metadata, recovery, a seed for every shard |
//! | `open` | from a seed to a shard that serves |
//! | `control` | the controller: changes of metadata, one at a time, durable before applied |
//! | `apply` | what a change means on a shard |
//! | `metadata` | the stored metadata: a change is one record of it |
//! | `mailbox` | the messages between cores, the way to the controller |
//! | `config_check` | configuration as the controller checks it |
//! | `table` | its partitions, found by topic and index, or by slot |
//!
//! A shard shares nothing with the others. What it learns comes as a message.

mod apply;
mod config_check;
mod control;
mod mailbox;
mod metadata;
mod node;
mod open;

mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

pub use config_check::ConfigCheck;
pub use control::{ChangeError, ControlRequest, Decision};
pub use mailbox::{ControlPlane, ShardMessage, Topology};
pub use metadata::MetadataError;
pub use node::{NodeOptions, OpenedNode, ShardSeed, StartError, open_node};

use crate::cluster::controller::{ProducerIdBlock, allocate_producer_ids};
use crate::cluster::{Image, Placement};
use crate::config::{BrokerConfig, DynamicConfigs, Settings};
use crate::log::{ShardLog, StorageError};
use crate::model::{BrokerId, LeaderEpoch, PartitionId, PartitionIndex, ProducerId, TopicId};
use crate::partition::{BatchOpener, Partition};
use crate::rt::{Budget, Deadlines, Runtime};
pub use table::PartitionSlot;
use table::PartitionTable;

/// A shard. Clones are the same one.
pub struct Shard<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    rt: R,
    place: Placement,
    settings: Arc<Settings>,
    config: RefCell<Arc<BrokerConfig>>,
    image: RefCell<Arc<Image>>,
    log: ShardLog<R>,
    partitions: RefCell<PartitionTable<Partition<R>>>,
    opener: BatchOpener,
    deadlines: Deadlines<R>,
    control: ControlPlane,
    topology: RefCell<Arc<Topology>>,
    producer_ids: Cell<Option<ProducerIdBlock>>,
    allocating: Budget,
    /// One at a time creates and deletes partitions: two at once would create one twice, the second
    /// time over the records of the first, or create one that is being deleted.
    changing: Budget,
}

/// Where a partition is that a client asked for.
pub enum Found<R: Runtime> {
    /// Here, to be found again by its slot.
    Here(PartitionSlot, Partition<R>),
    /// On another shard.
    Elsewhere {
        /// Who leads it.
        leader: BrokerId,
        /// In which leader epoch.
        epoch: LeaderEpoch,
    },
    /// It is ours, but its files could not be made or opened.
    Unusable,
    /// There is no such partition.
    Unknown,
}

impl<R: Runtime> Clone for Shard<R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<R: Runtime> std::fmt::Debug for Shard<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.inner.place.shard)
    }
}

impl<R: Runtime> Shard<R> {
    /// The runtime it lives on.
    pub fn rt(&self) -> &R {
        &self.inner.rt
    }

    /// Its node and its index.
    pub fn place(&self) -> Placement {
        self.inner.place
    }

    /// The id under which clients know it.
    pub fn broker_id(&self) -> BrokerId {
        self.inner.place.broker()
    }

    /// The metadata as far as this shard has applied it.
    pub fn image(&self) -> Arc<Image> {
        self.inner.image.borrow().clone()
    }

    /// The configuration that holds now.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.inner.config.borrow().clone()
    }

    /// The settings of this start.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.inner.settings
    }

    /// The settings of run time, as the metadata has them.
    pub fn dynamic_configs(&self) -> DynamicConfigs {
        config_check::dynamic_configs(&self.image(), self.inner.place.node)
    }

    /// What opens its producers' batches.
    pub fn opener(&self) -> &BatchOpener {
        &self.inner.opener
    }

    /// Everything that waits with a deadline.
    pub fn deadlines(&self) -> &Deadlines<R> {
        &self.inner.deadlines
    }

    /// All partitions that it leads.
    pub fn partitions(&self) -> Vec<Partition<R>> {
        self.inner.partitions.borrow().values().cloned().collect()
    }

    /// Why the log directory cannot be used, if so.
    pub fn offline_reason(&self) -> Option<String> {
        self.inner.log.offline_reason()
    }

    /// Where every shard listens.
    pub fn topology(&self) -> Arc<Topology> {
        self.inner.topology.borrow().clone()
    }

    /// Tells it where every shard listens.
    pub fn set_topology(&self, topology: Arc<Topology>) {
        self.inner.topology.replace(topology);
    }

    /// The partition that stood at `slot`, if it is still here.
    pub fn at(&self, slot: PartitionSlot) -> Option<Partition<R>> {
        self.inner.partitions.borrow().at(slot).cloned()
    }

    /// The partition of this topic id and index, if it is here.
    pub fn find(&self, topic: TopicId, index: PartitionIndex) -> Found<R> {
        let id = PartitionId { topic, index };
        if let Some((slot, partition)) = self.inner.partitions.borrow().get(id) {
            return Found::Here(slot, partition.clone());
        }
        match self.inner.image.borrow().partition(id) {
            None => Found::Unknown,
            Some(state) if state.placement == self.inner.place => Found::Unusable,
            Some(state) => Found::Elsewhere {
                leader: state.placement.broker(),
                epoch: state.leader_epoch,
            },
        }
    }

    /// Asks the control plane for a change and waits until every shard has applied it.
    pub async fn change(&self, decision: Decision) -> Result<Arc<Image>, ChangeError> {
        self.inner.control.change(decision).await
    }

    /// What the controller must know of keys and values, as of now.
    pub fn config_check(&self) -> ConfigCheck {
        ConfigCheck::new(
            self.inner.settings.clone(),
            self.dynamic_configs(),
            self.config(),
        )
    }

    /// A producer id that was never given out before.
    pub async fn next_producer_id(&self) -> Result<ProducerId, ChangeError> {
        let _turn = self.inner.allocating.acquire(1).await;
        let block = match self.inner.producer_ids.get() {
            Some(block) => block,
            None => self.allocate_producer_ids().await?,
        };
        let next = ProducerId(block.first.0 + 1);
        let rest = ProducerIdBlock {
            first: next,
            ..block
        };
        self.inner
            .producer_ids
            .set((rest.first < rest.end).then_some(rest));
        Ok(block.first)
    }

    async fn allocate_producer_ids(&self) -> Result<ProducerIdBlock, ChangeError> {
        let (sender, receiver) = flume::bounded(1);
        let decision: Decision = Box::new(move |image: &Image| {
            let (record, block) = allocate_producer_ids(image)?;
            // The receiver waits for the change itself and takes this afterwards.
            let _ = sender.send(block);
            Ok(vec![record])
        });
        self.change(decision).await?;
        receiver.try_recv().map_err(|_| ChangeError::Stopping)
    }

    /// Removes what retention no longer keeps, of every partition in turn.
    pub async fn enforce_retention(&self) {
        for partition in self.partitions() {
            let now_ms = self.inner.rt.wall_clock_ms();
            match partition.log().enforce_retention(now_ms).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(?partition, removed, "retention removed segments"),
                Err(error) => tracing::warn!(?partition, %error, "retention failed"),
            }
        }
    }

    /// Moves everything to segments and closes the journal cleanly.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.inner.log.close().await
    }

    /// Tells the other shards when the log directory, which is one for the node, goes offline.
    pub async fn watch_log_directory(&self) {
        let reason: Arc<str> = self.inner.log.wait_offline().await.into();
        tracing::error!(%reason, "log directory is offline: nothing is acknowledged any more");
        let from = usize::from(self.inner.place.shard.0);
        self.inner
            .control
            .tell_others(from, || ShardMessage::LogDirFailed(reason.clone()));
    }

    /// Another shard has lost the log directory.
    pub fn take_offline(&self, reason: &str) {
        self.inner.log.take_offline(reason);
    }
}
