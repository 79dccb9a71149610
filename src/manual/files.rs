//! Every file on disk.
//!
//! A node has exactly one data directory (`log.dirs`). `N` is a shard, `TOPIC-P` a partition, and a
//! segment's files are named by the 20 digits of its base offset; behind a rewrite, its generation
//! stands between them and the extension.
//!
//! | path | what | written | by |
//! |---|---|---|---|
//! | `.lock` | empty; its lock says that a process uses the directory | once | [`crate::node`] |
//! | `meta.properties` | Kafka's: version 1, `cluster.id`, `node.id`, `directory.id` | at the first start | [`crate::node`] |
//! | `run` | the committed run, in two slots | at each start, last | [`crate::log::files::run`] |
//! | `metadata/log` | the cluster's metadata as a log of records | at every change, durable before any shard applies it | [`crate::log::files::record_log`] |
//! | `shard-N/journal/0000` … | the shard's journal, a ring of files of one size | every group commit | [`crate::log::journal`] |
//! | `shard-N/journal.run-R/` | the journal of run R, renamed: it holds what could not be recovered | at a start that takes a partition offline | `log/recovery/journals.rs` |
//! | `shard-N/checkpoint-0`, `-1` | the last two checkpoints | after 256 MiB of journal, when its space runs short, at a clean stop | [`crate::log::files::checkpoint_slots`] |
//! | `TOPIC-P/partition.metadata` | Kafka's: version 0 and the topic id | with the directory, by the partition's first append | `log/shard/open_log.rs` |
//! | `TOPIC-P/….log` | record batches, as in Kafka | by write-back from the journal | `log/shard/write_back/mod.rs` |
//! | `TOPIC-P/N.prepared` | zeros: space for a segment to come | before the segment begins; renamed to its `.log` when the journal has all before it, removed at a clean stop | [`crate::log::segment`] |
//! | `TOPIC-P/….G.log` and its indexes | what a rewrite has made of sealed segments, as generation G | as a whole, durable before the journal says that it is part of the log; what it replaces is removed behind the next checkpoint | `log/shard/sealed/swap.rs` |
//! | `TOPIC-P/….index` | offset index, Kafka's format | entries at checkpoints, the rest when the segment is sealed; what a power cut took is walked again, at the latest then | [`crate::log::segment::index`] |
//! | `TOPIC-P/….timeindex` | time index, Kafka's format | with the offset index | [`crate::log::segment::index`] |
//! | `TOPIC-P/….snapshot` | Kafka's producer snapshot, named by the offset behind the segment | when a segment is sealed | [`crate::log::partition::producers`] |
//! | `TOPIC-P.ID-delete/` | the directory of a deleted topic, renamed; `ID` is the topic id | removed after `file.delete.delay.ms` | `log/files/partition_dirs.rs` |
//! | `….tmp`, `metadata/log.new` | the next content of a file that is replaced as a whole | renamed over it | [`crate::log::files::small_file`], [`crate::log::files::record_log`] |
//! | `demo_ID/` | what `corelane demo` makes, a data directory of its own within | removed when all was verified | `cli/demo` |
//!
//! Not written: Kafka's `leader-epoch-checkpoint` (the leader epochs are in the checkpoint, which has a
//! checksum, and in the batches), `.txnindex` (no transactions yet), `recovery-point-offset-checkpoint`
//! and its relatives. Creations and renames are followed by an fsync of the directory wherever
//! something acknowledged hangs on them. A partition's own directory is made by its first append, and
//! made durable by its first write-back: before that, the journal has all that is in it, and a start
//! makes it again. A partition without records has none.
//!
//! Numbers are little-endian in `run`, `metadata/log`, the journal and the headers of checkpoints;
//! they are big-endian in the content of checkpoints and in every file whose format is Kafka's.
//! Checksums are CRC32C.
//!
//! # Segment
//!
//! ```text
//! 00000000000000004711.log
//! | batch | batch | batch | batch | 0 0 0 0 ...          while it is appended to
//!                                 ^ end    ^ reserved
//! | batch | batch | batch |                              sealed: cut to its exact length
//! ```
//!
//! Space is reserved ahead with fallocate: 256 KiB at first, then in steps that double up to 64 MiB.
//! What was reserved and not written reads as zeros, which are no batch; a clean stop cuts it off.
//! Segment files are never recycled, because an old batch could look like the next one. A segment is
//! sealed when its last bytes are written back: cut, fsynced, its indexes finished. Kafka's own
//! `DumpLogSegments` reads sealed segments, and after a clean stop the active one, too
//! (`scripts/dump-log-segments`).
//!
//! A segment is named by its base offset and its generation, 0 as it was appended to. What a rewrite makes
//! of sealed segments has a higher one than any of them, and need not be *dense*: where batches were
//! dropped there are gaps, also at its ends. Whether it is dense is in the checkpoint, and readers hold a
//! segment to it. Nothing rewrites segments yet but the simulation.
//!
//! Batches are stored as they came. The broker fills in two fields, base offset and partition leader
//! epoch, which lie outside the CRC of the batch; with another `compression.type` or with
//! log-append time it makes a new batch.
//!
//! # Journal
//!
//! ```text
//! 0000                 0001                 0002
//! | w3 | w4 |  w5  |--| w6 | ... free ...   | w0 | w1 |  w2  |    a ring: oldest kept is w0
//! ```
//!
//! `corelane.journal.bytes` (512 MiB) in files of 64 MiB, or of a quarter where that is less. They
//! are filled with zeros before their first use, 32 MiB of them before the shard serves. A write
//! begins on a fresh 4 KiB block, is at most 1 MiB long, and never crosses from one file into the
//! next. A ring address counts bytes over all laps of a run; each run begins at the front of the
//! first file.
//!
//! ```text
//! one write
//! | header 96 | inline payload | entry table, 52 each | zeros to a block | whole blocks |
//! ```
//!
//! | header at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `CLJW` |
//! | 4 | 2 | version, 3 |
//! | 6 | 2 | kind: 1 entries, 2 closing (all before was flushed), 3 end of a clean stop |
//! | 8 | 4 | node |
//! | 12 | 2 + 2 | shard, zeros |
//! | 16 | 8 + 16 | run: number, random id |
//! | 40 | 8 | sequence within the run, from 0 |
//! | 48 | 8 | ring address it was written to |
//! | 56 | 8 | every write below this sequence was flushed when this one was made |
//! | 64 | 4 + 4 + 4 | number of entries, inline bytes, bytes of whole blocks |
//! | 76 | 4 | header checksum of the write before |
//! | 80 | 4 | checksum of the payload, inline and blocks |
//! | 84 | 4 + 8 | checksum of header and table, zeros |
//!
//! | entry at | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 data, 2 log start, 3 segments replaced; 4 is for truncations |
//! | 1 | 1 + 2 | flags (1: its whole blocks lie behind the table), zeros |
//! | 4 | 4 | leader epoch; −1 for an event |
//! | 8 | 16 + 4 | topic id, partition |
//! | 28 | 4 | length of the payload |
//! | 32 | 8 | base offset of the segment; for a log start, the offset |
//! | 40 | 8 | byte position in the segment; for an event, its number: 1, 2, … of the partition |
//! | 48 | 4 | owner epoch |
//!
//! The payload of segments that are replaced is inline, at most 4 KiB: which (a count, 8 + 4 each: base
//! offset and generation), and what takes their place (a count, 61 each, as in the checkpoint); big-endian.
//!
//! An entry of data is bytes of a segment, at the position they will have there: replay is laying
//! entries over files. Long entries (64 KiB and more of whole blocks) are written from where they
//! lie in memory. Their bytes before the first block boundary of the *segment* and behind the last
//! one are inline, the blocks follow in the order of the table.
//!
//! # Checkpoint
//!
//! Two files. A whole checkpoint, the base, goes to them in turns; what has changed since goes behind the
//! newest base, until such changes take as much as it does, or 32 KiB. What belongs to the newest
//! checkpoint of the committed run is never overwritten. Room is reserved in steps of 256 KiB before what needs it is made (a partition, a
//! segment, a producer), so that a checkpoint can be written on a full disk.
//!
//! ```text
//! | block 0: header 64, zeros | content, zeros to a block | header of a change | content | ...
//!
//! header   `CLCP`  version 4  run 8 + 16  sequence 8  sequence of its base 8  content bytes 8
//!          content checksum 4  checksum of the header 4
//! content  version 4  journal start 64  count 4, then per partition its snapshot: length 4,
//!          version 3  topic id 16  index 4  name  owner epoch 4  offline?  log start 8  last event 8
//!          segment-durable 24  written back 8 + 8  end 24
//!          leader epochs: count, (epoch 4, start offset 8) each
//!          segments: count, 61 each, the active one last
//!          producers: length, then all remembered batches of each
//! journal start (little-endian)
//!          run 8 + 16  sequence 8  flushed end 8  address 8  file bytes 8  files 4
//!          checksum of the write before 4
//! ```
//!
//! `log/partition/snapshot.rs` has every field. A boundary of 24 bytes is an offset, a segment, and a byte
//! in it. A snapshot describes the log as of its `end`, which was in the journal before the checkpoint was
//! written, and includes every event up to the last one that it names; recovery goes on from exactly
//! there. The content of a change has the same form: its journal start and its snapshots take the place of
//! those before. A change counts when it names the base, its sequence is the next one, and all before it
//! are whole: what older bases had behind them is void. A later build reads the snapshots and the headers
//! of this one (`tests/fixtures/partition-snapshot-3.hex` and `tests/fixtures/checkpoint-slot-2.hex` are kept).
//!
//! # Run
//!
//! ```text
//! | block 0: slot | block 1: slot |     slot = `CLRN`  version 4  number 8  id 16  shards 2
//!                                              zeros 10  checksum 4
//! ```
//!
//! The whole slot with the greater number is the committed run. A start writes the other one.
//!
//! # Record log
//!
//! ```text
//! | header 48, record, zeros to a block | header 48, record, zeros to a block | ...
//!
//! header   `CLRL`  version 4  log id 8  index 8  record bytes 4  record checksum 4
//!          zeros 12  checksum of the header 4
//! ```
//!
//! One record is what became durable together: metadata records (`cluster/records`, format version 2),
//! each behind its length (4 bytes). When the log is twice as long as a snapshot of the image, and at
//! least 4 MiB, a new one that begins with a snapshot replaces it. A
//! reserve of 512 KiB is kept for deletions. Behind each record, once it is durable, goes an empty
//! one, its seal, and only then is the change applied and answered. So a torn record has no seal and
//! was never answered: it is ignored. A damaged one with anything behind it refuses the start.
