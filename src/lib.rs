//! corelane: a log broker that speaks Kafka's protocol, one shard per core.

pub mod cli;
pub mod client;
pub mod cluster;
pub mod compress;
pub mod config;
pub mod log;
pub mod manual;
pub mod model;
pub mod partition;
pub mod rt;
pub mod server;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod wire;
