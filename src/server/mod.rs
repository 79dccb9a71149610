//! Kafka at the socket.
//!
//! | file | what |
//! |---|---|
//! | `run` | a node from its start to its end, and each shard: background work, stop |
//! | `listeners` | the sockets of a shard: which connections are taken, and kept |
//! | `connection` | one client: requests accepted in order, responses in order |
//! | `service` | a frame to its handler |
//! | `handlers/` | a file per API family |
//! | `fetch_session` | incremental fetch sessions (KIP-227), pure |
//! | `errors` | the one table from our errors to Kafka's |

mod connection;
pub mod errors;
pub mod fetch_session;
mod handlers;
mod listeners;
mod run;
mod service;

pub use listeners::resolve;
pub use run::{ServeError, ShardSetup, Started, run_node, run_shard};
