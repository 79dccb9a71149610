//! What can be set: the tables of keys, and what a row of one says.
//!
//! | file | what |
//! |---|---|
//! | `broker`, `topic` | the two tables: a row is a field with key, default, range, doc |
//! | `key`, `value`, `kinds` | what a row says; types that a key can have, and those that are one of a few words |
//! | `foreign` | Kafka's keys that have no meaning here: ignored or refused, and why |

mod broker;
mod foreign;
mod key;
mod kinds;
mod topic;
mod value;

pub use broker::{BROKER_KEYS, BrokerConfig, JOURNAL_FILE_BYTES_MAX};
pub use key::{ConfigType, Key, Synonym, UpdateMode, env_name};
pub use kinds::{
    CleanupPolicy, CompressionType, Durability, DurableWrites, Memory, Shards, TimestampType,
};
pub use topic::{TOPIC_KEYS, TopicConfig};

pub(super) use foreign::{Verdict, verdict};
pub(super) use key::{find, suggest};
pub(super) use value::{ConfigValue, words};
