//! What is promised about order.
//!
//! # Accepted and acknowledged
//!
//! Two moments, two types. A batch is [`Accepted`](crate::partition::Accepted) when its offsets and
//! its place in the order are fixed; nobody sees it yet, and it may still be lost. It is
//! [`Acknowledged`](crate::partition::Acknowledged) when it is as safe as the durability level
//! promises; from then on it is answered and can be read. Between the two the connection's next
//! request is taken.
//!
//! # Per partition
//!
//! - Offsets have no gaps and follow the order of acceptance; appends take turns, first come, first
//!   served.
//! - Batches become durable in the order of their offsets: the journal is one stream per shard, and
//!   an acknowledgement waits for every earlier write of the shard. What a crash takes is always an
//!   end of what was not acknowledged, never a hole.
//! - A consumer reads below the high watermark only, with `isolation.level=read_committed` below the last
//!   stable offset. With one replica the high watermark is the durable offset, so no read can show what
//!   a crash could take back (at level `fsync`); without transactions both are the same.
//! - Log start ≤ last stable ≤ high watermark ≤ durable ≤ log end, and none that a consumer sees goes
//!   back: checked whenever one moves. A partition that breaks the order goes offline.
//!
//! # Per connection
//!
//! - Requests are accepted in the order in which they arrive, and each is accepted before the next
//!   one is looked at. Up to 64 may wait for their acknowledgement at a time.
//! - Responses leave in the order of the requests, as Kafka's clients expect; small ones that are
//!   there together leave in one write. A Fetch that waits
//!   for records holds back the responses behind it.
//! - Partitions of one Produce are accepted in the order in which they are listed; there is no
//!   promise across partitions.
//! - `acks=0` is never answered; if a batch is refused, the connection is closed, as in Kafka.
//! - `acks=1` and `acks=all` are the same here: there is one replica. A request whose `timeout.ms`
//!   ends first gets REQUEST_TIMED_OUT, and its batches may become durable all the same.
//!
//! # Idempotent producers
//!
//! - Each partition remembers the last five batches of each producer (KIP-98), up to 10,000 producers;
//!   all partitions of a shard together as many as fit a sixteenth of its share of `corelane.memory`
//!   (a producer that has written once takes 96 bytes, one that goes on 240). Beyond that those that
//!   have been silent for longest are forgotten, in favour of new ones
//!   (`log/partition/producers/memory.rs`). A retry of a remembered batch gets its first offsets, and is answered once *those* are durable.
//! - A gap in the sequence is OUT_OF_ORDER_SEQUENCE_NUMBER, an older epoch INVALID_PRODUCER_EPOCH; a
//!   partition that does not know the producer takes any sequence, as Kafka does.
//! - A batch that was refused for a time (no space, too many open files, a damaged frame) is awaited:
//!   those behind it get the same retriable answer until it has come again, its producer has a higher
//!   epoch, or 120 s have passed. Otherwise a small batch 1 could be taken after batch 0 had found no
//!   room, and 0 would be out of order for ever (`partition/refusals.rs` has the example).
//! - The check and the assignment of offsets are one step. The state is rebuilt exactly by
//!   recovery: the checkpoint has all remembered batches as of its end, and the batches behind it
//!   are applied again.
//! - A producer that is silent for `producer.id.expiration.ms` is forgotten, when retention looks. Only
//!   time in which the node runs counts, by the monotonic clock: no wall clock that jumps, or is wrong
//!   at a start, makes a retry look new.
//!
//! # Metadata
//!
//! Changes have one order. The controller decides each on the image that all earlier ones lead to;
//! what has gathered while one write was under way becomes durable in the next, in `metadata/log`, and
//! every shard takes the images over in that order. A write that fails drops the changes in it, which
//! are all that were decided on one another; what frees space is written apart from what takes some.
//! What a change means for partitions is done behind, in slices and beside other changes. Its answer
//! waits for the shards that it concerns, the next change for nobody: whoever has the answer sees the
//! change on every shard, and a producer gets its id while ten thousand partitions are made. A
//! partition that is not made yet is NOT_LEADER_OR_FOLLOWER, as in Kafka, which clients ask again. A
//! topic of which a partition cannot be made is taken back, and CreateTopics says why. The name of a
//! deleted topic is free when every owner has renamed its directories.
//!
//! # Leader epochs
//!
//! After a stop that was not clean, the leader epoch of every partition is raised, in the metadata
//! and durably, before the first append: below level `fsync`, offsets that a client
//! has seen may be given out again, and the epoch tells the two apart (KIP-320).
