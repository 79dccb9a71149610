//! Checkpoints: from which write on the journal is needed, and where every partition stood then.
//!
//! | file | what |
//! |---|---|
//! | `checkpointer` | when one is written, and what must be durable before |
//! | `content` | what one says |
//! | `slots` | the two files that hold them in turns |

pub(in crate::log) mod checkpointer;
pub mod content;
mod slots;

pub use slots::{Checkpoint, CheckpointError, CheckpointSlots};
