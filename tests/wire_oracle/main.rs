//! The codec against an independent one (crate `kafka-protocol`), against bytes made by hand,
//! and against hostile input: every API, direction and version.

use corelane::{model, wire};

#[macro_use]
mod sample;
mod definitions;
#[path = "../common/evil.rs"]
mod evil;
mod hostile;
mod known;
mod round_trip;
mod splices;
