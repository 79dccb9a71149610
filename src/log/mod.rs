//! The log of a partition: what is on disk, what is in memory, and how both come back after a crash.
//!
//! | file | what |
//! |---|---|
//! | *of a shard* | |
//! | `shard_log` | the logs of a shard: opened, partitions made and deleted, closed |
//! | `core` | what they share: journal, memory, open files; the table of events |
//! | `options`, `error` | what it is told from outside, what can go wrong |
//! | `rules` | the rules that keep acknowledged data, by name |
//! | *of a partition* | |
//! | `partition` | the handle that its shard has |
//! | `state` | what lies behind it: the fields, and who changes which |
//! | `marks` | offsets for readers, byte positions for files |
//! | *accepting a batch* | |
//! | `append` | judged, given room, then accepted in one step |
//! | `roll`, `roll_plan` | the next segment: begun, and when |
//! | `tail`, `eviction` | the recent bytes in memory; which of them go when it is short |
//! | `journal/` | the shard's stream in which everything accepted becomes durable |
//! | *to segments* | |
//! | `moves`, `move_plan` | what is journaled goes to segment files: done, and what is next |
//! | `checkpoint/` | what lets the journal forget |
//! | `log_start`, `retention` | the log start rises and segments go; which ones |
//! | *reading* | |
//! | `reader` | from segment files, what is no longer in the tail |
//! | `walk` | batch after batch through a file |
//! | `damage` | what reads have found damaged, to be told once |
//! | `timestamps` | finding records by time |
//! | `index/`, `index_cache`, `index_files` | where in a segment an offset or a time is |
//! | *kept beside the batches* | |
//! | `segment` | what is known of a segment without reading it |
//! | `producers/` | idempotent producers |
//! | `epochs` | where leader epochs begin |
//! | *at a start* | |
//! | `recovery/` | every acknowledged byte back into segments |
//! | `run` | which start of the node journals and checkpoints belong to |
//! | *files* | |
//! | `partition_dirs` | directories: made, put aside, removed |
//! | `partition_files` | names, and Kafka's small text files |
//! | `open_files`, `lock` | segment files that are open; files that one process alone may write |
//! | `small_file`, `record_log`, `codec` | small files, the log of metadata, fields of our formats |
//! | `simulation/` | whole lives on a disk that loses what was not durable; tests only |

mod append;
pub mod checkpoint;
mod codec;
mod core;
mod damage;
pub mod epochs;
mod error;
mod eviction;
pub mod index;
mod index_cache;
mod index_files;
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
#[cfg(test)]
mod tests;
mod timestamps;
mod walk;

pub use error::{AppendError, ReadError, StorageError};
pub use marks::Marks;
pub use options::{
    Durability, KnownPartition, LogConfig, LogOptions, PartitionSpec, RecoveryOptions,
};
pub use partition::{Appended, PartitionLog};
pub use recovery::{
    Recovered, RecoveredPartition, RecoveryError, RecoveryReport, recover, refuse_strangers,
};
pub use segment::SegmentFacts;
pub use shard_log::ShardLog;
pub use tail::{ReadAsk, ReadBatches};
