//! How a journal write lies on disk.
//!
//! ```text
//! | header 96 | inline payload | entry table, 52 each | zeros to a block | whole blocks |
//! ```
//!
//! Payload that is not worth a copy goes as whole blocks behind the rest: of such an entry the
//! bytes before the first block boundary *of its segment* and those after the last one are inline,
//! the blocks between follow in the order of the table. All numbers are little-endian.

use crate::log::files::codec::Fields;
use crate::log::files::run::RunId;
use crate::model::{
    LeaderEpoch, NodeId, Offset, OwnerEpoch, PartitionId, PartitionIndex, ShardIndex, TopicId,
};
use crate::rt::BLOCK_BYTES;

use super::JournalIdentity;

pub(super) const HEADER_BYTES: usize = 96;
pub(super) const ENTRY_BYTES: usize = 52;
const MAGIC: u32 = u32::from_le_bytes(*b"CLJW");
const VERSION: u16 = 3;
const CHECKSUM_AT: usize = 84;

const KIND_DATA: u8 = 1;
const KIND_LOG_START: u8 = 2;
const KIND_SEGMENTS_REPLACED: u8 = 3;
// 4 is for a truncation.
const FLAG_BLOCKS: u8 = 1;

/// What a write is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    /// Carries entries.
    Entries,
    /// Says that everything before it was flushed.
    Closing,
    /// The last write of a clean stop.
    Clean,
}

/// The fields of a write's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: WriteKind,
    pub identity: JournalIdentity,
    pub sequence: u64,
    /// Where in the ring it was meant to lie.
    pub address: u64,
    /// Every write below was flushed when this one was made.
    pub flushed_end: u64,
    pub entry_count: u32,
    pub inline_bytes: u32,
    pub block_bytes: u32,
    /// The header checksum of the write before.
    pub previous_checksum: u32,
    pub payload_checksum: u32,
}

impl Header {
    /// Bytes of header, inline payload and table, without padding.
    pub fn front_bytes(&self) -> usize {
        HEADER_BYTES + self.inline_bytes as usize + self.table_bytes()
    }

    pub fn table_bytes(&self) -> usize {
        self.entry_count as usize * ENTRY_BYTES
    }

    /// Bytes of the write as a whole, in blocks.
    pub fn write_bytes(&self) -> usize {
        self.front_bytes().next_multiple_of(BLOCK_BYTES) + self.block_bytes as usize
    }

    /// Writes the header over `table` into the front of `out` and returns its checksum.
    pub fn encode(&self, table: &[u8], out: &mut [u8; HEADER_BYTES]) -> u32 {
        out.fill(0);
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&self.kind.code().to_le_bytes());
        out[8..12].copy_from_slice(&self.identity.node.0.to_le_bytes());
        out[12..14].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.identity.run.number.to_le_bytes());
        out[24..40].copy_from_slice(&self.identity.run.id.to_le_bytes());
        out[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        out[48..56].copy_from_slice(&self.address.to_le_bytes());
        out[56..64].copy_from_slice(&self.flushed_end.to_le_bytes());
        out[64..68].copy_from_slice(&self.entry_count.to_le_bytes());
        out[68..72].copy_from_slice(&self.inline_bytes.to_le_bytes());
        out[72..76].copy_from_slice(&self.block_bytes.to_le_bytes());
        out[76..80].copy_from_slice(&self.previous_checksum.to_le_bytes());
        out[80..84].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = header_checksum(out, table);
        out[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// The header at the front of `bytes` and the checksum it claims, not yet compared: that takes
    /// the table, see [`is_intact`].
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        if fields.u32()? != MAGIC || fields.u16()? != VERSION {
            return None;
        }
        let kind = WriteKind::from_code(fields.u16()?)?;
        let node = NodeId(fields.i32()?);
        let shard = ShardIndex(fields.u16()?);
        fields.u16()?;
        let run = RunId {
            number: fields.u64()?,
            id: fields.u128()?,
        };
        let header = Self {
            kind,
            identity: JournalIdentity { node, shard, run },
            sequence: fields.u64()?,
            address: fields.u64()?,
            flushed_end: fields.u64()?,
            entry_count: fields.u32()?,
            inline_bytes: fields.u32()?,
            block_bytes: fields.u32()?,
            previous_checksum: fields.u32()?,
            payload_checksum: fields.u32()?,
        };
        let checksum = fields.u32()?;
        // Lengths that no sum below overflows.
        let sensible = header.entry_count <= u32::MAX / 64
            && (header.block_bytes as usize).is_multiple_of(BLOCK_BYTES);
        sensible.then_some((header, checksum))
    }
}

/// Whether header and table carry the checksum that the header claims.
pub(super) fn is_intact(header_bytes: &[u8], table: &[u8]) -> bool {
    let claimed = header_bytes
        .get(CHECKSUM_AT..)
        .and_then(|rest| Fields(rest).u32());
    header_bytes.len() == HEADER_BYTES && claimed == Some(header_checksum(header_bytes, table))
}

fn header_checksum(header: &[u8], table: &[u8]) -> u32 {
    let (before, rest) = header.split_at(CHECKSUM_AT);
    let after = rest.get(4..).unwrap_or_default();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(before), after);
    crc32c::crc32c_append(checksum, table)
}

impl WriteKind {
    fn code(self) -> u16 {
        match self {
            Self::Entries => 1,
            Self::Closing => 2,
            Self::Clean => 3,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        [Self::Entries, Self::Closing, Self::Clean]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// One row of a write's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryHead {
    Data {
        partition: PartitionId,
        owner_epoch: OwnerEpoch,
        leader_epoch: LeaderEpoch,
        segment_base: Offset,
        position: u64,
        len: u32,
        /// Whether its whole blocks lie behind the inline part.
        blocks: bool,
    },
    Event {
        partition: PartitionId,
        owner_epoch: OwnerEpoch,
        number: u64,
        change: ChangeHead,
    },
}

/// What a row says of an event's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeHead {
    LogStart(Offset),
    /// So many bytes are inline.
    SegmentsReplaced {
        len: u32,
    },
}

impl EntryHead {
    /// Whose it is, and the owner epoch that stood then.
    pub fn owner(&self) -> (PartitionId, OwnerEpoch) {
        match *self {
            Self::Data {
                partition,
                owner_epoch,
                ..
            }
            | Self::Event {
                partition,
                owner_epoch,
                ..
            } => (partition, owner_epoch),
        }
    }

    pub fn encode(&self, table: &mut Vec<u8>) {
        let (kind, flags, epoch, base, position, len) = match *self {
            Self::Data {
                leader_epoch,
                segment_base,
                position,
                len,
                blocks,
                ..
            } => {
                let flags = if blocks { FLAG_BLOCKS } else { 0 };
                (KIND_DATA, flags, leader_epoch, segment_base, position, len)
            }
            Self::Event { number, change, .. } => {
                let (kind, offset, len) = match change {
                    ChangeHead::LogStart(log_start) => (KIND_LOG_START, log_start, 0),
                    ChangeHead::SegmentsReplaced { len } => {
                        (KIND_SEGMENTS_REPLACED, Offset::ZERO, len)
                    }
                };
                (kind, 0, LeaderEpoch::NONE, offset, number, len)
            }
        };
        let (partition, owner_epoch) = self.owner();
        table.extend_from_slice(&[kind, flags, 0, 0]);
        table.extend_from_slice(&epoch.0.to_le_bytes());
        table.extend_from_slice(partition.topic.0.as_bytes());
        table.extend_from_slice(&partition.index.0.to_le_bytes());
        table.extend_from_slice(&len.to_le_bytes());
        table.extend_from_slice(&base.0.to_le_bytes());
        table.extend_from_slice(&position.to_le_bytes());
        table.extend_from_slice(&owner_epoch.0.to_le_bytes());
    }

    /// The row at the front of `fields`; none when it is of no known kind.
    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (kind, flags) = (fields.u8()?, fields.u8()?);
        fields.u16()?;
        let leader_epoch = LeaderEpoch(fields.i32()?);
        let topic = TopicId(uuid::Uuid::from_slice(fields.bytes(16)?).ok()?);
        let index = PartitionIndex(fields.i32()?);
        let partition = PartitionId { topic, index };
        let len = fields.u32()?;
        let base = Offset(fields.i64()?);
        let position = fields.u64()?;
        let owner_epoch = OwnerEpoch(fields.u32()?);
        let event = |change| Self::Event {
            partition,
            owner_epoch,
            number: position,
            change,
        };
        match kind {
            KIND_DATA => Some(Self::Data {
                partition,
                owner_epoch,
                leader_epoch,
                segment_base: base,
                position,
                len,
                blocks: flags & FLAG_BLOCKS != 0,
            }),
            KIND_LOG_START => Some(event(ChangeHead::LogStart(base))),
            KIND_SEGMENTS_REPLACED => Some(event(ChangeHead::SegmentsReplaced { len })),
            _ => None,
        }
    }
}

/// How the bytes of an entry at a segment position divide when its blocks go separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockSplit {
    pub head: usize,
    pub blocks: usize,
    pub tail: usize,
}

impl BlockSplit {
    pub fn of(position: u64, len: usize) -> Self {
        let into_block = (position % BLOCK_BYTES as u64) as usize;
        let head = ((BLOCK_BYTES - into_block) % BLOCK_BYTES).min(len);
        let tail = (len - head) % BLOCK_BYTES;
        Self {
            head,
            blocks: len - head - tail,
            tail,
        }
    }
}
