//! What clients' requests and responses are charged to.

mod fetches;
mod responses;

pub use fetches::FetchMemory;
pub use responses::{ResponseMemory, ResponseRoom, memory_of};

use crate::net::FrameMemory;
use crate::rt::Budget;
use crate::shard::MemoryPlan;

/// The budgets that requests are charged to.
pub fn frame_memory(plan: &MemoryPlan) -> FrameMemory {
    FrameMemory {
        small: Budget::new(plan.small_request_bytes),
        growing: Budget::new(plan.request_bytes),
        completing: Budget::new(plan.largest_request_bytes),
        has_deadlines: true,
    }
}

/// What responses are charged to.
pub fn response_memory(plan: &MemoryPlan) -> ResponseMemory {
    ResponseMemory::new(plan.response_bytes, plan.small_response_bytes)
}
