//! One partition on its shard: the gateway, the log behind it, and who waits for what.

mod admission;

pub use admission::{AdmissionError, AdmissionRules, Admitted};
