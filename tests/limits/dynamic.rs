//! Every key that can be altered at run time, altered, and what the broker then does differently.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corelane::config::{BROKER_KEYS, Key, TOPIC_KEYS, UpdateMode};
use corelane::wire::ErrorCode;

use crate::common::{Broker, Connection, Options};
use crate::dynamic_effects as effects;

pub const TOPIC: &str = "altered";
/// How long the broker may take to act.
const PATIENCE: Duration = Duration::from_secs(10);

/// A key, the broker key that is its default, and the check that altering it has its effect.
struct Effect {
    topic_key: Option<&'static str>,
    broker_key: Option<&'static str>,
    check: fn(&mut Case),
}

const fn both(topic: &'static str, broker: &'static str, check: fn(&mut Case)) -> Effect {
    let (topic_key, broker_key) = (Some(topic), Some(broker));
    Effect {
        topic_key,
        broker_key,
        check,
    }
}

const fn broker_only(key: &'static str, check: fn(&mut Case)) -> Effect {
    Effect {
        topic_key: None,
        broker_key: Some(key),
        check,
    }
}

const EFFECTS: &[Effect] = &[
    both("segment.bytes", "log.segment.bytes", effects::segment_bytes),
    both("segment.ms", "log.roll.ms", effects::segment_ms),
    both(
        "segment.jitter.ms",
        "log.roll.jitter.ms",
        effects::segment_jitter_ms,
    ),
    both(
        "segment.index.bytes",
        "log.index.size.max.bytes",
        effects::segment_index_bytes,
    ),
    both(
        "index.interval.bytes",
        "log.index.interval.bytes",
        effects::index_interval_bytes,
    ),
    both(
        "retention.bytes",
        "log.retention.bytes",
        effects::retention_bytes,
    ),
    both("retention.ms", "log.retention.ms", effects::retention_ms),
    both(
        "file.delete.delay.ms",
        "log.segment.delete.delay.ms",
        effects::file_delete_delay_ms,
    ),
    both(
        "max.message.bytes",
        "message.max.bytes",
        effects::max_message_bytes,
    ),
    both(
        "compression.type",
        "compression.type",
        effects::compression_type,
    ),
    both(
        "compression.gzip.level",
        "compression.gzip.level",
        effects::gzip_level,
    ),
    both(
        "compression.zstd.level",
        "compression.zstd.level",
        effects::zstd_level,
    ),
    both(
        "message.timestamp.type",
        "log.message.timestamp.type",
        effects::timestamp_type,
    ),
    both(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        effects::timestamp_before_max_ms,
    ),
    both(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        effects::timestamp_after_max_ms,
    ),
    both(
        "cleanup.policy",
        "log.cleanup.policy",
        effects::cleanup_policy,
    ),
    broker_only("max.connections", effects::max_connections),
    broker_only("max.connections.per.ip", effects::max_connections),
    broker_only(
        "producer.id.expiration.ms",
        effects::producer_id_expiration_ms,
    ),
];

/// A broker of its own, with one topic, and the key that is altered.
pub struct Case {
    pub connection: Connection,
    pub broker: Broker,
    key: &'static str,
    of_topic: bool,
    pub data: PathBuf,
    _dir: tempfile::TempDir,
}

impl Case {
    fn start(key: &'static str, of_topic: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let options = Options::new(1).set("log.retention.check.interval.ms", 50);
        let broker = Broker::start(&data, &options);
        let mut connection = broker.connect();
        assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
        Self {
            connection,
            broker,
            key,
            of_topic,
            data,
            _dir: dir,
        }
    }

    /// Alters the key under test.
    pub fn alter(&mut self, value: impl ToString) {
        assert_eq!(self.try_alter(value), ErrorCode::None, "{}", self.key);
    }

    pub fn try_alter(&mut self, value: impl ToString) -> ErrorCode {
        let topic = if self.of_topic { TOPIC } else { "" };
        self.connection
            .alter(topic, self.key, Some(&value.to_string()))
    }

    /// Takes the key under test back to its default.
    pub fn reset(&mut self) {
        let topic = if self.of_topic { TOPIC } else { "" };
        assert_eq!(
            self.connection.alter(topic, self.key, None),
            ErrorCode::None
        );
    }

    /// Alters another key of the topic, which the effect needs.
    pub fn with(&mut self, key: &str, value: impl ToString) {
        let altered = self.connection.alter(TOPIC, key, Some(&value.to_string()));
        assert_eq!(altered, ErrorCode::None, "{key}");
    }

    /// The topic's files with an extension.
    pub fn files(&self, extension: &str) -> Vec<PathBuf> {
        let partition = self.data.join(format!("{TOPIC}-0"));
        let entries = std::fs::read_dir(partition).expect("the partition's directory");
        let paths = entries.flatten().map(|entry| entry.path());
        let has_it = |path: &Path| path.to_string_lossy().ends_with(extension);
        let mut found: Vec<_> = paths.filter(|path| has_it(path)).collect();
        found.sort();
        found
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "{}: not seen: {what}", self.key);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn dynamic(keys: &'static [Key]) -> impl Iterator<Item = &'static Key> {
    keys.iter().filter(|key| key.update != UpdateMode::ReadOnly)
}

/// Keys that say themselves that they do nothing yet.
fn has_effect(key: &Key) -> bool {
    !key.doc().contains("Without effect") && !key.doc().contains("They do not yet")
}

#[test]
fn every_dynamic_key_is_altered_by_a_test() {
    let wanted = |keys| {
        dynamic(keys)
            .filter(|key| has_effect(key))
            .map(|key| key.name)
            .collect::<BTreeSet<_>>()
    };
    let topic: BTreeSet<_> = EFFECTS
        .iter()
        .filter_map(|effect| effect.topic_key)
        .collect();
    let broker: BTreeSet<_> = EFFECTS
        .iter()
        .filter_map(|effect| effect.broker_key)
        .collect();
    assert_eq!(wanted(TOPIC_KEYS), topic);
    assert_eq!(wanted(BROKER_KEYS), broker);
}

/// Runs every check and names all that fail.
fn check_all(of_topic: bool) {
    let key_of = |effect: &Effect| {
        if of_topic {
            effect.topic_key
        } else {
            effect.broker_key
        }
    };
    let failed: Vec<_> = EFFECTS
        .iter()
        .filter_map(|effect| Some((key_of(effect)?, effect.check)))
        .filter(|(key, check)| {
            let run = || check(&mut Case::start(key, of_topic));
            std::panic::catch_unwind(run).is_err()
        })
        .map(|(key, _)| key)
        .collect();
    assert!(failed.is_empty(), "altering these did not show: {failed:?}");
}

#[test]
fn altering_a_topic_changes_what_the_broker_does() {
    check_all(true);
}

#[test]
fn altering_the_brokers_default_changes_what_the_broker_does() {
    check_all(false);
}

/// Keys without effect are still checked, kept and shown.
#[test]
fn keys_without_effect_are_accepted() {
    let mut case = Case::start("none", true);
    for key in dynamic(TOPIC_KEYS).filter(|key| !has_effect(key)) {
        let default = key.default.expect("a default");
        case.with(key.name, default);
        let refused = case.connection.alter(TOPIC, key.name, Some("nonsense"));
        assert_eq!(refused, ErrorCode::InvalidConfig, "{}", key.name);
    }
}
