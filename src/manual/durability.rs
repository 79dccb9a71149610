//! What is safe when, by which rules, and what happens at a start.
//!
//! # The marks of a partition
//!
//! ```text
//! log start           segment-durable            durable = high watermark             log end
//!     |  in segment files   |  in the journal and memory   |  accepted, not yet safe:    |
//!     |                     |                              |  never shown, not answered  |
//! ```
//!
//! | mark | everything below… |
//! |---|---|
//! | log start offset | …may be gone; the first offset that may be read |
//! | segment-durable offset | …is in segment files: durably, once a checkpoint names it, so that the journal may forget it |
//! | durable offset | …is as safe as the level promises; with one replica the high watermark and the last stable offset |
//! | log end offset | …has been assigned |
//!
//! Those are for readers. For its files a log has three byte positions more (`log/partition/state.rs`), which
//! need not lie between two batches in the case of *written back*:
//!
//! ```text
//!  written back              journaled               completed              log end
//!    |  safely in the journal,   |  in journal writes    |  accepted, on its way   |
//!    |  to be written back       |  not flushed yet      |  to the journal         |
//! ```
//!
//! | position | everything below… |
//! |---|---|
//! | written back | …is in segment files: durably, once a checkpoint names it; the last batch that ends at or below it ends at segment-durable |
//! | journaled | …survives power loss in the journal, at whatever level, so that it may move |
//! | completed | …is in completed journal writes; at level `fsync` that is journaled, below it a flush lies between |
//!
//! They stand in this order: written back ≤ journaled ≤ completed. A checkpoint names written back and
//! segment-durable: replay begins at the block of the one, the walk at the other.
//!
//! The order of both is checked at every change, in release builds too (`State::check`): log start ≤
//! durable ≤ log end, segment-durable ≤ durable; and at write-backs, rolls and events also that
//! segments leave no gaps and end where the log does. A violation takes that partition offline, with an
//! error that names it, never the process. Its entries no longer hold the journal up: what no segment has of
//! it is there until the ring comes round, or in `shard-N/journal.run-R` after a start before that.
//!
//! # Levels
//!
//! | `corelane.durability` | acknowledged when | survives kill -9 | kernel crash | power loss |
//! |---|---|---|---|---|
//! | `fsync` (default) | the journal write is durable: completed with RWF_DSYNC, or flushed behind | yes | yes | yes, if the device honours flushes |
//! | `written` | the direct journal write has completed | yes | yes | only where the device's cache is not volatile |
//! | `memory` | the batch is in the shard's memory; it is written within `corelane.flush.ms` (100) | no | no | no |
//!
//! One level holds for the node: a shard's journal is one stream, and an entry that was flushed must
//! not stand behind one that was not.
//!
//! Below `fsync` nothing reaches a segment before a flush of the journal, so that a segment never
//! knows more than the journal.
//!
//! **Write-backs are plain at every level.** What they write is in the journal until a checkpoint names
//! it, and before that all of it is made durable at once: file by file or, where there are many, with a
//! sync of their file system (`log/shard/write_back/barrier.rs`).
//!
//! **How a write becomes durable** depends on the disk, which is looked at when the broker starts
//! ([`rt::Disk`](crate::rt::Disk)); its start, `corelane info` and `corelane.durable.writes`, which may force one
//! way, tell which. Where the cache is write-through, or there is FUA, or the disk is unknown, writes go out
//! with RWF_DSYNC and are durable when they complete. Where the cache is volatile and there is no FUA, the kernel
//! would flush behind each of them, on whatever core took the interrupt. There the journal's writes
//! go out plain, and one fdatasync per file with completed writes follows; acknowledged is the flushed
//! prefix (rule 12, `log/journal/flushes.rs`). Every other durable write (checkpoints, run, metadata)
//! is a plain one and a flush of its file, both awaited.
//!
//! **Errors.** A failed write or flush, of a file or of the names in a directory, is final: the log
//! directory goes offline on every shard, what was not yet acknowledged gets KAFKA_STORAGE_ERROR, and
//! nothing is acknowledged until the next start. A failed or corrupt *read* concerns the partition
//! that was read. A full disk, or quota, is no failure of a write: room is reserved before a batch is accepted, so a full
//! disk refuses batches with KAFKA_STORAGE_ERROR (retriable), reads and deletions go on, and writing
//! goes on when there is room again.
//!
//! # The rules
//!
//! Each place that enforces one asks [`holds`](crate::log::rules::holds), a constant `true` outside
//! of tests. With the cargo feature `planted` a test leaves one out, and must be seen to lose
//! something: `tests/simulation.rs` leaves out each variant of [`Rule`](crate::log::rules::Rule) in
//! turn, in random lives or in a scenario made for it.
//!
//! | | rule | in | planted as |
//! |---|---|---|---|
//! | 1 | The journaled position is the end of the last whole batch in the contiguous, flushed prefix of the journal. Acknowledgements wait for that prefix; nothing else on disk (segment, roll, index, snapshot, checkpoint) describes anything beyond it | `log/journal/state.rs`, `log/partition/state.rs`, `log/partition/write_back_plan.rs`, `log/shard/append.rs`, `log/shard/checkpointer.rs` | `AckWaitsForDurable`, `AckWaitsForPrefix`, `JournaledBeforeWriteBack` |
//! | 2 | Write-backs end on a block boundary, unless nothing is accepted beyond. After such an unfinished block the next entry repeats that block's beginning, as does each partition's first entry of a run. Write-backs of one partition take turns | `log/partition/write_back_plan.rs`, `log/partition/state.rs`, `log/shard/write_back/mod.rs` | `WriteBacksEndOnBlocks`, `RepeatUnfinishedBlock`, `WriteBacksDoNotOverlap` |
//! | 3 | The journal keeps every entry that reaches beyond what is written back in a checkpoint that was flushed. Replay writes nothing below the block of the written-back position | `log/shard/checkpointer.rs`, `log/recovery/overlay.rs` | `TrimKeepsUnwritten`, `ReplayNotBelowMark`, `CheckpointFlushed` |
//! | 4 | A journal write has checksums, its predecessor's checksum, and what was flushed before it. Behind a break the rest of the ring is searched: if anything says that the broken write was flushed, it is rot, and its partitions go offline; otherwise the tail was torn | `log/journal/format.rs`, `log/journal/scan/mod.rs`, `log/journal/scan/sweep.rs` | `JournalChecksums`, `RotIsNotTorn` |
//! | 5 | Runs are ordered. Writes and checkpoints of any run but the committed one are void, and so are changes of a checkpoint that do not follow their base | `log/files/run.rs`, `log/journal/scan/reader.rs`, `log/files/checkpoint_slots.rs` | `RunCheck`, `ChangesNameTheirBase` |
//! | 6 | A start flushes journals, checkpoints, `run` and the metadata log before it reads them, as a power cut could still take what a killed process left there. Recovery writes segments, never journals, flushes them and their names all at once, then writes checkpoints that leave the newest of the committed run alone, and commits the new run last. Of each partition one journal is read, that of its owner by the metadata. Checkpoints and entries carry the owner epoch that stood when they were written; those of a partition's earlier owners do not count | `log/journal/scan/reader.rs`, `log/recovery/mod.rs`, `log/recovery/shard_part.rs`, `log/recovery/ownership.rs`, `log/recovery/barrier.rs`, `log/files/checkpoint_slots.rs` | `NewestOwnerSpeaks`, `EarlierEntriesVoid`, `FlushBeforeRecovery`, `RecoveryFlushesFiles`, `RecoveryCommitsRunLast`, `RecoveryKeepsNewestCheckpoint` |
//! | 7 | Whoever writes a file holds its lock, on the descriptor that writes. A start waits for it: writes of a killed process may still be in flight | `log/files/lock.rs` | `Locks` |
//! | 8 | A log start is in the journal, durably and in two writes, before it is answered or a file is unlinked; a checkpoint names the one that it includes | `log/shard/sealed/log_start.rs`, `log/partition/snapshot.rs` | `LogStartJournaled`, `CheckpointNamesFinalMarks` |
//! | 9 | A metadata change is durable before it is applied. Entries and directories of another topic id are left alone, whatever the topic's name | `log/files/record_log.rs`, `node/controller.rs`, `log/files/partition_dirs.rs`, `log/recovery/found_dirs.rs`, `log/recovery/shard_part.rs` | `TopicIdCheck`, `MetadataDurableFirst` |
//! | 10 | Write-backs, and the cuts of segments that are sealed, are durable before a checkpoint names them; recovery cuts again. A segment begins in a file that was prepared under a neutral name; it gets that of its base offset once the journal has all before it, and the directory is fsynced before anything is written to it | `log/shard/write_back/barrier.rs`, `log/shard/write_back/mod.rs`, `log/segment/open_segment.rs`, `log/recovery/verify.rs` | `WriteBacksDurableFirst`, `NameAfterJournaled`, `NameDurable` |
//! | 11 | A batch is accepted only when its segment has reserved its space, durably from the first write-back of the partition on, and the journal can hold it. (Before that write-back a power cut may take the first 256 KiB or so that were reserved; where the disk is then full, the start waits for room.) Room in the checkpoints is taken before anything is made that they must hold: a partition, a segment, a producer | `log/shard/append.rs`, `log/journal/state.rs`, `log/partition/checkpoint_content.rs` | `SpaceReserved` |
//! | 12 | A flush covers only writes of its own file that had completed when it was submitted; it counts when all earlier ones have succeeded. A failed one is final, of a full disk too, and for the whole node: no later success makes up for it | `log/journal/flushes.rs`, `rt/ring/file.rs` | `AckWaitsForFlush`, `FlushCoversCompleted`, `FlushEveryFile`, `FlushFailureIsFinal` |
//! | 14 | What a rewrite has made of sealed segments is durable before the event of the journal that puts it in their place; a replay does the same as the live log. The old files stay until a checkpoint includes that, so that rot of the event loses nothing. Readers hold a segment to what is known of it: gaps are right only where it is not dense | `log/shard/sealed/swap.rs`, `log/partition/snapshot.rs`, `log/recovery/finish.rs`, `log/segment/walk.rs` | `ReplacementDurableFirst`, `ReplayReplacesSegments`, `ReplacedFilesStay`, `GapsOnlyWhereNotDense` |
//!
//! The simulator (`src/sim`) runs the same code on a disk that loses, tears, reorders and delays what
//! was not made durable, with and without FUA, whose writes are made durable in either way, and cuts power or kills the process at any I/O step,
//! inside recovery as well. After each life, what is there must be every acknowledged batch, in order
//! and byte for byte, behind them nothing but a first part of the unacknowledged ones, and producers
//! exactly as those batches left them (`log/simulation`). A whole node runs in it too (`sim/node`):
//! several shards, server and handlers, with the project's client as load on a network that delays,
//! parts and resets per direction; it is killed, cut off from power and paused, on disks that
//! fill up or are slow, with clocks that jump, at each level, and what its clients
//! were told is compared with what they find. `tests/crash.rs` does the same to the real binary with
//! `kill -9`.
//!
//! # What a start does
//!
//! 1. Takes the lock of the data directory (waiting up to 30 s for a predecessor), compares
//!    `node.id` with `meta.properties`, reads `metadata/log`.
//! 2. Reads `run`: which run is committed and how many shards, hence journals, it had. Both slots
//!    damaged refuses the start, and so does none committed where metadata knows topics.
//!    A partition's directory whose topic the metadata neither knows nor has deleted of late
//!    refuses it, too: metadata was lost, or the directory is another broker's.
//! 3. Reads each of those shards' newest whole checkpoint of that run; without one, refuses. Waits for the
//!    locks of its journal's files, and flushes them. Renames directories of topics that are no more, by one
//!    listing.
//!
//! So far shard 0 alone. It tells each shard which partitions it owns from now on, what the checkpoints say of
//! them, and which journals they need. Every shard does the next four steps and its share of the eighth on its
//! own core and in its own memory, and the ninth waits for all of them:
//!
//! 4. Looks at the directories. One that should be there, because something of the partition was written back, and is not refuses the start; an empty one in
//!    its place takes the partition offline. Where nothing was written back, the journal makes it anew.
//! 5. One ordered pass over the journals that its partitions need, mostly one, each from where its checkpoint
//!    says: entries of earlier owners, and of partitions that another shard owns from now on, are passed
//!    over, all others are laid over the
//!    segments, each partition from the block of its written-back position on, and events are applied. A
//!    gap, or rot that no later entry makes good, takes the partition offline, with all that is whole
//!    before it in its segments, and the journals are kept as `shard-N/journal.run-R`. A journal file that
//!    is missing, or that ends before a place that must have been prepared, refuses the start: a torn
//!    tail never looks like that.
//! 6. Segment files that were found shorter than what was written to them are judged, now that it is
//!    known where the logs start: before the start they may be gone. Otherwise a sealed one that is
//!    missing or short takes its partition offline until it is put back, and one that is written on
//!    refuses the start. What the journals have of those that lack files is laid over the rest only then,
//!    in a pass for them alone, so that no file grows behind a hole.
//! 7. Per partition: writes what is left, then walks from segment-durable, every CRC checked, to the
//!    last whole batch; counts batches behind the checkpoint's end for producers, leader epochs and
//!    indexes; cuts the file there; removes segment files that are not part of the log. A segment that
//!    had not got its name is in a file that was prepared, with the space that was reserved for it; those
//!    that are left go. A segment
//!    before the log start may be gone, and counts only behind the checkpoint's end; a log without
//!    records goes on in a new segment. The directory of a partition that has nothing is removed. All that
//!    was written is flushed.
//! 8. Writes the next run's checkpoints beside the newest of the committed one, and makes the files of
//!    its journals where they are not there.
//! 9. Writes the next run into `run`. Only this counts; interrupted anywhere before, or failed on any
//!    shard, a start begins again to the same result.
//! 10. Proposes the start to the controller, which records it in the metadata: raised leader epochs unless the stop was clean, new owners
//!     where the number of shards has changed. Then shards open, told of the epochs (nothing more is
//!     written for them), and connections are accepted.
//!
//! The work is bounded by the journals, a listing of the data directory and one of each partition that
//! has records, not by the amount of data.
//!
//! # Known limits
//!
//! - **Rot in the last window.** When the newest journal writes are damaged and nothing behind them says
//!   that they were flushed, they look like a torn tail, and their records are gone without an
//!   error. The window is short: a shard that has been idle for 100 ms writes a closing record that
//!   says so, and a clean stop does.
//! - **Rot under an unreadable entry table.** Whose records were lost cannot be told, so every partition
//!   of that journal's shard for which no later entry is replayed goes offline. An offline partition stays so over
//!   restarts; there is no command yet that repairs it. Its files and the journals are kept. A log
//!   start is written twice; one that is lost all the same, and that later records follow, is told
//!   by a warning alone. Each start logs its reason once,
//!   `corelane topic describe` shows it as OFFLINE, and its topic can be deleted.
//! - **Rot in a segment** is found when it is read: each batch's CRC must hold, its base offset must be
//!   the one at which the batch before ends, and its leader epoch the one that the log knows there.
//!   Batches before and behind a damaged one are read; the read that begins at it fails with
//!   KAFKA_STORAGE_ERROR, nothing wrong is served, and nothing is passed over. So does a read of a
//!   segment whose file is missing. The error is logged once for each place. There is one replica, so
//!   there is nothing to heal it from.
//! - **The device's word.** RWF_DSYNC and fdatasync are as good as the device's flush.
//! - **Fewer shards than before** leave the journals of the others on disk, unused (512 MiB each).
//! - **One directory.** The loss of the disk is the loss of the data: replication does not exist yet.
