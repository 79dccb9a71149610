//! What a partition's log consists of, and what is decided about it.
//!
//! | file | what |
//! |---|---|
//! | `state` | the fields, and who changes which |
//! | `marks` | how far it is written, safe and readable |
//! | `tail` | the recent bytes in memory |
//! | `producers/` | idempotent producers |
//! | `epochs` | where leader epochs begin |
//! | `roll_plan`, `move_plan`, `retention` | when the next segment begins, what is written to segment files next, which segments go |
//! | `checkpoint_content` | what a checkpoint says of each |

pub mod checkpoint_content;
pub mod epochs;
pub(in crate::log) mod marks;
pub(in crate::log) mod move_plan;
pub mod producers;
pub mod retention;
pub mod roll_plan;
pub(in crate::log) mod state;
pub(in crate::log) mod tail;
