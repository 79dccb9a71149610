//! Reading a journal back, and telling a torn tail from rot.
//!
//! Writes are followed from the start on. Where one is missing, the rest of the ring is searched:
//! if anything there says that the missing one had been flushed, acknowledged entries are gone and
//! the scan says which writes were lost and goes on behind them; otherwise the tail was torn, and
//! nothing of it was acknowledged.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{BlockSplit, EntryHead, HEADER_BYTES, Header, WriteKind, is_intact};
use super::lost::{Kept, LostWrites};
use super::reader::RingReader;
use super::sweep::{Later, sweep};
use super::{JournalStart, PartitionEvent, Pieces, Sequence};
use crate::log::files::codec::Fields;
use crate::log::files::run::RunId;
use crate::log::rules::{Rule, holds};
use crate::model::{LeaderEpoch, NodeId, Offset, PartitionId, ShardIndex};
use crate::rt::{Buf, Runtime};

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file could not be opened, locked or read.
    #[error("journal: {0}")]
    Io(#[from] io::Error),
    /// A file is not there, though it was made before the run was committed.
    #[error(
        "{} is missing, and with it acknowledged records may be: put it back; or, to give up what \
         was in it alone, make an empty one with: truncate -s {file_bytes} {}",
        path.display(),
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The length it should have.
        file_bytes: u64,
    },
    /// A file ends before the journal does.
    #[error(
        "{} has only {bytes} bytes: it was cut, and acknowledged records may be lost: put it back; \
         or, to give up what was behind them, fill it up with: truncate -s {file_bytes} {}",
        path.display(),
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// The length it has.
        bytes: u64,
        /// The length it should have.
        file_bytes: u64,
    },
    /// The journal belongs to a later run than the one that counts as committed: the file `run`
    /// is damaged or was put back from an older copy.
    #[error("the journal was written by run {found}, but run {committed} counts as the last one")]
    LaterRun {
        /// What the file `run` says.
        committed: RunId,
        /// What the journal says.
        found: RunId,
    },
    /// The journal of another node, or of another shard, lies where this one's should.
    #[error(
        "{} is the journal of node {node}, shard {shard}: bring this one's back, or start under the \
         node.id that it was written under",
        dir.display()
    )]
    OtherOwner {
        /// Its directory.
        dir: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// Which of its shards'.
        shard: ShardIndex,
    },
    /// A whole write that this build does not understand.
    #[error("journal write {} has entries that this build cannot read", .0.0)]
    UnknownEntries(Sequence),
}

/// What a scan comes upon.
#[derive(Debug)]
pub enum Scanned {
    /// A whole write.
    Write(ScannedWrite),
    /// Writes that had been flushed and cannot be read any more.
    Lost(LostWrites),
}

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
        /// What happens.
        event: PartitionEvent,
    },
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanEnd {
    /// The first write that is not there.
    pub next: Sequence,
    /// Whether the last one was the record of a clean stop.
    pub clean: bool,
    /// Bytes of the whole writes.
    pub bytes: u64,
}

/// A journal that is being read. Holds the files' locks until it is dropped.
pub struct JournalScan<R: Runtime> {
    reader: RingReader<R>,
    start: JournalStart,
    address: u64,
    sequence: u64,
    /// Not known behind lost writes.
    previous_checksum: Option<u32>,
    flushed_end: u64,
    /// What lies behind the first break, by sequence; none before it was searched.
    later: Option<Vec<Later>>,
    clean: bool,
    bytes: u64,
    ended: bool,
}

/// What is found where a write should be.
enum Found {
    Write(Header, u32, ScannedWrite),
    /// Only its table can be trusted, and what it says without a payload.
    Table(Kept),
    Nothing,
}

impl<R: Runtime> JournalScan<R> {
    /// Opens the journal in `dir` at `start`, waiting for the locks of whoever wrote it.
    pub async fn open(
        rt: &R,
        dir: &Path,
        node: NodeId,
        shard: ShardIndex,
        start: JournalStart,
    ) -> Result<Self, ScanError> {
        let identity = super::JournalIdentity {
            node,
            shard,
            run: start.run,
        };
        let mut reader = RingReader::open(rt, dir, identity, start.geometry).await?;
        if let Some(found) = reader.later_run().await? {
            let committed = start.run;
            return Err(ScanError::LaterRun { committed, found });
        }
        if let Some((node, shard)) = reader.other_owner(start.address).await? {
            let dir = dir.to_owned();
            return Err(ScanError::OtherOwner { dir, node, shard });
        }
        Ok(Self {
            reader,
            address: start.address,
            sequence: start.sequence.0,
            previous_checksum: Some(start.previous_checksum),
            flushed_end: start.flushed_end.0,
            start,
            later: None,
            clean: false,
            bytes: 0,
            ended: false,
        })
    }

    /// The next write or loss; none at the end.
    pub async fn next(&mut self) -> Result<Option<Scanned>, ScanError> {
        if self.ended {
            return Ok(None);
        }
        match self.find().await? {
            Found::Write(header, checksum, write) => {
                self.pass(&header, checksum);
                Ok(Some(Scanned::Write(write)))
            }
            // Nothing follows the record of a clean stop.
            _ if self.clean => Ok(self.end()),
            Found::Table(kept) => self.pass_break(Some(kept)).await,
            Found::Nothing => self.pass_break(None).await,
        }
    }

    /// How the scan ended; meaningful once [`JournalScan::next`] has given none.
    pub fn outcome(&self) -> ScanEnd {
        ScanEnd {
            next: Sequence(self.sequence),
            clean: self.clean,
            bytes: self.bytes,
        }
    }

    fn end(&mut self) -> Option<Scanned> {
        self.ended = true;
        None
    }

    fn pass(&mut self, header: &Header, checksum: u32) {
        let bytes = header.write_bytes() as u64;
        self.address = header.address + bytes;
        self.sequence = header.sequence + 1;
        self.previous_checksum = Some(checksum);
        self.flushed_end = self.flushed_end.max(header.flushed_end);
        self.clean = header.kind == WriteKind::Clean;
        self.bytes += bytes;
    }

    /// Looks at the place where the next write must begin, or at the next file's front, where it
    /// went if it did not fit.
    async fn find(&mut self) -> Result<Found, ScanError> {
        let next_file = self.start.geometry.next_file(self.address);
        match self.read(self.address).await? {
            Found::Nothing => self.read(next_file).await,
            found => Ok(found),
        }
    }

    async fn read(&mut self, address: u64) -> Result<Found, ScanError> {
        let Some((header, front)) = self.reader.header_at(address).await? else {
            return Ok(Found::Nothing);
        };
        let follows = self
            .previous_checksum
            .is_none_or(|checksum| checksum == header.previous_checksum);
        if header.sequence != self.sequence || (!follows && holds(Rule::RunCheck)) {
            return Ok(Found::Nothing);
        }
        let bytes = self.reader.bytes(address, header.write_bytes()).await?;
        let checksum = claimed_checksum(&front);
        let Some(heads) = read_table(&header, &front) else {
            return Err(ScanError::UnknownEntries(Sequence(header.sequence)));
        };
        let write = (bytes.len() == header.write_bytes() && payload_is_intact(&header, &bytes))
            .then(|| read_entries(&header, &heads, &bytes))
            .flatten();
        Ok(match write {
            Some(write) => Found::Write(header, checksum, write),
            None => Found::Table(Kept::of(&heads)),
        })
    }

    /// Decides what a missing write means.
    async fn pass_break(&mut self, kept: Option<Kept>) -> Result<Option<Scanned>, ScanError> {
        self.reader.check_room(self.address, self.sequence).await?;
        if self.later.is_none() {
            let end = self.start.address + self.start.geometry.ring_bytes();
            let later = sweep(&mut self.reader, self.address, end, self.sequence).await?;
            for write in &later {
                self.flushed_end = self.flushed_end.max(write.flushed_end);
            }
            self.later = Some(later);
        }
        if self.sequence >= self.flushed_end || !holds(Rule::RotIsNotTorn) {
            return Ok(self.end());
        }
        let first = self.sequence;
        let next = self
            .later
            .iter()
            .flatten()
            .find(|write| write.sequence > first && write.sequence <= self.flushed_end);
        match next {
            Some(write) => {
                (self.sequence, self.address) = (write.sequence, write.address);
                self.previous_checksum = None;
            }
            None => {
                self.sequence = self.flushed_end;
                self.ended = true;
            }
        }
        let alone = self.sequence == first + 1;
        Ok(Some(Scanned::Lost(LostWrites {
            first: Sequence(first),
            end: Sequence(self.sequence),
            kept: kept.filter(|_| alone),
        })))
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

fn claimed_checksum(front: &[u8]) -> u32 {
    Header::decode(front).map_or(0, |(_, checksum)| checksum)
}

/// The rows of a table whose checksum was right.
fn read_table(header: &Header, front: &[u8]) -> Option<Vec<EntryHead>> {
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

fn payload_is_intact(header: &Header, bytes: &[u8]) -> bool {
    let (front, blocks) = bytes.split_at(bytes.len() - header.block_bytes as usize);
    let inline = &front[HEADER_BYTES..HEADER_BYTES + header.inline_bytes as usize];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(inline), blocks);
    checksum == header.payload_checksum || !holds(Rule::JournalChecksums)
}

/// The entries with their bytes; none when the table claims more bytes than there are.
fn read_entries(header: &Header, heads: &[EntryHead], bytes: &Buf) -> Option<ScannedWrite> {
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
        EntryHead::Event { partition, event } => Some(ScannedEntry::Event { partition, event }),
        EntryHead::Data {
            partition,
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
