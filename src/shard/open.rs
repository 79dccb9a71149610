//! From a seed to a shard that can serve.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::apply::partition_config;
use super::table::PartitionTable;
use super::{Inner, Shard, ShardSeed, Topology};
use crate::compress::Codecs;
use crate::config::{self, BrokerConfig};
use crate::log::{Durability, LogConfig, LogOptions, ShardLog, StorageError};
use crate::model::PartitionId;
use crate::rt::{Budget, Runtime};

/// The tail's share of a shard's memory; the rest is for requests, cold reads and writes under way.
const TAIL_SHARE: (usize, usize) = (1, 2);

impl<R: Runtime> Shard<R> {
    /// Opens the log of a shard and every partition that the metadata gives to it.
    pub async fn open(rt: R, seed: ShardSeed) -> Result<Self, StorageError> {
        let options = log_options(&rt, &seed);
        let (image, broker) = (seed.image.clone(), seed.config.clone());
        let config_of = move |id: PartitionId| match image.topic_by_id(id.topic) {
            Some(topic) => partition_config(topic, &broker).log.clone(),
            None => Rc::new(LogConfig::default()),
        };
        let log = ShardLog::open(rt.clone(), options, seed.run, seed.recovered, config_of).await?;
        let shard = Self {
            inner: Rc::new(Inner {
                rt,
                place: seed.place,
                settings: seed.settings,
                config: RefCell::new(seed.config),
                image: RefCell::new(seed.image),
                log,
                partitions: RefCell::new(PartitionTable::new()),
                codecs: RefCell::new(Codecs::new()),
                control: seed.control,
                topology: RefCell::new(Arc::new(Topology::default())),
                producer_ids: Cell::new(None),
                allocating: Budget::new(1),
            }),
        };
        shard.repair().await;
        Ok(shard)
    }
}

fn log_options<R: Runtime>(rt: &R, seed: &ShardSeed) -> LogOptions {
    let config: &BrokerConfig = &seed.config;
    let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
    let durability = match config.corelane_durability {
        config::Durability::Fsync => Durability::Fsync,
        config::Durability::Written => Durability::Written,
        config::Durability::Memory => Durability::Memory,
    };
    let (share, of) = TAIL_SHARE;
    LogOptions {
        durability,
        flush_interval: Duration::from_millis(bytes(config.corelane_flush_ms)),
        journal_bytes: bytes(config.corelane_journal_bytes),
        journal_file_bytes: config.journal_file_bytes(),
        tail_bytes: rt.arena().limit_bytes() / of * share,
        ..LogOptions::new(
            PathBuf::from(config.log_dir()),
            seed.place.node,
            seed.place.shard,
        )
    }
}
