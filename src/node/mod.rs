//! A node: its start from a data directory, its controller, its shards, its stop.
//!
//! | file | what |
//! |---|---|
//! | `open` | the data directory, metadata and recovery, a seed for every shard |
//! | `run` | the shards from their seeds to their end |
//! | `threads` | a thread per shard |
//! | `controller` | changes of metadata: decided in their order, durable before applied |
//! | `rules` | the controller's rules and defaults, from the configuration |
//! | `metadata_log` | the stored metadata |
//!
//! Whatever happens at a start, in order: the directory is locked; the metadata log is read; recovery
//! brings the partitions back and commits a new run; the node *proposes* that it has started, one
//! durable record that raises every leader epoch after an unclean stop; each shard, on its own thread,
//! opens its log and its partitions and binds its listeners; when all of them listen, the node is
//! ready. A stop goes the other way: connections, journals, then the controller, then the lock.

mod controller;
mod metadata_log;
mod open;
mod rules;
mod run;
#[cfg(test)]
mod tests;
mod threads;

pub use metadata_log::MetadataError;
pub use open::{NodeOptions, StartError};
pub use run::{ServeError, ShardSetup, Started, run_node, run_shard};
pub use threads::run_on_threads;
