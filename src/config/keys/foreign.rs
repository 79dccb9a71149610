//! Kafka's keys that are no keys here. Ignored: they tune what is built differently. Refused: who
//! sets them counts on something that does not exist here, such as access control.

/// What becomes of a key of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Verdict {
    /// Accepted, with a line that gives this reason.
    Ignored(&'static str),
    /// An error, for this reason.
    Refused(&'static str),
}

struct Row {
    /// A key; with `*` at its end, every key that begins so.
    pattern: &'static str,
    verdict: Verdict,
    /// Values with which even a refused key promises nothing.
    harmless: &'static [&'static str],
}

const fn ignored(pattern: &'static str, why: &'static str) -> Row {
    Row {
        pattern,
        verdict: Verdict::Ignored(why),
        harmless: &[],
    }
}

const fn refused(
    pattern: &'static str,
    why: &'static str,
    harmless: &'static [&'static str],
) -> Row {
    Row {
        pattern,
        verdict: Verdict::Refused(why),
        harmless,
    }
}

const SHARDS: &str = "each shard does its work on one thread (corelane.shards)";
const CONTROLLER: &str = "there is no separate controller";
const FLUSH: &str = "corelane.durability decides when records are flushed";
const GROUPS: &str = "consumer groups do not exist yet";
const TRANSACTIONS: &str = "transactions do not exist yet";
const REPLICATION: &str = "replication does not exist yet";
const COMPACTION: &str = "compaction does not exist yet";
const METRICS: &str = "metrics are not reported through plug-ins";
const QUOTAS: &str = "quotas do not exist yet";
const KERNEL: &str = "the kernel sizes socket buffers and queues";
const TLS: &str = "TLS does not exist yet";
const SASL: &str = "authentication does not exist yet";
const ACCESS: &str = "access control does not exist yet";
const REMOTE: &str = "remote storage does not exist yet";
const PLUGINS: &str = "there are no plug-ins";

/// The first row that matches counts.
static ROWS: &[Row] = &[
    refused("ssl.*", TLS, &[]),
    refused("sasl.*", SASL, &[]),
    refused("listener.name.*", SASL, &[]),
    refused("delegation.token.*", SASL, &[]),
    refused("connections.max.reauth.ms", SASL, &["0"]),
    refused("security.inter.broker.protocol", TLS, &["PLAINTEXT"]),
    refused("security.providers", TLS, &[""]),
    refused("authorizer.class.name", ACCESS, &[""]),
    refused("super.users", ACCESS, &[""]),
    refused("allow.everyone.if.no.acl.found", ACCESS, &["true"]),
    refused("principal.builder.class", ACCESS, &[""]),
    refused("remote.log.storage.system.enable", REMOTE, &["false"]),
    refused("client.quota.callback.class", QUOTAS, &[""]),
    refused("create.topic.policy.class.name", PLUGINS, &[""]),
    refused("alter.config.policy.class.name", PLUGINS, &[""]),
    refused("config.providers*", PLUGINS, &[""]),
    refused(
        "max.connections.per.ip.overrides",
        "max.connections.per.ip counts for all",
        &[""],
    ),
    refused(
        "max.connection.creation.rate",
        "connection rates are not limited yet",
        &["2147483647"],
    ),
    ignored("num.io.threads", SHARDS),
    ignored("num.network.threads", SHARDS),
    ignored("num.recovery.threads.per.data.dir", SHARDS),
    ignored("num.replica.*", SHARDS),
    ignored("background.threads", SHARDS),
    ignored(
        "queued.max.requests",
        "queued.max.request.bytes bounds requests by what they weigh",
    ),
    ignored("zookeeper.*", CONTROLLER),
    ignored("process.roles", CONTROLLER),
    ignored("controller.*", CONTROLLER),
    ignored("controlled.shutdown.*", CONTROLLER),
    ignored("inter.broker.*", CONTROLLER),
    ignored("broker.heartbeat.interval.ms", CONTROLLER),
    ignored("broker.session.timeout.ms", CONTROLLER),
    ignored("broker.id.generation.enable", CONTROLLER),
    ignored("reserved.broker.max.id", CONTROLLER),
    ignored("initial.broker.registration.timeout.ms", CONTROLLER),
    ignored("metadata.*", CONTROLLER),
    ignored("early.start.listeners", CONTROLLER),
    ignored("request.timeout.ms", CONTROLLER),
    ignored(
        "unstable.*",
        "only finished versions of the protocol are spoken",
    ),
    ignored("eligible.leader.replicas.*", REPLICATION),
    ignored("auto.leader.rebalance.enable", REPLICATION),
    ignored("leader.imbalance.*", REPLICATION),
    ignored("replica.*", REPLICATION),
    ignored("leader.replication.*", REPLICATION),
    ignored("follower.replication.*", REPLICATION),
    ignored("replication.quota.*", REPLICATION),
    ignored("alter.log.dirs.replication.*", REPLICATION),
    ignored("offsets.*", GROUPS),
    ignored("offset.metadata.max.bytes", GROUPS),
    ignored("group.*", GROUPS),
    ignored("consumer.group.*", GROUPS),
    ignored("share.coordinator.*", GROUPS),
    ignored("streams.group.*", GROUPS),
    ignored("transaction.*", TRANSACTIONS),
    ignored("transactional.id.expiration.ms", TRANSACTIONS),
    ignored(
        "producer.id.expiration.check.interval.ms",
        "expiry is checked with retention",
    ),
    ignored("quota.*", QUOTAS),
    ignored("controller.quota.*", QUOTAS),
    ignored("log.cleaner.*", COMPACTION),
    ignored("log.flush.*", FLUSH),
    ignored("log.local.retention.*", REMOTE),
    ignored("remote.*", REMOTE),
    ignored(
        "log.message.format.version",
        "records have one format (version 2)",
    ),
    ignored(
        "log.message.downconversion.enable",
        "records have one format (version 2)",
    ),
    ignored(
        "log.message.timestamp.difference.max.ms",
        "log.message.timestamp.before.max.ms and .after.max.ms replace it",
    ),
    ignored(
        "log.dir.failure.timeout.ms",
        "a failed directory goes offline at once",
    ),
    ignored(
        "log.initial.task.delay.ms",
        "tasks start when the node is ready",
    ),
    ignored("socket.send.buffer.bytes", KERNEL),
    ignored("socket.receive.buffer.bytes", KERNEL),
    ignored("socket.listen.backlog.size", KERNEL),
    ignored("connection.failed.authentication.delay.ms", SASL),
    ignored("password.encoder.*", SASL),
    ignored("metric.reporters", METRICS),
    ignored("metrics.*", METRICS),
    ignored("kafka.metrics.*", METRICS),
    ignored("auto.include.jmx.reporter", METRICS),
    ignored("telemetry.*", METRICS),
    ignored("confluent.*", "it belongs to another product"),
];

/// What becomes of a key with that value; `None` when Kafka has no such key either.
pub(in crate::config) fn verdict(key: &str, value: &str) -> Option<Verdict> {
    let row = ROWS
        .iter()
        .find(|row| match row.pattern.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == row.pattern,
        })?;
    Some(match row.verdict {
        Verdict::Refused(why) if row.harmless.contains(&value.trim()) => Verdict::Ignored(why),
        verdict => verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BROKER_KEYS;

    #[test]
    fn promises_are_refused_and_tuning_is_ignored() {
        use Verdict::*;
        assert_eq!(verdict("num.io.threads", "8"), Some(Ignored(SHARDS)));
        assert_eq!(
            verdict("zookeeper.connect", "z:2181"),
            Some(Ignored(CONTROLLER))
        );
        assert_eq!(verdict("ssl.keystore.location", "/k"), Some(Refused(TLS)));
        assert_eq!(verdict("authorizer.class.name", "A"), Some(Refused(ACCESS)));
        assert_eq!(verdict("authorizer.class.name", " "), Some(Ignored(ACCESS)));
        assert_eq!(
            verdict("remote.log.storage.system.enable", "true"),
            Some(Refused(REMOTE))
        );
        assert_eq!(verdict("nmu.partitions", "8"), None);
    }

    /// The key tables are asked first, so a pattern may cover keys of ours; an exact row may not.
    #[test]
    fn no_row_names_a_key_of_ours() {
        for row in ROWS {
            assert!(
                BROKER_KEYS.iter().all(|key| key.name != row.pattern),
                "{}",
                row.pattern
            );
        }
    }
}
