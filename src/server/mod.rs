//! Kafka at the socket.
//!
//! | file | what |
//! |---|---|
//! | `listeners` | the clients of a shard: which connections are taken, and kept, until the last one |
//! | `connection` | one client: requests accepted in order, responses in order |
//! | `session` | what is known of a connection's client, from its first byte to its last |
//! | `router` | the way of a request: authorize, handle, quota, throttle, encode |
//! | `request` | what handlers get |
//! | `response` | what leaves: encoded, charged, counted |
//! | `gate` | where an authorizer and quotas come in |
//! | `memory/` | what requests and responses are charged to |
//! | `context` | what the handlers of a shard share |
//! | `locate` | from what a request names to a partition, or to where else it is |
//! | `handlers/` | a file per API family |
//! | `fetch_session` | incremental fetch sessions (KIP-227), pure |
//! | `errors` | the one table from our errors to Kafka's |

mod connection;
mod context;
pub mod errors;
pub mod fetch_session;
mod gate;
mod handlers;
mod listeners;
mod locate;
mod memory;
mod request;
mod response;
mod router;
mod session;

pub use listeners::{bind, request_metrics, resolve, serve};
