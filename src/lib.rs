//! corelane: a log broker that speaks Kafka's protocol. Every core is a broker of its own.
//!
//! A node is one process. It runs one **shard** per core: a pinned thread with its own executor,
//! listener, memory, partitions and journal. Each shard is advertised to clients as a broker, and
//! metadata names for every partition the shard that leads it, so that requests arrive on the core
//! that holds the data. Shards share no locks and forward nothing.
//!
//! # The map
//!
//! In the order of layers, the lowest first. `tests/tidy.rs` holds the arrows: a module imports
//! what is named in its row, and nothing else of this crate.
//!
//! | module | what | imports |
//! |---|---|---|
//! | [`metrics`] | counts and times of a shard, with a single writer | - |
//! | [`model`] | ids, offsets, the record batch as a checked view | - |
//! | [`compress`] | gzip, snappy, lz4, zstd in Kafka's framings, piece by piece | model |
//! | [`config`] | Kafka's keys and ours: where values come from, what they may be | - |
//! | [`rt`] | the seam to the world: time, disk, sockets, memory; the io_uring runtime | metrics |
//! | [`net`] | a connection's bytes, and frames of them with what they may cost | rt |
//! | [`wire`] | Kafka's protocol, bytes to values and back; pure | model |
//! | [`log`] | journal, segments, tail, indexes, producers, checkpoints, recovery, retention | model, compress, rt |
//! | [`cluster`] | metadata: records, the image they add up to, decisions; pure | model |
//! | [`partition`] | one partition on its shard: role and watermarks, the gateway, produce, fetch, offsets | log, model, compress, config, rt |
//! | [`shard`] | one core: its partitions, its lanes, what a change of metadata means there | partition, log, compress, cluster, config, model, rt |
//! | [`server`] | Kafka at the socket: connections, a handler per API, errors to codes | shard, partition, log, wire, cluster, config, net, model, rt, metrics |
//! | [`node`] | start and stop of a node; its controller | server, shard, log, cluster, config, model, rt, metrics |
//! | [`client`] | a Kafka client on the same runtime, for the command line | wire, net, model, compress, rt |
//! | [`cli`] | one file per command | all but `sim` |
//! | [`manual`] | how it works, in words: files on disk, durability, ordering, decisions | - |
//! | `sim` | the simulated runtime; tests only | whatever a test needs |
//!
//! `unsafe` code is denied everywhere but in `rt/`.
//!
//! # The way of one Produce
//!
//! 0. `Connections::take` (`server/listeners.rs`) makes a connection of each accepted socket, with a
//!    frame reader, a session and a router of its own, and a task that runs it.
//! 1. [`FrameReader::next`](net::FrameReader::next) reads the request from the connection's stream
//!    and charges it to the shard's budget: a frame beyond 64 KiB as its bytes arrive, a smaller one
//!    when it is there. A full shard makes clients wait at the door.
//! 2. `Connection::read_requests` (`server/connection.rs`) hands the frame to
//!    `Router::accept` (`server/router.rs`), which reads the header and calls the handler that the
//!    API table (`wire/api.rs`) names: `handlers::produce` (`server/handlers/produce.rs`).
//! 3. For each batch, in the order of the request, `Context::locate` (`server/locate.rs`) gives the
//!    partition (one that another shard leads is NOT_LEADER_OR_FOLLOWER, with its leader), and
//!    [`Partition::produce`](partition::Partition::produce) takes the batch.
//! 4. [`AdmissionRules::admit`](partition::AdmissionRules::admit) checks size, magic, CRC,
//!    counts and, piece by piece, every record; it rewrites what the topic wants otherwise (codec,
//!    log-append time) or the header got wrong (max timestamp), in memory that it waits for
//!    (`partition/opener.rs`). What would hold the core for more than a millisecond is done on one
//!    further thread of the node (`rt/glommio/aside.rs`).
//! 5. [`PartitionLog::append`](log::PartitionLog::append) refuses or recognises sequences of
//!    idempotent producers, waits for room in segment, journal and memory, and then, in one step
//!    that neither waits nor fails: assigns offsets, copies the batch into the tail, and joins the
//!    group that the journal gathers ([`Journal::append`](log::journal::Journal::append)). The
//!    batch is now [`Accepted`](partition::Accepted). At level `memory`
//!    `State::accept` has moved the durable offset as well. Behind the request's last batch the
//!    handler returns `Reply::Later` with a future, which joins the connection's queue, and the
//!    connection's next request is read.
//! 6. The journal's writer (`log/journal/writer.rs`) writes the group: one direct write for
//!    everything that the shard has accepted since the last one. When it and every earlier write
//!    have completed, `Shared::complete` calls the function that `ShardLog::open` gave the journal,
//!    `hand_back` (`log/shard/open_log.rs`): `State::completed` (`log/partition/state.rs`) moves the
//!    durable offset, and `OpenLog::marks_changed` calls the partition (`RoleState`,
//!    `partition/role.rs`), whose high watermark follows.
//! 7. That pops whoever waited for no more from the mark's queue ([`MarkQueue`](rt::MarkQueue)). The
//!    handler's future `acknowledge`, woken by the last of its batches, asks each for its
//!    [`outcome`](partition::Accepted::outcome), and
//!    `Connection::write_responses` sends the response, in the order of the requests, and has what
//!    the request's stages took counted ([`StageTimes`](metrics::StageTimes)).
//! 8. Later and in the background: when enough has gathered, `OpenLog::request_write_back` puts the
//!    partition in the write-back queue, whose tasks (`log/shard/write_back/mod.rs`) write it to the
//!    segment file, a checkpoint (`log/shard/checkpointer.rs`) says so, and the journal may forget
//!    it.
//!
//! # The way of one CreateTopics
//!
//! 1. The handler (`server/handlers/topics.rs`) makes one [`Change`](cluster::controller::Change) of
//!    the request, with ids that it draws, and asks for it with
//!    [`Shard::change`](shard::Shard::change): a message on the controller's lane
//!    (`shard/lanes.rs`).
//! 2. The controller (`node/controller.rs`), on shard 0, takes whatever has gathered, decides each
//!    change ([`decide`](cluster::controller::decide), pure) on the image that the one before leads
//!    to, and writes the records of all at once (`node/metadata_log.rs`,
//!    `log/files/record_log.rs`).
//! 3. Every shard gets records and image on its control lane (`node/run.rs`), takes the image over,
//!    and makes the partitions that are its own in a task beside its requests, 64 in a turn
//!    (`shard/apply.rs`). Then it reports.
//! 4. When all have reported, the controller's answer goes back with what has become of each topic;
//!    one that an owner could not make is taken back first. Meanwhile the controller has decided
//!    whatever else was asked for.
//!
//! # The way of one Fetch
//!
//! `handlers::fetch` walks through the request ([`FetchWalk`](wire::FetchWalk)) and fixes what is asked
//! for ([`SessionCache`](server::fetch_session::SessionCache)), a few partitions at a time and in memory
//! that it waits for (`FetchMemory`, `server/memory/`), and reads each partition with [`Partition::fetch`](partition::Partition::fetch), which is
//! [`PartitionLog::read`](log::PartitionLog::read) below the high watermark, or the last stable offset: shares of the tail's
//! memory where it reaches far enough back, otherwise `read_cold` (`log/shard/reader.rs`), direct reads of
//! the segment with every CRC checked, and base offset and leader epoch, which the CRC leaves out,
//! against what the log knows. Memory for it is taken first (`ResponseRoom`, `server/memory/`), the
//! response is cut to what there is, and gives it back when it is written or waits for more. With too
//! little to answer, it has the partitions watched
//! ([`Partition::watch`](partition::Partition::watch)) and waits until one of them puts its place into
//! the request's [`ReadySet`](rt::ReadySet), and looks at those alone again, or for the deadline. A
//! session keeps its `ReadySet`, its watches and the partitions' slots from request to request, so that
//! partitions at rest cost nothing. The records leave as they are stored, in the pieces that hold them.

pub mod cli;
pub mod client;
pub mod cluster;
pub mod compress;
pub mod config;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod model;
pub mod net;
pub mod node;
pub mod partition;
pub mod rt;
pub mod server;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod wire;
