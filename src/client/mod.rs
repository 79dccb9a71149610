//! A Kafka client on the same runtime as the broker: for the command line, benchmarks, and one day
//! for replication. It speaks to any Kafka broker: negotiates versions, follows leaders, retries.
//!
//! | file | what |
//! |---|---|
//! | `connection` | one broker: requests pipelined, responses matched in order |
//! | `address` | brokers as users name them |
//! | `cluster` | bootstrap, metadata, who leads what, retries |
//! | `admin/` | topics, configs, offsets, log directories |
//! | `producer` | batches per partition, idempotence, several requests in flight |
//! | `batcher`, `partitioner` | records into batches, and which partition they go to |
//! | `consumer` | partitions from explicit offsets to an end or for ever |
//! | `error` | what can go wrong, and whether it is worth another try |

mod address;
mod admin;
mod batcher;
mod cluster;
mod connection;
mod consumer;
mod error;
mod partitioner;
mod producer;
#[cfg(test)]
mod tests;

pub use admin::{
    Abilities, Config, ConfigSource, CreatedTopic, ListedOffset, LogDir, NewTopic, Resource, When,
};
pub use batcher::{Batcher, BatcherOptions, Deliveries, NewRecord, Span};
pub use cluster::{Backoff, Broker, Client, ClientOptions, Metadata, Partition, Topic};
pub use connection::{Answer, Connection, PendingAnswer};
pub use consumer::{Consumer, ConsumerOptions, Fetched};
pub use error::ClientError;
pub use partitioner::{Sticky, partition_of};
pub use producer::{Delivered, Delivery, Producer, ProducerOptions};
