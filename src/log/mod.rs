//! The log of a partition: what is on disk, what is in memory, and how both come back after a crash.

mod append;
pub mod checkpoint;
pub mod checkpoint_content;
mod checkpointer;
mod codec;
mod core;
pub mod epochs;
mod error;
mod eviction;
pub mod index;
mod index_cache;
pub mod journal;
pub mod lock;
mod log_start;
mod marks;
mod move_plan;
mod moves;
mod open_files;
mod options;
mod partition;
mod partition_dirs;
pub mod partition_files;
pub mod producers;
mod reader;
pub mod record_log;
mod recovery;
pub mod retention;
mod roll;
pub mod roll_plan;
pub mod rules;
pub mod run;
mod segment;
mod shard_log;
#[cfg(any(test, feature = "sim"))]
pub mod simulation;
pub mod small_file;
mod state;
mod tail;
mod timestamps;
mod walk;

pub use error::{AppendError, ReadError, StorageError};
pub use marks::Marks;
pub use options::{
    Durability, KnownPartition, LogConfig, LogOptions, PartitionSpec, RecoveryOptions,
};
pub use partition::{Appended, PartitionLog};
pub use recovery::{Recovered, RecoveredPartition, RecoveryError, RecoveryReport, recover};
pub use segment::SegmentFacts;
pub use shard_log::ShardLog;
pub use tail::{ReadAsk, ReadBatches};
