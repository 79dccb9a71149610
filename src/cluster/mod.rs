//! What all shards and nodes agree on: topics, placement, configurations, producer ids.
//!
//! Metadata is an event log. The controller *decides* ([`controller`]): from the image and a
//! request it makes [`Record`]s, or refuses. Once these are durable they are *applied*
//! ([`Image::apply`]): a new image, which shares with the old one what did not change. Every shard
//! holds an `Arc<Image>`; none is ever changed in place.
//!
//! | file | what |
//! |---|---|
//! | `records/` | the records and their stored form |
//! | `image`, `topic`, `apply` | the state that records add up to |
//! | `snapshot` | an image as records, so that the log can start anew |
//! | `shared_map` | the ordered map that makes copies cheap |
//! | `controller/` | decisions |
//!
//! Pure: no I/O, no clock, no random source (topic ids come as arguments).

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod apply;
pub mod controller;
mod image;
mod records;
mod shared_map;
mod snapshot;
#[cfg(test)]
mod tests;
mod topic;

pub use apply::ApplyError;
pub use controller::ControllerError;
pub use image::{Image, NodeState};
pub use records::{ConfigChanges, MAX_RECORD_BYTES, Move, Record, RecordError};
pub use shared_map::SharedMap;
pub use topic::{Configs, PartitionState, Placement, Replica, Topic};
