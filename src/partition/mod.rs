//! One partition on its shard: the gateway, the log behind it, and who waits for what.
//!
//! *Accepted* and *acknowledged* are two moments and two types: [`Accepted`] has its offsets and its
//! place in the order, [`Acknowledged`] is as safe as the durability level promises.
//!
//! | file | what |
//! |---|---|
//! | `admission`, `admission_error` | the gateway: what a topic asks of a batch |
//! | `opener` | records checked, and compressed anew, piece by piece in reserved memory |
//! | `produce`, `read` | what clients ask for |
//! | `refusals` | batches that were refused for a time, and are awaited; pure |
//! | `watermarks` | how far a partition may be seen; pure |
//! | `role` | what this shard is to it, and who waits for which mark |

mod admission;
mod admission_error;
mod opener;
mod produce;
mod read;
mod refusals;
mod role;
mod watermarks;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use admission::{AdmissionRules, Admitted};
pub use admission_error::AdmissionError;
pub use opener::BatchOpener;
pub use produce::{Accepted, Acknowledged, Acks, ProduceAsk, ProduceError};
pub use read::{Diverging, EpochError, FetchAsk, FetchError, Fetched, OffsetAsk, OffsetFound};
pub use refusals::EarlierBatchAwaited;
pub use role::Role;
pub use watermarks::{Isolation, Watermarks};

use crate::config::{BrokerConfig, TopicConfig};
use crate::log::{LogConfig, PartitionLog, StorageError};
use crate::model::{LeaderEpoch, PartitionId};
use crate::rt::{ReadySet, Runtime, Watch};
use refusals::Refusals;
use role::RoleState;

/// A partition that this shard leads. Clones are the same one.
pub struct Partition<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    topic: Arc<str>,
    log: PartitionLog<R>,
    state: Rc<RoleState>,
    refusals: Refusals,
    config: RefCell<Rc<PartitionConfig>>,
}

/// What a topic's configuration means for its partitions.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// For the gateway.
    pub rules: AdmissionRules,
    /// For the log.
    pub log: Rc<LogConfig>,
}

impl PartitionConfig {
    /// The parts of a topic's configuration, with the broker's behind it.
    pub fn new(topic: &TopicConfig, broker: &BrokerConfig) -> Self {
        let bytes = |value: i32| u64::try_from(value).unwrap_or(0);
        let log = LogConfig {
            segment_bytes: bytes(topic.segment_bytes),
            segment_ms: topic.segment_ms,
            segment_jitter_ms: topic.segment_jitter_ms,
            segment_index_bytes: bytes(topic.segment_index_bytes),
            index_interval_bytes: bytes(topic.index_interval_bytes),
            retention_ms: topic.retention_ms,
            retention_bytes: topic.retention_bytes,
            file_delete_delay_ms: topic.file_delete_delay_ms,
            producer_id_expiration_ms: i64::from(broker.producer_id_expiration_ms),
        };
        Self {
            rules: AdmissionRules::new(topic, broker),
            log: Rc::new(log),
        }
    }
}

impl<R: Runtime> Clone for Partition<R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<R: Runtime> std::fmt::Debug for Partition<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.inner.topic, self.id().index)
    }
}

impl<R: Runtime> Partition<R> {
    /// A partition over its log, led here from now on. A log whose marks are out of order gives
    /// an error.
    pub fn lead(
        topic: Arc<str>,
        log: PartitionLog<R>,
        config: Rc<PartitionConfig>,
    ) -> Result<Self, StorageError> {
        let role = match log.failure() {
            None => Role::Leader,
            Some(_) => Role::None,
        };
        let state = RoleState::new(role, &log.marks()).map_err(StorageError::PartitionOffline)?;
        let state = Rc::new(state);
        log.watch(state.clone());
        let refusals = Refusals::new(log.producer_memory().clone());
        Ok(Self {
            inner: Rc::new(Inner {
                topic,
                refusals,
                log,
                state,
                config: RefCell::new(config),
            }),
        })
    }

    /// Its key.
    pub fn id(&self) -> PartitionId {
        self.inner.log.id()
    }

    /// Its topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.inner.topic
    }

    pub fn log(&self) -> &PartitionLog<R> {
        &self.inner.log
    }

    /// The leader epoch in which it is led now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.log.leader_epoch()
    }

    /// What this shard is to it.
    pub fn role(&self) -> Role {
        self.inner.state.role.get()
    }

    /// How far it may be seen now.
    pub fn watermarks(&self) -> Watermarks {
        self.inner.state.watermarks.get()
    }

    /// Tells `set`, under `place`, when there is news for those who read: more to read, another
    /// start, a failure.
    pub fn watch(&self, set: &Rc<ReadySet>, place: u32) -> Watch {
        self.inner.state.readers.watch(set, place)
    }

    /// Fails when it is not led here any more.
    fn check_leads(&self) -> Result<(), StorageError> {
        match self.role() {
            Role::Leader => Ok(()),
            Role::None => Err(self.failure().unwrap_or(StorageError::Deleted)),
        }
    }

    /// Why it cannot be used, if so.
    pub fn failure(&self) -> Option<StorageError> {
        self.inner.log.failure()
    }

    /// Forgets what no client will send again.
    pub fn forget_refusals(&self, now: Duration) {
        self.inner.refusals.forget_expired(now);
    }

    /// Another configuration from now on.
    pub fn set_config(&self, config: Rc<PartitionConfig>) {
        self.inner.log.set_config(config.log.clone());
        self.inner.config.replace(config);
    }
}
