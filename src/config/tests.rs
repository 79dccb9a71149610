//! The parts together: from sources to typed configurations and to what DescribeConfigs shows.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const HOST: Host = Host {
    cpus: 4,
    memory_bytes: 4 << 30,
    is_root: false,
};

/// Settings from assignments, as `--set` gives them.
fn settings(assignments: &[&str]) -> Settings {
    load(assignments).expect("valid").0
}

fn load(assignments: &[&str]) -> Result<(Settings, Vec<Notice>), ConfigError> {
    let mut sources = Sources::default();
    for assignment in assignments {
        sources.set(assignment)?;
    }
    sources.load(&HOST)
}

fn resolve(assignments: &[&str]) -> Result<BrokerConfig, ConfigError> {
    load(assignments)?.0.resolve(&DynamicConfigs::default())
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn message(result: Result<impl std::fmt::Debug, ConfigError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn flag_then_set_then_environment_then_file_then_default() {
    let mut sources = Sources::default();
    let file = "node.id=1\nnum.partitions=1\ncorelane.shards=1\nmax.connections=1\n";
    sources
        .file(Path::new("c.properties"), file)
        .expect("parses");
    let variables = [
        ("CORELANE_NUM_PARTITIONS", "2"),
        ("CORELANE_SHARDS", "2"),
        ("CORELANE_MAX_CONNECTIONS", "2"),
    ];
    sources.environment(variables.map(|(name, value)| (name.into(), value.into())));
    sources.set("corelane.shards=3").expect("KEY=VALUE");
    sources.set("max.connections=3").expect("KEY=VALUE");
    sources.flag("--shards", "corelane.shards", "4");
    let (settings, notices) = sources.load(&HOST).expect("valid");
    let config = settings.resolve(&DynamicConfigs::default()).expect("valid");
    assert_eq!(config.node_id, 1);
    assert_eq!(config.num_partitions, 2);
    assert_eq!(config.max_connections, 3);
    assert_eq!(config.corelane_shards, Shards::Count(4));
    assert_eq!(config.log_dirs, ["./corelane-data"]);
    let said: Vec<_> = notices.iter().map(Notice::to_string).collect();
    assert!(said.contains(&"corelane.shards=4 (--shards) wins over 1 (c.properties:3)".into()));
    assert!(said.contains(&"corelane.shards=4 (--shards) wins over 2 (CORELANE_SHARDS)".into()));
    assert_eq!(said.len(), 6, "{said:?}");
}

#[test]
fn the_same_value_twice_is_no_news() {
    let (_, notices) = load(&["num.partitions=3", "num.partitions= 3"]).expect("valid");
    assert_eq!(notices, []);
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    assert_eq!(
        message(load(&["num.partition=3"])),
        "unknown key 'num.partition' (--set).  Did you mean 'num.partitions'?"
    );
    assert_eq!(
        message(load(&["nonsense=3"])),
        "unknown key 'nonsense' (--set)"
    );
    assert_eq!(
        message(load(&["nonsense"])),
        "--set takes KEY=VALUE, not 'nonsense'"
    );
}

#[test]
fn unknown_variables_are_not() {
    let mut sources = Sources::default();
    let names = [
        "CORELANE_SERVICE_HOST",
        "CORELANE_NUM_PARTITION",
        "CORELANE_BROKERS",
        "HOME",
    ];
    sources.environment(names.map(|name| (name.into(), "1".into())));
    let (_, notices) = sources.load(&HOST).expect("valid");
    let said: Vec<_> = notices.iter().map(Notice::to_string).collect();
    assert_eq!(
        said,
        [
            "environment variable CORELANE_SERVICE_HOST is ignored: no such key",
            "environment variable CORELANE_NUM_PARTITION is ignored: no such key.  \
             Did you mean CORELANE_NUM_PARTITIONS?",
        ]
    );
}

#[test]
fn promises_refuse_the_start_and_tuning_does_not() {
    assert_eq!(
        message(load(&["ssl.keystore.location=/k"])),
        "'ssl.keystore.location' cannot be honoured (--set): TLS does not exist yet"
    );
    let (_, notices) = load(&["num.io.threads=8"]).expect("ignored");
    assert_eq!(
        notices[0].to_string(),
        "num.io.threads (--set) is ignored: \
         each shard does its work on one thread (corelane.shards)"
    );
}

/// The keys and values of the file that Kafka 4 ships.
#[test]
fn the_file_that_kafka_ships_starts_a_node() {
    let text = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL
num.network.threads=3
socket.send.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
#log.flush.interval.ms=1000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
    let mut sources = Sources::default();
    sources
        .file(Path::new("server.properties"), text)
        .expect("parses");
    let (settings, notices) = sources.load(&HOST).expect("valid");
    let config = settings.resolve(&DynamicConfigs::default()).expect("valid");
    assert_eq!(notices.len(), 8, "{notices:?}");
    let names: Vec<_> = config
        .client_listeners()
        .0
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(names, ["PLAINTEXT"]);
    assert_eq!(config.client_listeners().check_ports(4), Ok(()));
}

#[test]
fn second_names_yield_to_first_ones() {
    let config = resolve(&["log.dirs=/a", "log.dir=/b", "broker.id=7"]).expect("valid");
    assert_eq!(config.log_dir(), Path::new("/a"));
    assert_eq!(config.node_id, 7);
}

#[test]
fn what_contradicts_itself_is_refused_with_its_place() {
    let refused = |assignments: &[&str]| message(resolve(assignments));
    assert_eq!(
        refused(&["log.dirs=/a,/b"]),
        "log.dirs=/a,/b (--set) must be exactly one directory"
    );
    assert!(refused(&["default.replication.factor=3"]).contains("replication does not exist yet"));
    assert!(refused(&["log.cleanup.policy=compact"]).contains("compaction does not exist yet"));
    assert!(refused(&["listeners=SSL://:9093"]).contains("only PLAINTEXT exists yet"));
    assert!(refused(&["advertised.listeners=OTHER://h:1"]).contains("not among listeners"));
    assert!(
        refused(&[
            "corelane.journal.bytes=8388608",
            "message.max.bytes=8388608"
        ])
        .contains("at least twice message.max.bytes=8388608")
    );
    assert!(refused(&["queued.max.request.bytes=1024"]).contains("socket.request.max.bytes"));
}

#[test]
fn a_journal_has_at_least_four_files() {
    let of = |bytes: i64| {
        resolve(&[&format!("corelane.journal.bytes={bytes}")])
            .expect("valid")
            .journal_file_bytes()
    };
    assert_eq!(
        [of(512 << 20), of(100 << 20), of(8 << 20)],
        [64 << 20, 25 << 20, 2 << 20]
    );
}

#[test]
fn run_time_values_win_over_settings_and_the_node_over_the_cluster() {
    let settings = settings(&["message.max.bytes=1000", "num.partitions=3"]);
    let mut dynamic = DynamicConfigs {
        cluster: map(&[("message.max.bytes", "2000"), ("num.partitions", "5")]),
        node: BTreeMap::new(),
    };
    let resolved = |dynamic: &DynamicConfigs| settings.resolve(dynamic).expect("valid");
    assert_eq!(resolved(&dynamic).message_max_bytes, 2000);
    assert_eq!(resolved(&dynamic).num_partitions, 3, "read-only");
    dynamic.node = map(&[("message.max.bytes", " 3000")]);
    assert_eq!(resolved(&dynamic).message_max_bytes, 3000);
    let described = settings.describe(&dynamic);
    let key = described
        .iter()
        .find(|key| key.name == "message.max.bytes")
        .expect("is a key");
    assert_eq!(
        (key.value.as_deref(), key.source),
        (Some("3000"), ConfigSource::DynamicBroker)
    );
    let values: Vec<_> = key
        .synonyms
        .iter()
        .map(|synonym| synonym.value.as_str())
        .collect();
    assert_eq!(values, ["3000", "2000", "1000", "1048588"]);
}

#[test]
fn changes_at_run_time_are_checked() {
    let settings = settings(&[]);
    let check = |name: &str, value: Option<&str>| {
        let changes = BTreeMap::from([(name.to_string(), value.map(str::to_string))]);
        settings.check_dynamic(&DynamicConfigs::default(), DynamicScope::Cluster, &changes)
    };
    assert_eq!(check("message.max.bytes", Some("2000")), Ok(()));
    assert_eq!(check("message.max.bytes", None), Ok(()));
    assert!(message(check("message.max.bytes", Some("x"))).contains("whole number"));
    assert!(message(check("message.max.bytes", Some("400000000"))).contains("twice"));
    assert!(matches!(
        check("num.partitions", Some("2")),
        Err(ConfigError::ReadOnly { .. })
    ));
    assert!(matches!(
        check("ssl.truststore", Some("2")),
        Err(ConfigError::Refused { .. })
    ));
    assert!(message(check("log.retention.mss", Some("2"))).contains("'log.retention.ms'"));
}

#[test]
fn a_topic_inherits_from_the_broker_in_its_own_unit() {
    let of = |assignments: &[&str]| {
        let broker = resolve(assignments).expect("valid");
        TopicConfig::resolve(&broker, &BTreeMap::new())
            .expect("valid")
            .retention_ms
    };
    assert_eq!(of(&[]), 604_800_000);
    assert_eq!(of(&["log.retention.hours=2"]), 7_200_000);
    assert_eq!(
        of(&["log.retention.hours=2", "log.retention.minutes=1"]),
        60_000
    );
    assert_eq!(of(&["log.retention.minutes=1", "log.retention.ms=5"]), 5);
    assert_eq!(of(&["log.retention.hours=-1"]), -1);
}

#[test]
fn a_topics_own_settings_win_and_are_checked() {
    let broker = resolve(&["message.max.bytes=5000"]).expect("valid");
    let topic = |pairs: &[(&str, &str)]| TopicConfig::resolve(&broker, &map(pairs));
    assert_eq!(topic(&[]).expect("valid").max_message_bytes, 5000);
    assert_eq!(
        topic(&[("max.message.bytes", "7")])
            .expect("valid")
            .max_message_bytes,
        7
    );
    let refused = |key: &str, value: &str| message(topic(&[(key, value)]));
    assert!(refused("cleanup.policy", "compact").contains("compaction does not exist yet"));
    assert!(refused("cleanup.policy", "compact,delete").contains("compaction does not exist yet"));
    assert!(refused("remote.storage.enable", "true").contains("remote storage does not exist"));
    assert!(refused("segment.bytes", "1000").contains("at least 1048576"));
    assert!(refused("max.message.bytes", "400000000").contains("half of corelane.journal.bytes"));
    assert!(refused("retention.m", "1").contains("Did you mean 'retention.ms'?"));
    assert!(refused("compression.type", "brotli").contains("producer, uncompressed"));
    assert!(refused("min.cleanable.dirty.ratio", "1.5").contains("from 0 to 1"));
    assert!(refused("retention.ms", "").contains("whole number"));
}

#[test]
fn every_topic_key_is_described_with_its_synonyms() {
    let settings = settings(&["log.retention.hours=2"]);
    let dynamic = DynamicConfigs::default();
    let broker = settings.resolve(&dynamic).expect("valid");
    let own = map(&[("segment.bytes", "2097152")]);
    let described = describe_topic(&settings, &dynamic, &broker, &own);
    assert_eq!(described.len(), 29);
    let key = |name: &str| {
        described
            .iter()
            .find(|key| key.name == name)
            .expect("is a key")
    };
    let retention = key("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("7200000"));
    assert_eq!(retention.source, ConfigSource::StaticBroker);
    assert_eq!(retention.synonyms[0].name, "log.retention.hours");
    assert_eq!(retention.synonyms[0].value, "2", "in the unit of that key");
    assert_eq!(key("segment.bytes").source, ConfigSource::Topic);
    assert_eq!(key("segment.bytes").synonyms.len(), 2);
    assert_eq!(key("flush.ms").source, ConfigSource::Default);
    assert_eq!(
        key("flush.ms").value.as_deref(),
        Some("9223372036854775807")
    );
    assert_eq!(key("cleanup.policy").config_type, ConfigType::List);
}

#[test]
fn no_default_of_a_topic_differs_from_the_brokers() {
    let broker = resolve(&[]).expect("valid");
    let topic = TopicConfig::resolve(&broker, &BTreeMap::new()).expect("valid");
    for key in TOPIC_KEYS {
        assert_eq!(topic.text(key.name).as_deref(), key.default, "{}", key.name);
    }
}

/// Settings that held once and do not hold now: each gives way by itself, and none to a looser one.
#[test]
fn a_bad_key_of_a_topic_loosens_no_other() {
    let valid = |own: &[(&str, &str)]| {
        let broker = resolve(&["corelane.journal.bytes=32M"]).expect("valid");
        let (config, invalid) = TopicConfig::resolve_valid(&broker, &map(own));
        (config, invalid.into_keys().collect::<Vec<_>>())
    };
    let archive = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    let (config, invalid) = valid(&archive);
    assert_eq!((config.retention_ms, config.retention_bytes), (-1, -1));
    assert_eq!(
        config.max_message_bytes,
        16 << 20,
        "what the journal can hold"
    );
    assert_eq!(invalid, ["max.message.bytes"]);

    let unknown = [
        ("retention.bytes", "10"),
        ("key.of.tomorrow", "x"),
        ("segment.ms", "5"),
    ];
    let (config, invalid) = valid(&unknown);
    assert_eq!((config.retention_bytes, config.segment_ms), (10, 5));
    assert_eq!(invalid, ["key.of.tomorrow"]);

    for bad in [("retention.ms", "1d"), ("cleanup.policy", "hoard")] {
        let (config, invalid) = valid(&[bad, ("segment.bytes", "2097152")]);
        assert_eq!(
            config.retention_ms, -1,
            "kept, not deleted after seven days: {bad:?}"
        );
        assert_eq!(
            (config.retention_bytes, config.segment_bytes),
            (-1, 2 << 20)
        );
        assert_eq!(invalid, [bad.0]);
    }
    let lags = [
        ("min.compaction.lag.ms", "10"),
        ("max.compaction.lag.ms", "5"),
    ];
    let (config, invalid) = valid(&lags);
    assert_eq!(
        (config.min_compaction_lag_ms, config.max_compaction_lag_ms),
        (0, 5)
    );
    assert_eq!(invalid, ["min.compaction.lag.ms"]);
}

#[test]
fn a_bad_key_of_a_topic_is_told_with_the_value_that_holds() {
    let archive = [("retention.ms", "-1"), ("max.message.bytes", "20000000")];
    let unknown = [("retention.bytes", "10"), ("key.of.tomorrow", "x")];
    let settings = settings(&["corelane.journal.bytes=32M"]);
    let broker = settings.resolve(&DynamicConfigs::default()).expect("valid");
    let described = describe_topic(
        &settings,
        &DynamicConfigs::default(),
        &broker,
        &map(&archive),
    );
    let shown = |name| {
        described
            .iter()
            .find(|key| key.name == name)
            .expect("is a key")
    };
    let size = shown("max.message.bytes");
    assert_eq!(
        size.value.as_deref(),
        Some("16777216"),
        "the value that holds"
    );
    assert!(size.source != ConfigSource::Topic && size.invalid.is_some());
    assert_eq!(shown("retention.ms").source, ConfigSource::Topic);
    assert_eq!(shown("retention.ms").invalid, None);
    let dynamic = DynamicConfigs::default();
    let described = describe_topic(&settings, &dynamic, &broker, &map(&unknown));
    let told = described.iter().find(|key| key.name == "key.of.tomorrow");
    assert!(
        told.is_some_and(|key| key.invalid.is_some()),
        "told as well"
    );
}
