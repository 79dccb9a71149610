//! The log of a partition: what is on disk, what is in memory, and how both come back after a crash.
//!
//! In the order of layers, the lowest first:
//!
//! | room | what |
//! |---|---|
//! | `options`, `error` | what it is told from outside, what can go wrong |
//! | `rules` | the rules that keep acknowledged data, by name |
//! | `tracked` | values that count their changes |
//! | `files/` | names, locks, small files, checksummed blocks, directories |
//! | `journal/` | the shard's stream in which everything accepted becomes durable |
//! | `segment/` | a segment's facts, indexes and files |
//! | `partition/` | what one log consists of, and what is decided about it |
//! | `recovery/` | at a start: every acknowledged byte back into segments |
//! | `shard/` | the logs of a shard at work: append, write-back, checkpoint, read |
//! | `simulation/` | whole lives on a disk that loses what was not durable; tests only |

mod error;
pub mod files;
pub mod journal;
mod options;
pub mod partition;
mod recovery;
pub mod rules;
pub mod segment;
mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod simulation;
#[cfg(test)]
mod tests;
mod tracked;

pub use error::{AppendError, ReadError, ReplaceError, StorageError};
pub use options::{
    Durability, KnownPartition, LogConfig, LogOptions, PartitionSpec, RecoveryOptions,
    SYNCS_BY_FILE, ToldPartition,
};
pub use partition::marks::Marks;
pub use partition::roll_plan::RoomAsk;
pub use partition::tail::{ReadAsk, ReadBatches};
pub use recovery::{
    FoundDirs, LastTimes, Recovered, RecoveredPartition, Recovery, RecoveryError, RecoveryReport,
    ShardPart, ShardRecovery, ShardReport,
};
pub use segment::facts::SegmentFacts;
pub use shard::append::{Appended, Room};
pub use shard::open_log::LogWatcher;
pub use shard::partition_log::PartitionLog;
pub use shard::sealed::swap::Rewritten;
pub use shard::shard_log::ShardLog;
pub use shard::storage::HeldRoom;
