//! A topic's keys: Kafka's names, types and defaults, and the broker keys that set those.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::key::{
    Key, Synonym, UpdateMode::Topic, Valid::*, find, hours, key_table, minutes, same, suggest,
};
use super::kinds::{CleanupPolicy, CompressionType, TimestampType};
use super::value::{self, ConfigValue};
use crate::config::error::ConfigError;

key_table! {
    /// What one topic is configured to do, typed: its own settings over the broker's defaults.
    TopicConfig in TOPIC_KEYS;

    /// Size in bytes at which a segment is closed and a new one begun.
    segment_bytes: i32 =
        "segment.bytes", Some("1073741824"), AtLeast(1 << 20), Topic,
        from &[same("log.segment.bytes")];
    /// Age in milliseconds at which a segment is closed.
    segment_ms: i64 =
        "segment.ms", Some("604800000"), AtLeast(1), Topic,
        from &[same("log.roll.ms"), hours("log.roll.hours")];
    /// Milliseconds by which that age is shortened at most, at random, so that not all segments
    /// close at once.
    segment_jitter_ms: i64 =
        "segment.jitter.ms", Some("0"), AtLeast(0), Topic,
        from &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")];
    /// Largest offset index of a segment, in bytes; a full index closes the segment.
    segment_index_bytes: i32 =
        "segment.index.bytes", Some("10485760"), AtLeast(4), Topic,
        from &[same("log.index.size.max.bytes")];
    /// Without effect: corelane.durability decides when records are flushed.
    flush_messages: i64 = "flush.messages", Some("9223372036854775807"), AtLeast(1), Topic;
    /// Without effect: corelane.durability decides when records are flushed.
    flush_ms: i64 = "flush.ms", Some("9223372036854775807"), AtLeast(0), Topic;
    /// Bytes that a partition keeps before its oldest segments go; -1 is no limit.
    retention_bytes: i64 =
        "retention.bytes", Some("-1"), AtLeast(-1), Topic, from &[same("log.retention.bytes")];
    /// Milliseconds that closed segments are kept; -1 is for ever.
    retention_ms: i64 =
        "retention.ms", Some("604800000"), AtLeast(-1), Topic,
        from &[
            same("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ];
    /// Largest record batch in bytes, as sent and as stored.
    max_message_bytes: i32 =
        "max.message.bytes", Some("1048588"), AtLeast(0), Topic, from &[same("message.max.bytes")];
    /// Bytes of records between two entries of the offset index.
    index_interval_bytes: i32 =
        "index.interval.bytes", Some("4096"), AtLeast(0), Topic,
        from &[same("log.index.interval.bytes")];
    /// Milliseconds between the moment that a segment leaves the log and the moment that its files
    /// are removed.
    file_delete_delay_ms: i64 =
        "file.delete.delay.ms", Some("60000"), AtLeast(0), Topic,
        from &[same("log.segment.delete.delay.ms")];
    /// Milliseconds that compaction keeps tombstones. Without effect: compaction does not exist
    /// yet.
    delete_retention_ms: i64 = "delete.retention.ms", Some("86400000"), AtLeast(0), Topic;
    /// Age in milliseconds below which compaction leaves a record alone. Without effect: compaction
    /// does not exist yet.
    min_compaction_lag_ms: i64 = "min.compaction.lag.ms", Some("0"), AtLeast(0), Topic;
    /// Age in milliseconds at which a record must have been compacted. Without effect: compaction
    /// does not exist yet.
    max_compaction_lag_ms: i64 =
        "max.compaction.lag.ms", Some("9223372036854775807"), AtLeast(1), Topic;
    /// Share of a log that must be uncompacted before compaction looks at it. Without effect:
    /// compaction does not exist yet.
    min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio", Some("0.5"), Any, Topic;
    /// What happens to old records. Only delete exists so far.
    cleanup_policy: CleanupPolicy =
        "cleanup.policy", Some("delete"), Any, Topic, from &[same("log.cleanup.policy")];
    /// Whether a replica that lacks records may lead. Without effect as long as there is one
    /// replica.
    unclean_leader_election_enable: bool =
        "unclean.leader.election.enable", Some("false"), Any, Topic,
        from &[same("unclean.leader.election.enable")];
    /// Replicas that must have a record before it is acknowledged with acks=all. Without effect
    /// as long as there is one replica: the smaller of this and the number of replicas counts.
    min_insync_replicas: i32 =
        "min.insync.replicas", Some("1"), AtLeast(1), Topic, from &[same("min.insync.replicas")];
    /// Codec that batches are stored with; producer keeps them as they came.
    compression_type: CompressionType =
        "compression.type", Some("producer"), Any, Topic, from &[same("compression.type")];
    /// Level for compression.type=gzip: 1 to 9, or -1 for the codec's own default.
    compression_gzip_level: i32 =
        "compression.gzip.level", Some("-1"), Between(-1, 9), Topic,
        from &[same("compression.gzip.level")];
    /// Level for compression.type=zstd: -131072 to 22.
    compression_zstd_level: i32 =
        "compression.zstd.level", Some("3"), Between(-131_072, 22), Topic,
        from &[same("compression.zstd.level")];
    /// Level for compression.type=lz4: 1 to 17. Without effect: the encoder has one level.
    compression_lz4_level: i32 =
        "compression.lz4.level", Some("9"), Between(1, 17), Topic,
        from &[same("compression.lz4.level")];
    /// Whether a segment is given its whole space on disk when it is begun. Without effect: its space is
    /// always reserved ahead, in growing steps.
    preallocate: bool = "preallocate", Some("false"), Any, Topic, from &[same("log.preallocate")];
    /// Which time a record carries: CreateTime (the producer's) or LogAppendTime (the broker's).
    message_timestamp_type: TimestampType =
        "message.timestamp.type", Some("CreateTime"), Any, Topic,
        from &[same("log.message.timestamp.type")];
    /// With CreateTime, how many milliseconds a record's time may lie before the broker's.
    message_timestamp_before_max_ms: i64 =
        "message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), Topic,
        from &[same("log.message.timestamp.before.max.ms")];
    /// With CreateTime, how many milliseconds a record's time may lie after the broker's.
    message_timestamp_after_max_ms: i64 =
        "message.timestamp.after.max.ms", Some("3600000"), AtLeast(0), Topic,
        from &[same("log.message.timestamp.after.max.ms")];
    /// Whether old segments move to remote storage. They do not yet.
    remote_storage_enable: bool =
        "remote.storage.enable", Some("false"),
        Only("false", "remote storage does not exist yet"), Topic;
    /// With remote storage, milliseconds that segments stay local; -2 is retention.ms. Without
    /// effect: remote storage does not exist yet.
    local_retention_ms: i64 = "local.retention.ms", Some("-2"), AtLeast(-2), Topic;
    /// With remote storage, bytes that stay local; -2 is retention.bytes. Without effect: remote
    /// storage does not exist yet.
    local_retention_bytes: i64 = "local.retention.bytes", Some("-2"), AtLeast(-2), Topic;
}

impl TopicConfig {
    /// The topic's own settings over the broker's defaults. Any key that is unknown or has a value
    /// that it does not take is an error, which over the wire is INVALID_CONFIG.
    pub fn resolve(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        for (name, value) in overrides {
            Self::check(name, value)?;
        }
        let config = Self::read(|name| {
            overrides
                .get(name)
                .cloned()
                .or_else(|| default_text(broker, name))
        })?;
        config.check_together(broker)?;
        Ok(config)
    }

    /// The topic's own settings as far as they hold, for settings that held once: a limit of the broker
    /// has become lower since, or another version wrote them. Gives what does not hold, by key.
    ///
    /// Each key is judged by itself, and what takes the place of a bad one is never looser. A batch size
    /// that the journal cannot hold becomes the largest one that it can. With a bad `retention.ms`,
    /// `retention.bytes` or `cleanup.policy` the topic keeps its records for ever, whatever the broker's
    /// default is. Any other bad key has the broker's default.
    ///
    /// An example: `retention.ms=-1, max.message.bytes=20000000` under a journal of 32 MiB is
    /// `retention.ms=-1, max.message.bytes=16777216`, and the second key is told.
    pub fn resolve_valid(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> (Self, BTreeMap<String, ConfigError>) {
        let (mut valid, mut invalid) = (overrides.clone(), BTreeMap::new());
        for (name, value) in overrides {
            if let Err(error) = Self::check(name, value) {
                replace_invalid(&mut valid, name, None);
                invalid.insert(name.clone(), error);
            }
        }
        loop {
            match Self::resolve(broker, &valid) {
                Ok(config) => return (config, invalid),
                Err(error) => {
                    // Keys that do not go together; the one that is named gives way.
                    let name = match &error {
                        ConfigError::Invalid { key, .. } => key.clone(),
                        _ => String::new(),
                    };
                    let bytes_max = broker.batch_bytes_max().to_string();
                    let is_size = name == "max.message.bytes" && !invalid.contains_key(&name);
                    if !valid.contains_key(&name) && !is_size {
                        unreachable!("a broker's own defaults were checked at its start: {error}");
                    }
                    replace_invalid(&mut valid, &name, is_size.then_some(bytes_max));
                    invalid.insert(name, error);
                }
            }
        }
    }

    /// Checks one setting by itself: the key exists and takes the value.
    pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
        let key = find(TOPIC_KEYS, name).ok_or_else(|| ConfigError::Unknown {
            key: name.to_string(),
            suggestion: suggest(TOPIC_KEYS, name),
            origin: None,
        })?;
        match key.check(value) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(ConfigError::invalid(name, value, "needs a value")),
            Err(why) => Err(ConfigError::invalid(name, value, why)),
        }
    }

    /// Checks what no row can check alone.
    fn check_together(&self, broker: &BrokerConfig) -> Result<(), ConfigError> {
        if i64::from(self.max_message_bytes) > broker.batch_bytes_max() {
            return Err(ConfigError::invalid(
                "max.message.bytes",
                self.max_message_bytes.to_string(),
                format!(
                    "must be at most half of corelane.journal.bytes={}",
                    broker.corelane_journal_bytes
                ),
            ));
        }
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return Err(ConfigError::invalid(
                "min.compaction.lag.ms",
                self.min_compaction_lag_ms.to_string(),
                format!(
                    "must be at most max.compaction.lag.ms={}",
                    self.max_compaction_lag_ms
                ),
            ));
        }
        Ok(())
    }
}

/// Puts what is safe in the place of a setting that does not hold.
fn replace_invalid(settings: &mut BTreeMap<String, String>, name: &str, with: Option<String>) {
    match with {
        Some(value) => settings.insert(name.to_string(), value),
        None => settings.remove(name),
    };
    let keeps_for_ever: &[&str] = match name {
        "retention.ms" => &["retention.ms"],
        "retention.bytes" => &["retention.bytes"],
        "cleanup.policy" => &["retention.ms", "retention.bytes"],
        _ => &[],
    };
    for key in keeps_for_ever {
        settings.insert(key.to_string(), "-1".to_string());
    }
}

/// What a topic has that does not set the key itself.
pub(in crate::config) fn default_text(broker: &BrokerConfig, name: &str) -> Option<String> {
    let key = find(TOPIC_KEYS, name)?;
    let from_broker = key.synonyms.iter().find_map(|synonym| {
        let text = broker.text(synonym.name)?;
        Some(in_topic_unit(synonym, text))
    });
    from_broker.or_else(|| key.default.map(str::to_string))
}

/// A broker key's value in the topic key's unit; −1 ("for ever") has no unit.
pub(in crate::config) fn in_topic_unit(synonym: &Synonym, text: String) -> String {
    match text.parse::<i64>() {
        Ok(number) if synonym.scale != 1 && number >= 0 => {
            number.saturating_mul(synonym.scale).to_string()
        }
        _ => text,
    }
}
