//! Settings and limits: one vocabulary (Kafka's names, ours under `corelane.`), one table per kind.
//!
//! | file | what |
//! |---|---|
//! | `broker_keys`, `topic_keys` | the two tables: a row is a field with key, default, range, doc |
//! | `key`, `value`, `kinds` | what a row says; types that a key can have, and those that are one of a few words |
//! | `foreign` | Kafka's keys that have no meaning here: ignored or refused, and why |
//! | `properties`, `sources`, `origin` | where values come from, which one wins, and what is said about it |
//! | `settings` | the values of this start, with their origins; resolved to a [`BrokerConfig`] |
//! | `describe` | the view that DescribeConfigs answers with |
//! | `listeners`, `host` | addresses per shard; shards and memory from what the machine has |
//!
//! Imports nothing of ours, so that every layer can be handed its configuration.

mod broker_keys;
mod describe;
mod error;
mod foreign;
mod host;
mod key;
mod kinds;
mod listeners;
mod origin;
mod properties;
mod settings;
mod sources;
mod topic_keys;
mod value;

#[cfg(test)]
mod tests;

pub use broker_keys::{BROKER_KEYS, BrokerConfig, JOURNAL_FILE_BYTES_MAX};
pub use describe::{ConfigSource, ConfigSynonym, DescribedConfig, describe_topic};
pub use error::ConfigError;
pub use host::{Host, ResourcePlan, default_log_dir, default_shards};
pub use key::{ConfigType, Key, Synonym, UpdateMode, env_name};
pub use kinds::{CleanupPolicy, CompressionType, Durability, Memory, Shards, TimestampType};
pub use listeners::{AdvertisedListeners, HostPort, Listener, Listeners, ProtocolMap};
pub use origin::{Notice, Origin};
pub use properties::{Property, parse_properties};
pub use settings::{DynamicConfigs, DynamicScope, Setting, Settings};
pub use sources::Sources;
pub use topic_keys::{TOPIC_KEYS, TopicConfig};
