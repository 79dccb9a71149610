//! The log of a partition: what is on disk, what is in memory, and how both come back after a crash.

pub mod checkpoint;
mod codec;
pub mod epochs;
mod error;
pub mod index;
pub mod journal;
pub mod lock;

mod marks;
mod move_plan;
mod options;
mod partition;
pub mod partition_files;
pub mod producers;
pub mod record_log;
mod recovery;
pub mod retention;
pub mod rules;
pub mod run;
mod segment;
pub mod small_file;
mod store;
mod tail;

pub use error::{AppendError, ReadError, StorageError};
pub use marks::Marks;
pub use options::{
    Durability, KnownPartition, LogConfig, LogOptions, PartitionSpec, RecoveryOptions,
};
pub use partition::{Appended, PartitionLog};
pub use recovery::{Recovered, RecoveredPartition, RecoveryError, RecoveryReport, recover};
pub use segment::SegmentFacts;
pub use store::ShardLog;
pub use tail::ReadBatches;
