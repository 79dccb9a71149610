//! How a shard's memory is divided among all that grows with what clients do. The parts add up to the
//! whole.

use crate::config::BrokerConfig;

/// The whole, in the unit of the parts below.
const WHOLE: usize = 32;
/// Batches in memory, for consumers that keep up.
const TAIL: usize = 10;
/// Requests that are read; the same for one request that there is no room for among the others, and
/// for responses that are not written yet.
const REQUESTS: usize = 4;
/// What quiet connections receive into.
const CONNECTIONS: usize = 1;
/// Blocks around the journal's writes, of write-back and of lookups.
const BLOCKS: usize = 1;
/// What is made of batches that a topic wants recompressed.
const OPENING: usize = 2;
/// What is known of idempotent producers.
const PRODUCERS: usize = 2;
/// What fetch sessions remember.
const SESSIONS: usize = 2;
/// What Fetch requests that are under way say of their partitions.
const FETCHES: usize = 1;
/// Indexes of sealed segments that were used of late.
const INDEXES: usize = 1;

const _: () = {
    let buffers = TAIL + 3 * REQUESTS + CONNECTIONS + BLOCKS;
    assert!(buffers + OPENING + PRODUCERS + SESSIONS + FETCHES + INDEXES == WHOLE);
};

/// The part of request and response memory that is kept for small ones.
const SMALL_SHARE: usize = 4;
/// The tail's share of the journal's length, at most. Tail memory comes free with every write-back to a
/// segment, journal space only with a checkpoint: where memory runs out first, writers that are
/// faster than the disk are slowed down evenly. With a tail of twice the journal they stood still
/// for half a second at a time (ack p99 540 ms instead of 30 to 100), and spent four times the
/// processor time on memory that was never touched before.
const TAIL_OF_JOURNAL: u64 = 2;
/// What a connection receives into while it is quiet.
const CONNECTION_BYTES: usize = 4 << 10;

/// What a shard may hold, in bytes.
///
/// With 256 MiB and the defaults: 80 MiB of tail; 32 MiB of requests (8 for those of up to 64 KiB), a
/// request of at most 32 MiB beyond that, and 32 MiB of responses; 8 MiB for 2,048 connections, and 8
/// for blocks around the disk. That are 192 MiB of buffers. On the heap, 16 MiB each for recompressed
/// batches, for 170,000 idempotent producers, and for the 52,428 partitions of fetch sessions, and 8
/// each for Fetch requests under way (the largest may name 14,000 partitions in no session) and for indexes: 64 MiB. With 2 GiB: 128 MiB of requests (`queued.max.request.bytes`), 100 MiB for one
/// (`socket.request.max.bytes`), 256 MiB of responses.
///
/// What is beside it grows with none of that: the program, the codecs' contexts (22 MiB at most), the
/// metadata, and some KiB for each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub tail_bytes: usize,
    /// Requests of up to 64 KiB.
    pub small_request_bytes: usize,
    /// Larger requests.
    pub request_bytes: usize,
    /// The largest request, for which there is always room.
    pub largest_request_bytes: usize,
    /// Responses that are not written yet.
    pub response_bytes: usize,
    /// The same, for small ones alone.
    pub small_response_bytes: usize,
    /// Connections, all together.
    pub connections: usize,
    pub opening_bytes: usize,
    pub producer_bytes: usize,
    /// What fetch sessions remember, all together.
    pub session_bytes: usize,
    /// What Fetch requests under way say of their partitions.
    pub fetch_bytes: usize,
    pub index_bytes: usize,
    /// All of it that is not in buffers.
    pub heap_bytes: usize,
}

impl MemoryPlan {
    /// The plan for a shard of `memory_bytes`.
    pub fn of(memory_bytes: usize, config: &BrokerConfig) -> Self {
        let share = |parts: usize| memory_bytes / WHOLE * parts;
        let bytes = |value: i32| usize::try_from(value).unwrap_or(0);
        let journal = u64::try_from(config.corelane_journal_bytes).unwrap_or(0);
        let of_journal = usize::try_from(journal / TAIL_OF_JOURNAL).unwrap_or(usize::MAX);
        let queued = usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX);
        let requests = queued.min(share(REQUESTS));
        let (small, responses) = (requests / SMALL_SHARE, share(REQUESTS));
        Self {
            tail_bytes: share(TAIL).min(of_journal),
            small_request_bytes: small,
            request_bytes: requests - small,
            largest_request_bytes: bytes(config.socket_request_max_bytes).min(share(REQUESTS)),
            response_bytes: responses - responses / SMALL_SHARE,
            small_response_bytes: responses / SMALL_SHARE,
            connections: share(CONNECTIONS) / CONNECTION_BYTES,
            opening_bytes: share(OPENING),
            producer_bytes: share(PRODUCERS),
            session_bytes: share(SESSIONS),
            fetch_bytes: share(FETCHES),
            index_bytes: share(INDEXES),
            heap_bytes: share(OPENING + PRODUCERS + SESSIONS + FETCHES + INDEXES),
        }
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
            let of_shard = u64::try_from(limit).unwrap_or(0) * (WHOLE / REQUESTS) as u64;
            let needed = u64::from(shards) * of_shard;
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
    fn the_worked_example_holds() {
        let plan = MemoryPlan::of(256 << 20, &config(&[]));
        let expected = MemoryPlan {
            tail_bytes: 80 << 20,
            small_request_bytes: 8 << 20,
            request_bytes: 24 << 20,
            largest_request_bytes: 32 << 20,
            response_bytes: 24 << 20,
            small_response_bytes: 8 << 20,
            connections: 2_048,
            opening_bytes: 16 << 20,
            producer_bytes: 16 << 20,
            session_bytes: 16 << 20,
            fetch_bytes: 8 << 20,
            index_bytes: 8 << 20,
            heap_bytes: 64 << 20,
        };
        assert_eq!(plan, expected);
        let plan = MemoryPlan::of(2 << 30, &config(&[]));
        assert_eq!(plan.small_request_bytes + plan.request_bytes, 128 << 20);
        assert_eq!(plan.largest_request_bytes, 100 << 20);
    }

    #[test]
    fn memory_runs_out_before_the_journal_does() {
        let tail = |memory, journal: u64| {
            let journal = format!("corelane.journal.bytes={journal}");
            MemoryPlan::of(memory, &config(&[&journal])).tail_bytes
        };
        assert_eq!(tail(128 << 20, 512 << 20), 40 << 20);
        assert_eq!(tail(14 << 30, 512 << 20), 256 << 20);
        assert_eq!(tail(14 << 30, 4 << 30), 2 << 30);
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
