//! Bytes that mean harm, sent to a real broker: it stays alive, goes on serving others, and its
//! memory stays bounded.
//!
//! The gate sends some ten thousand frames, `scripts/full` a million (CORELANE_HOSTILE_FRAMES).

#![expect(clippy::disallowed_methods, reason = "real threads and real time")]

#[macro_use]
#[path = "wire_oracle/sample.rs"]
#[expect(dead_code, reason = "only short samples are sent")]
mod sample;
mod common;
#[path = "wire_oracle/definitions.rs"]
mod definitions;
#[path = "common/evil.rs"]
mod evil;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/lies.rs"]
mod lies;
#[path = "hostile/stalling.rs"]
mod stalling;
#[path = "hostile/target.rs"]
mod target;

// The definitions name these as the library does.
use corelane::{model, wire};
