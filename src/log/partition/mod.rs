//! What a partition's log consists of, and what is decided about it.
//!
//! | file | what |
//! |---|---|
//! | `state` | the state machine: every change of a partition |
//! | `effects` | what it is given, and what it asks its caller to do |
//! | `snapshot` | its one durable form, and what a batch or an event does to it |
//! | `marks` | how far it is written, safe and readable |
//! | `tail` | the recent bytes in memory |
//! | `producers/` | idempotent producers |
//! | `epochs` | where leader epochs begin |
//! | `roll_plan`, `write_back_plan`, `retention` | when the next segment begins, what is written to segment files next, which segments go |
//! | `checkpoint_content` | a checkpoint: the snapshots of a shard |

pub mod checkpoint_content;
pub(in crate::log) mod effects;
pub mod epochs;
pub(in crate::log) mod marks;
pub mod producers;
pub mod retention;
pub mod roll_plan;
pub mod snapshot;
pub(in crate::log) mod state;
pub(in crate::log) mod tail;
pub(in crate::log) mod write_back_plan;
