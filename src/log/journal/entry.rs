//! What is journaled, and how writes and journals are told apart.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::log::files::run::RunId;
use crate::model::{LeaderEpoch, NodeId, Offset, OwnerEpoch, PartitionId, ShardIndex};
use crate::rt::{BLOCK_BYTES, Buf};

/// Number of a journal write within its run, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Whose journal it is. A write of another identity is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalIdentity {
    pub node: NodeId,
    pub shard: ShardIndex,
    /// The start of the node.
    pub run: RunId,
}

/// The bytes of an entry, in order. Two pieces, as where a batch crosses from one chunk of a
/// partition's tail into the next, cost no allocation.
pub type Pieces = SmallVec<[Buf; 2]>;

/// What can be journaled. The token is handed back once the entry's writes have completed.
#[derive(Debug)]
pub enum Entry<T> {
    /// Bytes of a segment.
    Data {
        /// Whose segment.
        partition: PartitionId,
        /// The owner epoch that stood when it was appended.
        owner_epoch: OwnerEpoch,
        /// The leader epoch under which they were accepted.
        leader_epoch: LeaderEpoch,
        /// First offset of the segment.
        segment_base: Offset,
        /// Where in the segment the bytes begin.
        position: u64,
        /// The bytes.
        payload: Pieces,
        /// Handed back.
        token: T,
    },
    /// What changes a partition beside its batches.
    Event {
        /// Whose.
        partition: PartitionId,
        /// The owner epoch that stood when it was appended.
        owner_epoch: OwnerEpoch,
        /// What happens.
        event: PartitionEvent,
        /// Handed back.
        token: T,
    },
}

/// A change of a partition, in the order of the journal. Each has a number of its partition: a
/// snapshot names the last one that it includes, and replay applies only later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionEvent {
    /// Counts the partition's events, from 1.
    pub number: u64,
    /// What happens.
    pub change: EventChange,
}

/// What an event changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventChange {
    /// The log starts at this offset, unless it starts later.
    LogStart(Offset),
    /// Other segments take the place of sealed ones: which is in these bytes, at most
    /// [`EVENT_BYTES_MAX`], which the journal does not look into.
    SegmentsReplaced(Rc<[u8]>),
}

/// The longest payload of an event: no write is so short that it does not fit in.
pub const EVENT_BYTES_MAX: usize = BLOCK_BYTES;

impl PartitionEvent {
    /// Bytes of it that do not fit into the table of a write.
    pub fn payload_bytes(&self) -> usize {
        match &self.change {
            EventChange::LogStart(_) => 0,
            EventChange::SegmentsReplaced(bytes) => bytes.len(),
        }
    }
}

impl<T> Entry<T> {
    /// What to ask [`Journal::reserve`] for.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Data { payload, .. } => payload.iter().map(|buf| buf.len()).sum(),
            Self::Event { event, .. } => event.payload_bytes(),
        }
    }
}
