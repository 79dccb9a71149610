//! What the [state](super::state) of a partition is given, and what it asks its caller to do.

use crate::log::files::partition_files::SegmentId;
use crate::log::journal::Pieces;
use crate::log::partition::snapshot::Snapshot;
use crate::log::partition::write_back_plan::WriteBackPlan;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::SegmentIndex;
use crate::log::segment::position::{Boundary, Position};
use crate::model::{LeaderEpoch, Offset, OwnerEpoch};
use crate::rt::Buf;

/// What a log is restored from, beside what metadata says of it.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where it stands.
    pub snapshot: Snapshot,
    /// The active segment's index, of what was walked of it.
    pub index: SegmentIndex,
}

/// Memory that a batch needs before it can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingMemory {
    /// Bytes for which there is no chunk.
    pub bytes: usize,
    /// The unfinished block at the log's end that only its segment file has: where, and bytes used.
    pub block: Option<(Position, usize)>,
}

/// What to journal of a batch that was accepted.
pub struct AcceptedEntry {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// The log end behind it.
    pub end: Boundary,
    /// The owner epoch under which it was.
    pub owner_epoch: OwnerEpoch,
    /// The epoch with which it was stamped.
    pub leader_epoch: LeaderEpoch,
    /// Where in its segment the entry begins.
    pub from: Position,
    /// The entry's bytes.
    pub payload: Pieces,
}

/// What to write to a segment file.
pub struct WriteBack {
    /// Where.
    pub plan: WriteBackPlan,
    /// Whole blocks, the last one padded with zeros; none when only the seal is missing.
    pub pieces: Vec<Buf>,
}

/// A segment that is whole in its file now.
pub struct SealedSegment {
    /// What is known of it.
    pub facts: SegmentFacts,
    /// Its index, whose files lack what is beyond `indexed`.
    pub index: SegmentIndex,
    /// Entries that its index files have.
    pub indexed: (usize, usize),
    /// Kafka's producer snapshot as of its end.
    pub producers: Vec<u8>,
}

/// Entries of the active segment's index that its files are to get.
pub struct IndexGrowth {
    /// Whose entries these are.
    pub segment: SegmentId,
    /// Entries, of the offset and the time index, that the files have.
    pub had: (usize, usize),
    /// Entries that they have afterwards.
    pub now: (usize, usize),
}
