//! The logs of one shard at work: what they share, and all that waits for a disk.
//!
//! | file | what |
//! |---|---|
//! | `shard_log` | opened, partitions made and deleted, closed |
//! | `storage` | what they share: journal, memory, open files; the table of events |
//! | `partition_log`, `open_log` | the handle that a shard has of each, and what its clones share |
//! | *accepting a batch* | |
//! | `append` | judged, given room (in the next segment, when it is time), then accepted in one step |
//! | `tail_memory` | memory for recent bytes, and which go when it is short |
//! | *to segments* | |
//! | `write_back/` | what is journaled goes to segment files, in which order, and when it is durable there |
//! | `checkpointer` | what lets the journal forget |
//! | `sealed/` | what becomes of sealed segments: they go, or others take their place |
//! | `lifecycle` | a partition's files at its beginning and at its end |
//! | *reading* | |
//! | `reader` | from segment files, what is no longer in the tail; where in them to begin |
//! | `timestamps` | finding records by time |

pub(in crate::log) mod append;
pub(in crate::log) mod checkpointer;
pub(in crate::log) mod lifecycle;
pub(in crate::log) mod open_log;
pub(in crate::log) mod partition_log;
pub(in crate::log) mod reader;
pub(in crate::log) mod sealed;
pub(in crate::log) mod shard_log;
pub(in crate::log) mod storage;
pub(in crate::log) mod tail_memory;
mod timestamps;
pub(in crate::log) mod write_back;
