//! Settings and limits: one vocabulary (Kafka's names, ours under `corelane.`), one table per kind.
//!
//! | file | what |
//! |---|---|
//! | `keys/` | what can be set: a table of the broker's keys and one of a topic's; types, ranges, docs; Kafka's keys that mean nothing here |
//! | `properties`, `sources`, `origin` | where values come from, which one wins, and what is said about it |
//! | `settings` | the values of this start, with their origins; resolved to a [`BrokerConfig`] |
//! | `describe` | the view that DescribeConfigs answers with |
//! | `listeners`, `host` | addresses per shard; shards and memory from what the machine has |
//!
//! Imports nothing of ours, so that every layer can be handed its configuration.

mod describe;
mod error;
mod host;
mod keys;
mod listeners;
mod origin;
mod properties;
mod settings;
mod sources;

#[cfg(test)]
mod tests;

pub use describe::{ConfigSource, ConfigSynonym, DescribedConfig, describe_topic};
pub use error::ConfigError;
pub use host::{Host, ResourcePlan, default_log_dir, default_shards};
pub use keys::{
    BROKER_KEYS, BrokerConfig, CleanupPolicy, CompressionType, ConfigType, Durability,
    DurableWrites, JOURNAL_FILE_BYTES_MAX, Key, Memory, Shards, Synonym, TOPIC_KEYS, TimestampType,
    TopicConfig, UpdateMode, env_name,
};
pub use listeners::{AdvertisedListeners, HostPort, Listener, Listeners, ProtocolMap};
pub use origin::{Notice, Origin};
pub use properties::{Property, parse_properties};
pub use settings::{DynamicConfigs, DynamicScope, Setting, Settings};
pub use sources::Sources;
