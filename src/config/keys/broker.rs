//! The broker's keys: Kafka's names, types and defaults, and our own under `corelane.`.

use super::key::{Key, UpdateMode::*, Valid::*, key_table};
use super::kinds::{
    CleanupPolicy, CompressionType, Durability, DurableWrites, Memory, Shards, TimestampType,
};
use super::value::{self, ConfigValue};
use crate::config::error::ConfigError;
use crate::config::listeners::{AdvertisedListeners, Listeners, ProtocolMap};

/// The size of a journal file, unless the journal is so small that it has fewer than four.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 64 << 20;

key_table! {
    /// What one node is configured to be and do, typed.
    BrokerConfig in BROKER_KEYS;

    /// Number of this node, unique in the cluster. Shard s is advertised as broker node.id + 1000 *
    /// s.
    node_id: i32 = "node.id", Some("0"), Between(0, 999), ReadOnly;
    /// The rack that the node stands in, as clients see it in Metadata.
    broker_rack: Option<String> = "broker.rack", None, Any, ReadOnly;
    /// Addresses to listen on, as NAME://HOST:PORT. Shard s listens on port + s; port 0 gives every
    /// shard a free port; an empty host means all interfaces.
    listeners: Listeners = "listeners", Some("PLAINTEXT://:9092"), Any, ReadOnly;
    /// Addresses that clients are told to use, as NAME://HOST:PORT: one per listener (shard s is at
    /// port + s), or one per shard. Without it clients are told the address that they connected to.
    advertised_listeners: AdvertisedListeners = "advertised.listeners", None, Any, ReadOnly;
    /// Security protocol of each listener name. Only PLAINTEXT exists so far.
    listener_security_protocol_map: ProtocolMap =
        "listener.security.protocol.map", Some("PLAINTEXT:PLAINTEXT"), Any, ReadOnly;
    /// Names of listeners that Kafka reserves for its controllers. They are not opened: the
    /// controller here needs no socket.
    controller_listener_names: Vec<String> = "controller.listener.names", Some(""), Any, ReadOnly;
    /// The data directory. Exactly one: every shard of the node keeps its partitions and its
    /// journal there.
    log_dirs: Vec<String> = "log.dirs", None, Any, ReadOnly;

    /// Number of shards: one pinned thread each, advertised as a broker of its own. auto is one per
    /// allowed CPU, minus one for interrupts when there are 8 or more.
    corelane_shards: Shards = "corelane.shards", Some("auto"), Any, ReadOnly;
    /// Memory of all shards together, in bytes or with a suffix as in 8G. auto is 60 % of the
    /// smaller of the machine's and the control group's memory.
    corelane_memory: Memory = "corelane.memory", Some("auto"), Any, ReadOnly;
    /// When a record is acknowledged: fsync (the journal write is on stable media), written (it has
    /// left the process), memory (it is in memory, for measuring only).
    corelane_durability: Durability = "corelane.durability", Some("fsync"), Any, ReadOnly;
    /// How a write is made durable: dsync (with RWF_DSYNC) or flush (with a flush of its file behind
    /// it, which several writes can share). Without it the disk below log.dirs decides: flush where
    /// its cache is volatile and it has no FUA, dsync anywhere else.
    corelane_durable_writes: Option<DurableWrites> = "corelane.durable.writes", None, Any, ReadOnly;
    /// With durability memory, the longest time in milliseconds until a batch is written behind its
    /// acknowledgement.
    corelane_flush_ms: i64 = "corelane.flush.ms", Some("100"), Between(1, 60_000), ReadOnly;
    /// Size of each shard's journal, which is written in turns, in bytes or with a suffix as in
    /// 512M. At least twice the largest record batch.
    corelane_journal_bytes: i64 =
        "corelane.journal.bytes", Some("536870912"), SizeFrom(8 << 20), ReadOnly;
    /// Whether every record of a batch is checked before the batch is accepted, not the batch header
    /// and its checksum alone. Without it a batch whose records cannot be read is acknowledged, and
    /// stops every consumer of its partition; false is for measuring only.
    corelane_validate_records: bool = "corelane.validate.records", Some("true"), Any, ReadOnly;

    /// Largest request in bytes. A connection that announces a larger one is closed.
    socket_request_max_bytes: i32 =
        "socket.request.max.bytes", Some("104857600"), AtLeast(1024), ReadOnly;
    /// Bytes of requests that a shard holds before it stops reading further ones from its sockets.
    /// At least socket.request.max.bytes.
    queued_max_request_bytes: i64 =
        "queued.max.request.bytes", Some("134217728"), AtLeast(1024), ReadOnly;
    /// Client connections that one shard, a broker to its clients, keeps open at most; further ones
    /// are closed at once.
    max_connections: i32 = "max.connections", Some("16384"), AtLeast(1), ClusterWide;
    /// Client connections from one address that one shard keeps open at most; further ones are
    /// closed at once.
    max_connections_per_ip: i32 = "max.connections.per.ip", Some("8192"), AtLeast(1), ClusterWide;
    /// A connection that has been silent for so many milliseconds is closed.
    connections_max_idle_ms: i64 = "connections.max.idle.ms", Some("600000"), AtLeast(1), ReadOnly;
    /// Bytes of records that one fetch response carries at most, whatever the client asks for; the
    /// first batch is always whole (KIP-74).
    fetch_max_bytes: i32 = "fetch.max.bytes", Some("57671680"), AtLeast(1024), ReadOnly;
    /// Incremental fetch sessions (KIP-227) that one shard remembers at most.
    max_incremental_fetch_session_cache_slots: i32 =
        "max.incremental.fetch.session.cache.slots", Some("1000"), AtLeast(0), ReadOnly;
    /// Partitions that one DescribeTopicPartitions response carries at most.
    max_request_partition_size_limit: i32 =
        "max.request.partition.size.limit", Some("2000"), AtLeast(1), ReadOnly;
    /// An idempotent producer that has been silent for so many milliseconds is forgotten.
    producer_id_expiration_ms: i32 =
        "producer.id.expiration.ms", Some("86400000"), AtLeast(1), ClusterWide;

    /// Whether a topic that a client names is created when it does not exist.
    auto_create_topics_enable: bool = "auto.create.topics.enable", Some("true"), Any, ReadOnly;
    /// Whether topics can be deleted.
    delete_topic_enable: bool = "delete.topic.enable", Some("true"), Any, ReadOnly;
    /// Partitions of a topic for which nobody says how many.
    num_partitions: i32 = "num.partitions", Some("1"), Between(1, 100_000), ReadOnly;
    /// Replicas of a topic for which nobody says how many.
    default_replication_factor: i16 =
        "default.replication.factor", Some("1"),
        Only("1", "replication does not exist yet"), ReadOnly;
    /// Replicas that must have a record before it is acknowledged with acks=all. Without effect
    /// as long as there is one replica: the smaller of this and the number of replicas counts.
    min_insync_replicas: i32 = "min.insync.replicas", Some("1"), AtLeast(1), ClusterWide;
    /// Whether a replica that lacks records may lead. Without effect as long as there is one
    /// replica.
    unclean_leader_election_enable: bool =
        "unclean.leader.election.enable", Some("false"), Any, ClusterWide;

    /// Largest record batch in bytes, as sent and as stored.
    message_max_bytes: i32 = "message.max.bytes", Some("1048588"), AtLeast(0), ClusterWide;
    /// Codec that batches are stored with; producer keeps them as they came.
    compression_type: CompressionType = "compression.type", Some("producer"), Any, ClusterWide;
    /// Level for compression.type=gzip: 1 to 9, or -1 for the codec's own default.
    compression_gzip_level: i32 = "compression.gzip.level", Some("-1"), Between(-1, 9), ClusterWide;
    /// Level for compression.type=lz4: 1 to 17. Without effect: the encoder has one level.
    compression_lz4_level: i32 = "compression.lz4.level", Some("9"), Between(1, 17), ClusterWide;
    /// Level for compression.type=zstd: -131072 to 22.
    compression_zstd_level: i32 =
        "compression.zstd.level", Some("3"), Between(-131_072, 22), ClusterWide;
    /// Which time a record carries: CreateTime (the producer's) or LogAppendTime (the broker's).
    log_message_timestamp_type: TimestampType =
        "log.message.timestamp.type", Some("CreateTime"), Any, ClusterWide;
    /// With CreateTime, how many milliseconds a record's time may lie before the broker's.
    log_message_timestamp_before_max_ms: i64 =
        "log.message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), ClusterWide;
    /// With CreateTime, how many milliseconds a record's time may lie after the broker's.
    log_message_timestamp_after_max_ms: i64 =
        "log.message.timestamp.after.max.ms", Some("3600000"), AtLeast(0), ClusterWide;

    /// Size in bytes at which a segment is closed and a new one begun.
    log_segment_bytes: i32 = "log.segment.bytes", Some("1073741824"), AtLeast(1 << 20), ClusterWide;
    /// Age in milliseconds at which a segment is closed. Without it log.roll.hours counts.
    log_roll_ms: Option<i64> = "log.roll.ms", None, AtLeast(1), ClusterWide;
    /// Age in hours at which a segment is closed.
    log_roll_hours: i32 = "log.roll.hours", Some("168"), AtLeast(1), ReadOnly;
    /// Milliseconds by which that age is shortened at most, at random. Without it
    /// log.roll.jitter.hours counts.
    log_roll_jitter_ms: Option<i64> = "log.roll.jitter.ms", None, AtLeast(0), ClusterWide;
    /// Hours by which that age is shortened at most, at random.
    log_roll_jitter_hours: i32 = "log.roll.jitter.hours", Some("0"), AtLeast(0), ReadOnly;
    /// Milliseconds that closed segments are kept; -1 is for ever. Without it log.retention.minutes
    /// counts.
    log_retention_ms: Option<i64> = "log.retention.ms", None, AtLeast(-1), ClusterWide;
    /// Minutes that closed segments are kept; -1 is for ever. Without it log.retention.hours
    /// counts.
    log_retention_minutes: Option<i32> = "log.retention.minutes", None, AtLeast(-1), ReadOnly;
    /// Hours that closed segments are kept; -1 is for ever.
    log_retention_hours: i32 = "log.retention.hours", Some("168"), AtLeast(-1), ReadOnly;
    /// Bytes that a partition keeps before its oldest segments go; -1 is no limit.
    log_retention_bytes: i64 = "log.retention.bytes", Some("-1"), AtLeast(-1), ClusterWide;
    /// Milliseconds between two looks at what retention lets go.
    log_retention_check_interval_ms: i64 =
        "log.retention.check.interval.ms", Some("300000"), AtLeast(1), ReadOnly;
    /// What happens to old records. Only delete exists so far.
    log_cleanup_policy: CleanupPolicy = "log.cleanup.policy", Some("delete"), Any, ClusterWide;
    /// Largest offset index of a segment, in bytes.
    log_index_size_max_bytes: i32 =
        "log.index.size.max.bytes", Some("10485760"), AtLeast(4), ClusterWide;
    /// Bytes of records between two entries of the offset index.
    log_index_interval_bytes: i32 =
        "log.index.interval.bytes", Some("4096"), AtLeast(0), ClusterWide;
    /// Milliseconds between the moment that a segment leaves the log and the moment that its files
    /// are removed.
    log_segment_delete_delay_ms: i64 =
        "log.segment.delete.delay.ms", Some("60000"), AtLeast(0), ClusterWide;
    /// Whether a segment is given its whole space on disk when it is begun. Without effect: its space is
    /// always reserved ahead, in growing steps.
    log_preallocate: bool = "log.preallocate", Some("false"), Any, ClusterWide;
}

impl BrokerConfig {
    /// Reads the table and checks what no row can check alone.
    pub(in crate::config) fn resolve(
        lookup: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let config = Self::read(lookup)?;
        config.check_listeners()?;
        config.check_sizes()?;
        match config.log_dirs.as_slice() {
            [_] => Ok(config),
            dirs => Err(ConfigError::invalid(
                "log.dirs",
                dirs.join(","),
                "must be exactly one directory",
            )),
        }
    }

    /// The data directory.
    pub fn log_dir(&self) -> &std::path::Path {
        self.log_dirs.first().map_or("", String::as_str).as_ref()
    }

    /// The listeners that are opened: all but the controllers'.
    pub fn client_listeners(&self) -> Listeners {
        self.listeners.without(&self.controller_listener_names)
    }

    /// The size of each journal file: 64 MiB, less where that would leave fewer than four.
    /// A whole number of MiB.
    pub fn journal_file_bytes(&self) -> u64 {
        let quarter = self.corelane_journal_bytes.unsigned_abs() / 4;
        quarter.min(JOURNAL_FILE_BYTES_MAX) >> 20 << 20
    }

    /// The largest record batch that the journal can hold twice.
    pub fn batch_bytes_max(&self) -> i64 {
        self.corelane_journal_bytes / 2
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        let open = self.client_listeners();
        let refuse = |why: String| {
            ConfigError::invalid("listeners", self.listeners.text().unwrap_or_default(), why)
        };
        if open.0.is_empty() {
            return Err(refuse("has no listener for clients".into()));
        }
        self.listener_security_protocol_map
            .check(&open)
            .map_err(refuse)?;
        self.advertised_listeners
            .check_names(&open, &self.controller_listener_names)
            .map_err(|why| {
                let value = self.advertised_listeners.text().unwrap_or_default();
                ConfigError::invalid("advertised.listeners", value, why)
            })
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        if i64::from(self.message_max_bytes) > self.batch_bytes_max() {
            return Err(ConfigError::invalid(
                "corelane.journal.bytes",
                self.corelane_journal_bytes.to_string(),
                format!(
                    "must be at least twice message.max.bytes={}",
                    self.message_max_bytes
                ),
            ));
        }
        if self.queued_max_request_bytes < i64::from(self.socket_request_max_bytes) {
            return Err(ConfigError::invalid(
                "queued.max.request.bytes",
                self.queued_max_request_bytes.to_string(),
                format!(
                    "must be at least socket.request.max.bytes={}",
                    self.socket_request_max_bytes
                ),
            ));
        }
        Ok(())
    }
}
