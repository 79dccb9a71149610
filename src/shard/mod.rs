//! One core and what it owns: partitions, the metadata image, its place in the node.
//!
//! | file | what |
//! |---|---|
//! | `open` | from a seed to a shard that serves |
//! | `control` | a change that is asked for, and what has become of it |
//! | `apply` | what a change means on a shard |
//! | `configs` | what settings mean there |
//! | `lanes` | the messages between cores, the way to the controller |
//! | `memory` | how its memory is divided |
//!
//! A shard shares nothing with the others. What it learns comes as a message. Where its seed comes
//! from, and who decides on changes, is [`node`](crate::node)'s business.

mod apply;
mod configs;
mod control;
mod lanes;
mod memory;
mod open;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use configs::ConfigCache;
pub use configs::dynamic_configs;
pub use control::{ChangeError, ChangeRequest, Changed};
pub use lanes::{
    Applied, Apply, ControlMessage, ControlPlane, RoomTicket, ShardCall, ShardLanes, ShardLink,
    Topology,
};
pub use memory::MemoryPlan;
pub use open::ShardSeed;

use crate::cluster::controller::{Change, Made, ProducerIdBlock};
use crate::cluster::{Image, Placement};
use crate::config::{BrokerConfig, DynamicConfigs, Settings};
use crate::log::partition::retention::{ClockNews, JUMP_STANDS, RetentionClock};
use crate::log::{HeldRoom, ShardLog, StorageError};
use crate::model::{
    BrokerId, LeaderEpoch, PartitionId, PartitionIndex, PartitionSlot, PartitionTable, ProducerId,
    TopicId,
};
use crate::partition::{BatchOpener, Partition};
use crate::rt::{Deadlines, Mutex, Runtime};

/// Partitions that are looked at, made, deleted or given other settings before other tasks have their
/// turn.
const PARTITIONS_AT_ONCE: usize = 64;

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
    /// What could not be made.
    unmade: RefCell<BTreeSet<PartitionId>>,
    /// Room for the partitions of changes that are being decided.
    rooms: RefCell<BTreeMap<RoomTicket, HeldRoom>>,
    configs: Rc<ConfigCache>,
    memory: MemoryPlan,
    opener: BatchOpener,
    deadlines: Deadlines<R>,
    retention_clock: RefCell<RetentionClock>,
    control: ControlPlane,
    topology: RefCell<Arc<Topology>>,
    producer_ids: Cell<Option<ProducerIdBlock>>,
    allocating: Mutex,
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
    /// It is ours, and about to be made: for a client, nobody leads it yet.
    NotMade,
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
        dynamic_configs(&self.image(), self.inner.place.node)
    }

    /// How its memory is divided.
    pub fn memory(&self) -> &MemoryPlan {
        &self.inner.memory
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

    /// Some partitions that it leads: those of a range of slots.
    fn partitions_in(&self, slots: Range<usize>) -> Vec<Partition<R>> {
        let partitions = self.inner.partitions.borrow();
        partitions.values_in(slots).cloned().collect()
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
            Some(state) => match state.leader {
                Some(leader) if leader != self.inner.place => Found::Elsewhere {
                    leader: leader.broker(),
                    epoch: state.leader_epoch,
                },
                Some(_) if self.is_unusable(id) => Found::Unusable,
                Some(_) | None => Found::NotMade,
            },
        }
    }

    /// Asks the controller for a change; see [`ControlPlane::change`].
    pub async fn change(&self, change: Change, validate_only: bool) -> Changed {
        let inner = &self.inner;
        inner.control.change(&inner.rt, change, validate_only).await
    }

    /// A producer id that was never given out before.
    pub async fn next_producer_id(&self) -> Result<ProducerId, ChangeError> {
        let _turn = self.inner.allocating.lock().await;
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
        let changed = self.change(Change::AllocateProducerIds, false).await?;
        match changed.into_iter().next() {
            Some(Ok(Made::ProducerIds(block))) => Ok(block),
            Some(Err(error)) => Err(error),
            other => Err(ChangeError::Storage(format!(
                "producer ids were asked for, not {other:?}"
            ))),
        }
    }

    /// Removes what retention no longer keeps, of every partition in turn.
    pub async fn enforce_retention(&self) {
        let slots = self.inner.partitions.borrow().slot_count();
        for from in (0..slots).step_by(PARTITIONS_AT_ONCE) {
            for partition in self.partitions_in(from..from + PARTITIONS_AT_ONCE) {
                self.enforce_retention_of(&partition).await;
            }
            // Where nothing is to be removed, nothing is waited for.
            self.inner.rt.yield_now().await;
        }
    }

    async fn enforce_retention_of(&self, partition: &Partition<R>) {
        partition.forget_refusals(self.inner.rt.now());
        let now_ms = self.retention_now_ms();
        match partition.log().enforce_retention(now_ms).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(?partition, removed, "retention removed segments"),
            Err(error) => tracing::warn!(?partition, %error, "retention failed"),
        }
    }

    /// The time that retention goes by, in Unix milliseconds.
    fn retention_now_ms(&self) -> i64 {
        let rt = &self.inner.rt;
        let mut clock = self.inner.retention_clock.borrow_mut();
        let (now_ms, news) = clock.look(rt.now(), rt.wall_clock_ms());
        match news {
            Some(ClockNews::JumpedAhead { ahead_ms }) => tracing::warn!(
                ahead_seconds = ahead_ms / 1000,
                waits_seconds = JUMP_STANDS.as_secs(),
                "the clock has jumped ahead: retention goes on as if it had not, unless that stands"
            ),
            Some(ClockNews::Believed) => {
                tracing::warn!(
                    "the clock's jump ahead has stood: retention goes by it from now on"
                );
            }
            Some(ClockNews::Over) => tracing::info!("the clock's jump ahead is over"),
            None => {}
        }
        now_ms
    }

    /// Writes everything back to segments and closes the journal cleanly.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.inner.log.close().await
    }

    /// Tells the other shards when the log directory, which is one for the node, goes offline.
    pub async fn watch_log_directory(&self) {
        let reason: Arc<str> = self.inner.log.wait_offline().await.into();
        tracing::error!(%reason, "log directory is offline: nothing is acknowledged any more");
        let from = usize::from(self.inner.place.shard.0);
        self.inner.control.tell_log_dir_failed(from, &reason);
    }

    /// Another shard has lost the log directory.
    pub fn take_offline(&self, reason: &str) {
        self.inner.log.take_offline(reason);
    }
}
