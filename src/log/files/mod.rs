//! Names, small files, and what is written as checksummed blocks: what the log keeps beside records.
//!
//! | file | what |
//! |---|---|
//! | `partition_files` | names, and Kafka's small text files |
//! | `partition_dirs` | directories: made, put aside, removed |
//! | `lock` | files that one process alone may write |
//! | `codec` | fields and checksummed headers of our formats |
//! | `small_file` | files that are replaced as a whole |
//! | `run` | which start of the node journals and checkpoints belong to |
//! | `checkpoint_slots` | the two files that hold checkpoints in turns |
//! | `record_log` | the log of metadata |

pub mod checkpoint_slots;
pub(in crate::log) mod codec;
pub mod lock;
pub(in crate::log) mod partition_dirs;
pub mod partition_files;
pub mod record_log;
pub mod run;
pub mod small_file;
