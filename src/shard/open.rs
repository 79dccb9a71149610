//! From a seed to a shard that can serve.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::configs::ConfigCache;
use super::memory::MemoryPlan;
use super::{ControlPlane, Inner, Shard, ShardLanes, Topology};
use crate::cluster::{Image, Placement};
use crate::config::{self, BrokerConfig, Settings};
use crate::log::files::run::RunId;
use crate::log::partition::retention::{JUMP_STANDS, RetentionClock};
use crate::log::{
    Durability, LastTimes, LogConfig, LogOptions, RecoveredPartition, ShardLog, StorageError,
    ToldPartition,
};
use crate::model::{LeaderEpoch, PartitionId, PartitionTable};
use crate::partition::BatchOpener;
use crate::rt::{Deadlines, FileShares, Mutex, Runtime};

/// Everything that one shard is opened with; sent to its thread.
pub struct ShardSeed {
    /// Which shard of which node.
    pub place: Placement,
    /// The settings of this start.
    pub settings: Arc<Settings>,
    /// The configuration, with what was set at run time.
    pub config: Arc<BrokerConfig>,
    /// The metadata.
    pub image: Arc<Image>,
    /// What the last run says of the time.
    pub last_times: LastTimes,
    /// The committed run.
    pub run: RunId,
    /// The way to the controller and to the others.
    pub control: ControlPlane,
    /// What it receives.
    pub lanes: ShardLanes,
}

impl<R: Runtime> Shard<R> {
    /// Opens the log of a shard and every partition that the metadata gives to it, of which it has
    /// recovered these. Gives the shard and the lanes on which it is told what to do.
    pub async fn open(
        rt: R,
        seed: ShardSeed,
        recovered: Vec<RecoveredPartition>,
    ) -> Result<(Self, ShardLanes), StorageError> {
        let memory = MemoryPlan::of(rt.arena().limit_bytes(), &seed.config);
        rt.arena().set_aside(memory.heap_bytes);
        let options = log_options(&memory, &seed);
        let (image, broker) = (seed.image.clone(), seed.config.clone());
        let configs = Rc::new(ConfigCache::default());
        let configs_told = configs.clone();
        let told = move |id: PartitionId| ToldPartition {
            leader_epoch: image
                .partition(id)
                .map_or(LeaderEpoch::NONE, |state| state.leader_epoch),
            config: match image.topic_by_id(id.topic) {
                Some(topic) => configs_told.config_of(topic, &broker).log.clone(),
                None => Rc::new(LogConfig::default()),
            },
        };
        let log = ShardLog::open(rt.clone(), options, seed.run, recovered, told).await?;
        let deadlines = Deadlines::new(rt.clone());
        let (now, wall_clock_ms) = (rt.now(), rt.wall_clock_ms());
        let written_ms = seed.last_times.written_ms;
        let retention_clock = RetentionClock::new(now, wall_clock_ms, written_ms);
        if retention_clock.waits() && seed.place.shard.0 == 0 {
            tracing::info!(
                waits_seconds = JUMP_STANDS.as_secs(),
                "nothing was written for long before this start, if the clock is right: until it has \
                stood for a while, retention goes on from the last record"
            );
        }
        let opener = BatchOpener::new(memory.opening_bytes, rt.aside().clone());
        let shard = Self {
            inner: Rc::new(Inner {
                rt,
                place: seed.place,
                settings: seed.settings,
                config: RefCell::new(seed.config),
                image: RefCell::new(seed.image),
                log,
                partitions: RefCell::new(PartitionTable::default()),
                unmade: RefCell::default(),
                rooms: RefCell::default(),
                configs,
                memory,
                opener,
                deadlines,
                retention_clock: RefCell::new(retention_clock),
                control: seed.control,
                topology: RefCell::new(Arc::new(Topology::default())),
                producer_ids: Cell::new(None),
                allocating: Mutex::new(),
            }),
        };
        shard.tell_offline();
        shard.make_all().await;
        Ok((shard, seed.lanes))
    }
}

fn log_options(memory: &MemoryPlan, seed: &ShardSeed) -> LogOptions {
    let config: &BrokerConfig = &seed.config;
    let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
    let durability = match config.corelane_durability {
        config::Durability::Fsync => Durability::Fsync,
        config::Durability::Written => Durability::Written,
        config::Durability::Memory => Durability::Memory,
    };
    let journal_bytes = bytes(config.corelane_journal_bytes);
    LogOptions {
        durability,
        flush_interval: Duration::from_millis(bytes(config.corelane_flush_ms)),
        journal_bytes,
        open_files: FileShares::of_process(seed.control.shard_count()).segments,
        journal_file_bytes: config.journal_file_bytes(),
        tail_bytes: memory.tail_bytes,
        producer_bytes: memory.producer_bytes,
        producers_ms: seed.last_times.producers_ms,
        index_bytes: memory.index_bytes,
        ..LogOptions::new(
            PathBuf::from(config.log_dir()),
            seed.place.node,
            seed.place.shard,
        )
    }
}
