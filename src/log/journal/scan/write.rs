//! One write read back: whether it is whole, and its entries. Pure.

use crate::log::files::codec::Fields;
use crate::log::journal::format::{
    BlockSplit, ChangeHead, EntryHead, HEADER_BYTES, Header, is_intact,
};
use crate::log::journal::{EventChange, PartitionEvent, Pieces, Sequence};
use crate::log::rules::{Rule, holds};
use crate::model::{LeaderEpoch, Offset, OwnerEpoch, PartitionId};
use crate::rt::Buf;

/// A whole write of the journal.
#[derive(Debug)]
pub struct ScannedWrite {
    /// Its number.
    pub sequence: Sequence,
    /// What it carries; none for a closing record.
    pub entries: Vec<ScannedEntry>,
}

/// An entry as it was appended, or a part of one.
#[derive(Debug)]
pub enum ScannedEntry {
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
        /// The bytes, in order.
        payload: Pieces,
    },
    /// What changes a partition beside its batches.
    Event {
        /// Whose.
        partition: PartitionId,
        /// The owner epoch that stood when it was appended.
        owner_epoch: OwnerEpoch,
        /// What happens.
        event: PartitionEvent,
    },
}

impl ScannedEntry {
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
}

/// How many entries the journal write at the front of `bytes` has, and whether its checksums hold;
/// none where there is no whole write. It is read whether they hold or not: for fuzzing, which
/// would hardly ever get past them.
pub fn read_write(bytes: &[u8]) -> Option<(usize, bool)> {
    let (header, _) = Header::decode(bytes)?;
    let write = bytes.get(..header.write_bytes())?;
    let front = write.get(..header.front_bytes())?;
    let is_intact = front_is_intact(&header, front) && payload_is_intact(&header, write);
    let heads = read_table(&header, front)?;
    let entries = read_entries(&header, &heads, &Buf::from_vec(write.to_vec()))?;
    Some((entries.entries.len(), is_intact))
}

pub(super) fn claimed_checksum(front: &[u8]) -> u32 {
    Header::decode(front).map_or(0, |(_, checksum)| checksum)
}

/// The rows of a table whose checksum was right.
pub(super) fn read_table(header: &Header, front: &[u8]) -> Option<Vec<EntryHead>> {
    let at = HEADER_BYTES + header.inline_bytes as usize;
    let table = front.get(at..at + header.table_bytes())?;
    let mut fields = Fields(table);
    (0..header.entry_count)
        .map(|_| EntryHead::decode(&mut fields))
        .collect()
}

/// Whether header and table of a write whose front is `front` are whole.
pub(super) fn front_is_intact(header: &Header, front: &[u8]) -> bool {
    let at = HEADER_BYTES + header.inline_bytes as usize;
    let table = front.get(at..at + header.table_bytes());
    match (front.get(..HEADER_BYTES), table) {
        (Some(head), Some(table)) => is_intact(head, table) || !holds(Rule::JournalChecksums),
        _ => false,
    }
}

pub(super) fn payload_is_intact(header: &Header, bytes: &[u8]) -> bool {
    let (front, blocks) = bytes.split_at(bytes.len() - header.block_bytes as usize);
    let inline = &front[HEADER_BYTES..HEADER_BYTES + header.inline_bytes as usize];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(inline), blocks);
    checksum == header.payload_checksum || !holds(Rule::JournalChecksums)
}

/// The entries with their bytes; none when the table claims more bytes than there are.
pub(super) fn read_entries(
    header: &Header,
    heads: &[EntryHead],
    bytes: &Buf,
) -> Option<ScannedWrite> {
    let blocks_at = bytes.len() - header.block_bytes as usize;
    let mut inline = Cut {
        bytes,
        at: HEADER_BYTES,
        end: HEADER_BYTES + header.inline_bytes as usize,
    };
    let mut blocks = Cut {
        bytes,
        at: blocks_at,
        end: bytes.len(),
    };
    let entries = heads
        .iter()
        .map(|head| read_entry(head, &mut inline, &mut blocks));
    Some(ScannedWrite {
        sequence: Sequence(header.sequence),
        entries: entries.collect::<Option<_>>()?,
    })
}

fn read_entry(
    head: &EntryHead,
    inline: &mut Cut<'_>,
    blocks: &mut Cut<'_>,
) -> Option<ScannedEntry> {
    match *head {
        EntryHead::Event {
            partition,
            owner_epoch,
            number,
            change,
        } => {
            let change = match change {
                ChangeHead::LogStart(log_start) => EventChange::LogStart(log_start),
                ChangeHead::SegmentsReplaced { len } => {
                    let mut payload = Pieces::new();
                    inline.take(len as usize, &mut payload)?;
                    let bytes = payload.iter().flat_map(|piece| piece.iter().copied());
                    EventChange::SegmentsReplaced(bytes.collect())
                }
            };
            let event = PartitionEvent { number, change };
            Some(ScannedEntry::Event {
                partition,
                owner_epoch,
                event,
            })
        }
        EntryHead::Data {
            partition,
            owner_epoch,
            leader_epoch,
            segment_base,
            position,
            len,
            blocks: in_blocks,
        } => {
            let mut payload = Pieces::new();
            if in_blocks {
                let split = BlockSplit::of(position, len as usize);
                inline.take(split.head, &mut payload)?;
                blocks.take(split.blocks, &mut payload)?;
                inline.take(split.tail, &mut payload)?;
            } else {
                inline.take(len as usize, &mut payload)?;
            }
            Some(ScannedEntry::Data {
                partition,
                owner_epoch,
                leader_epoch,
                segment_base,
                position,
                payload,
            })
        }
    }
}

/// A part of a write that is handed out from its front.
struct Cut<'a> {
    bytes: &'a Buf,
    at: usize,
    end: usize,
}

impl Cut<'_> {
    fn take(&mut self, len: usize, into: &mut Pieces) -> Option<()> {
        if len > self.end - self.at {
            return None;
        }
        if len > 0 {
            into.push(self.bytes.slice(self.at..self.at + len));
        }
        self.at += len;
        Some(())
    }
}
