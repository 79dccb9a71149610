//! What was decided, what was rejected, and why.
//!
//! Figures are from one small machine (2 vCPU of an AMD EPYC Zen 5 in a VM, Linux 6.18, ext4 on
//! virtio), medians of three, ±20 % as the machine is shared. They compare ways of doing a thing on
//! the same machine; they say little about another one. "The loop" is one core that receives
//! 1 MiB batches, checks their CRC, makes them durable and sends them to a consumer at the tail, in a
//! program that does nothing else.
//!
//! # How bytes are written
//!
//! | the loop, written… | MiB/s in, and as much out |
//! |---|---|
//! | direct, RWF_DSYNC, huge pages, into a file that was written before | 2341 |
//! | the same into a file that was only reserved (fallocate) | 2194 |
//! | the same from 4 KiB pages | 2017 |
//! | through the page cache with fdatasync, sent with sendfile | 856 |
//! | through the page cache, never synced, sent with sendfile | 541 |
//!
//! - **Direct writes and a tail in our own memory**, therefore, instead of the page cache. A buffered
//!   descriptor beside direct writes also loses its cached range at every write.
//! - **RWF_DSYNC, or a flush behind the writes, as the disk asks**
//!   ([durability](super::durability#levels)). 256 KiB with RWF_DSYNC take 140 µs on this machine when its
//!   other core is idle. Its disk has a volatile cache and no FUA, so that such a write ends in a worker
//!   on the core that took the interrupt: with a busy neighbour there 3.4–8 ms (p50), now and
//!   then 350 ms; a plain write and a flush from a worker on the own core take 0.5 ms, for 217
//!   instead of 156 µs of processor time.
//! - **Journal files are recycled** and filled with zeros before their first use: a durable write of
//!   256 KiB into reserved space took 266 µs instead of 140 µs.
//! - **Segment files are never recycled**: an old batch can have a plausible offset and a right CRC,
//!   and zeros cannot.
//! - **A journal, then segments**, so that many partitions with small batches cost one write per commit.
//!   An fsync per partition file collapses with the number of partitions. The price is that every byte
//!   is written twice. Large batches of few partitions could go straight to their segment; that path
//!   does not exist yet.
//! - **One journal per shard**, not one per process: that would be a lock, or a hop between cores, for
//!   every byte.
//! - **Each shard recovers its own partitions**, where they stay, from the journal of who owned them, even if
//!   after another number of shards several read the same one: nothing is handed over that a core would
//!   have to copy. A debug build with two shards, 2,000 partitions and 94 MB of journals, files in memory, took
//!   0.70 s on one core and takes 0.58 on both, which had other work as well; the busier thread 0.34 s of
//!   processor time instead of 0.57. On a disk of about 200 MB/s it took 0.9 s and takes 0.8.
//! - **One durability level per node**, not per topic: behind an unflushed entry, a flushed one is worth
//!   nothing after power loss.
//! - **One copy of each batch** between socket and segment, into the tail's block-aligned chunks.
//!   Alignment makes it necessary. It is what journal, segment and consumers are served from.
//!
//! # Where requests go
//!
//! - **Every core is a broker to its clients.** The protocol can already route: metadata names the
//!   shard that leads. Forwarding inside the process costs a hop, a wake-up (33–56 µs with the other
//!   core parked) and a cache miss per request. The price is a port per core, and clients that open
//!   a connection per core.
//! - **No two replicas on shards of one node**: a replication factor above the number of nodes is
//!   refused, because it would be safety that one power cord ends.
//! - **Plain sends at the tail.** On loopback, zero-copy sends are always copied and were slower
//!   (2.2 against 5.35 GB/s at 1 MiB). sendfile blocks the executor on cold pages.
//!
//! - **A full disk refuses, and remembers whom.** A batch that waited for space would keep its memory and
//!   its connection, and the requests that could free space would wait behind it. What was refused is
//!   awaited instead ([ordering](super::ordering)), so that no batch overtakes it.
//!
//! # Building
//!
//! - **One generic for the outside world** ([`crate::rt::Runtime`]), and only where I/O is, so that the
//!   same code runs on io_uring and in the simulator. glommio gives executor and timers and is named
//!   in `rt/glommio` alone; files and sockets go through a raw ring per shard, for RWF_DSYNC,
//!   registered huge pages, and buffers that are ours.
//! - **A codec of our own for the protocol** ([`crate::wire`]): it borrows from the frame and checks each
//!   length against the bytes that remain before anything is allocated. The crate `kafka-protocol`
//!   is the oracle of the tests; as a dependency of the broker it was out, because it allocates by
//!   lengths from the wire.
//! - **No random hashing, no clock outside of `rt`** (`clippy.toml`): a simulation that cannot be
//!   repeated is worth little.
//! - **Every record is checked before its batch is acknowledged** (`corelane.validate.records=false`
//!   leaves it out, for measuring): a batch whose payload does not decompress, or holds other records
//!   than its header counts, would stop every consumer of its partition for ever. What a producer
//!   compressed reaches the consumer as it is, unless the topic names another codec; a max timestamp
//!   that its records contradict is corrected, as Kafka does.
//! - **Recompression in steps, or on a thread of its own.** A topic's codec is applied piece by piece,
//!   and after at most a millisecond the core serves others: zstd then ends a block every 64 KiB
//!   (32 at level 5), which cost 0.5 % of the size in text of a log and nothing in source code. Of
//!   1 MiB the longest step became 0.7 ms at zstd:3 (1.2 before), 0.6 at gzip:6. From gzip:8 and
//!   zstd:6 on a step cannot be that short (120 ms at zstd:19): batches of more than 4 and 1 to
//!   16 KiB go to one thread of the node, one of each shard at a time, as does what a client sends in
//!   blocks of more than 1 MiB. The thread gives way to the shards, so that such topics are slow on a
//!   machine that is busy.
//! - **Kafka's names and file formats** wherever there are any; our own keys begin with `corelane.`.
//!   A key of Kafka's that promises what does not exist here (`ssl.*`, `authorizer.class.name`) refuses
//!   the start; one that tunes what is built differently is ignored, with a line that says so.
