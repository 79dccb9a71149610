//! The log of a partition: what is on disk, what is in memory, and how both come back after a crash.

pub mod producers;
