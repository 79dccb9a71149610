//! A node: its start from a data directory, its controller, its shards, its stop.
//!
//! | file | what |
//! |---|---|
//! | `open` | the data directory, metadata, what every shard recovers, a seed for each |
//! | `roster` | the steps of a start, and the lanes between shard 0 and every shard |
//! | `run` | the node's start and stop, the shards from their first step to their end |
//! | `threads` | a thread per shard |
//! | `error` | why a node does not start, or serve |
//! | `controller` | changes of metadata: decided in their order, durable before applied |
//! | `rules` | the controller's rules and defaults, from the configuration |
//! | `metadata_log` | the stored metadata |
//!
//! Whatever happens at a start, in order: the directory is locked; the metadata log is read; each shard, on
//! its own thread, recovers its partitions and writes a checkpoint of the next run; that run is committed;
//! the node *proposes* that it has started, one durable record that raises every leader epoch after an
//! unclean stop; each shard opens its log and its partitions and binds its listeners; when all of them
//! listen, the node is ready. Should a shard fail, the start fails with its error, and before the commit
//! nothing has changed that the next start would not do again. A stop goes the other way: connections,
//! journals, then the controller, then the lock.

mod controller;
mod error;
mod metadata_log;
mod open;
mod roster;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod threads;

pub use error::{ServeError, StartError};
pub use metadata_log::MetadataError;
pub use open::NodeOptions;
pub use roster::ShardSetup;
pub use run::{Started, run_node, run_shard};
pub use threads::run_on_threads;
