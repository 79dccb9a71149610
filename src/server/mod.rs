//! Kafka at the socket.
//!
//! | file | what |
//! |---|---|
//! | `run` | one shard from its seed to its end: listeners, connections, background work, stop |
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

pub use run::{ServeError, ShardSetup, Started, run_node, run_shard};
