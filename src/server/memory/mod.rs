//! How a shard's memory is divided among what clients make it hold.

mod responses;

pub use responses::{ResponseMemory, ResponseRoom, memory_of};

use crate::config::BrokerConfig;
use crate::net::FrameMemory;
use crate::rt::Budget;

/// The part of a shard's memory that each of these takes at most: requests that are read, one
/// request that the former have no room for, responses that are not written yet. The tail takes up
/// to half of the memory (`shard/open.rs`); the rest is for the journal's writes, write-back and
/// lookups.
const SHARE: usize = 8;
/// Fetch sessions take at most this part of such a share: with 256 MiB, 16 MiB.
const SESSION_SHARE: usize = 2;
/// What a partition takes in a fetch session: its entry, its key once more, its place in the map, and
/// its watch.
const SESSION_PARTITION_BYTES: usize = 320;
/// The part of request and response memory that is kept for small ones.
const SMALL_SHARE: usize = 4;

/// What clients may make a shard hold, in bytes.
///
/// With 256 MiB and the defaults: 32 MiB of requests (8 for those of up to 64 KiB), a request of at
/// most 32 MiB beyond that, and 32 MiB of responses. With 2 GiB: 128 MiB of requests
/// (`queued.max.request.bytes`), 100 MiB for one (`socket.request.max.bytes`), 256 MiB of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Requests of up to 64 KiB.
    pub small_request_bytes: usize,
    /// Larger requests.
    pub request_bytes: usize,
    /// The largest request, for which there is always room.
    pub largest_request_bytes: usize,
    /// Responses that carry records and are not written yet.
    pub response_bytes: usize,
    /// The same, for small ones alone.
    pub small_response_bytes: usize,
    /// Partitions that fetch sessions remember, all together.
    pub session_partitions: usize,
}

impl MemoryPlan {
    /// The plan for a shard of `memory_bytes`.
    pub fn of(memory_bytes: usize, config: &BrokerConfig) -> Self {
        let share = memory_bytes / SHARE;
        let queued = usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX);
        let largest = usize::try_from(config.socket_request_max_bytes).unwrap_or(0);
        let requests = queued.min(share);
        let small = requests / SMALL_SHARE;
        Self {
            small_request_bytes: small,
            request_bytes: requests - small,
            largest_request_bytes: largest.min(share),
            response_bytes: share - share / SMALL_SHARE,
            small_response_bytes: share / SMALL_SHARE,
            session_partitions: share / SESSION_SHARE / SESSION_PARTITION_BYTES,
        }
    }

    /// The budgets that requests are charged to.
    pub fn frame_memory(&self) -> FrameMemory {
        FrameMemory {
            small: Budget::new(self.small_request_bytes),
            growing: Budget::new(self.request_bytes),
            completing: Budget::new(self.largest_request_bytes),
            has_deadlines: true,
        }
    }

    /// What responses are charged to.
    pub fn response_memory(&self) -> ResponseMemory {
        ResponseMemory::new(self.response_bytes, self.small_response_bytes)
    }

    /// Limits of the configuration that the memory does not allow, and how to mend it.
    pub fn notices(&self, config: &BrokerConfig, shards: u16) -> Vec<String> {
        let taken = self.largest_request_bytes;
        let limits = [
            ("socket.request.max.bytes", config.socket_request_max_bytes),
            ("message.max.bytes", config.message_max_bytes),
        ];
        let too_large = |(_, limit): &(&str, i32)| usize::try_from(*limit).is_ok_and(|l| l > taken);
        let notice = |(key, limit): (&str, i32)| {
            let needed = u64::from(shards) * SHARE as u64 * u64::try_from(limit).unwrap_or(0);
            format!(
                "{key}={limit} does not fit corelane.memory: requests of more than {taken} bytes \
                 are refused; set corelane.memory to at least {needed}, or {key} to at most {taken}"
            )
        };
        limits.into_iter().filter(too_large).map(notice).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DynamicConfigs, Host, Sources};

    fn config(sets: &[&str]) -> BrokerConfig {
        let mut sources = Sources::default();
        for set in sets {
            sources.set(set).unwrap();
        }
        let host = Host {
            cpus: 2,
            memory_bytes: 4 << 30,
            is_root: false,
        };
        let (settings, _) = sources.load(&host).unwrap();
        settings.resolve(&DynamicConfigs::default()).unwrap()
    }

    #[test]
    fn the_largest_request_always_fits() {
        let plan = MemoryPlan::of(256 << 20, &config(&[]));
        assert_eq!(plan.small_request_bytes, 8 << 20);
        assert_eq!(plan.request_bytes, 24 << 20);
        assert_eq!(plan.largest_request_bytes, 32 << 20);
        let plan = MemoryPlan::of(2 << 30, &config(&[]));
        assert_eq!(plan.small_request_bytes + plan.request_bytes, 128 << 20);
        assert_eq!(plan.largest_request_bytes, 100 << 20);
    }

    #[test]
    fn limits_that_do_not_fit_are_told() {
        let notices = |sets: &[&str], memory| {
            let config = config(sets);
            MemoryPlan::of(memory, &config).notices(&config, 2)
        };
        assert_eq!(notices(&[], 2 << 30), [""; 0]);
        let told = notices(&[], 256 << 20);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("socket.request.max.bytes=104857600 does not fit"));
        assert!(told[0].contains(&format!(
            "corelane.memory to at least {}",
            2 * 8 * (100 << 20)
        )));
        assert_eq!(
            notices(&["socket.request.max.bytes=33554432"], 256 << 20),
            [""; 0]
        );
        assert_eq!(notices(&["message.max.bytes=40000000"], 256 << 20).len(), 2);
    }
}
