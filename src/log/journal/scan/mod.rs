//! Reading a journal back, and telling a torn tail from rot.
//!
//! Writes are followed from the start on. Where one is missing, the rest of the ring is searched:
//! if anything there says that the missing one had been flushed, acknowledged entries are gone and
//! the scan says which writes were lost and goes on behind them; otherwise the tail was torn, and
//! nothing of it was acknowledged.
//!
//! | file | what |
//! |---|---|
//! | `write` | a write read back, pure |
//! | `lost` | what is known of writes that cannot be read |
//! | `reader` | the ring in large pieces |
//! | `sweep` | what lies behind a break |
//! | `error` | why a journal cannot be read |

mod error;
mod lost;
mod reader;
mod sweep;
mod write;

use std::path::Path;

pub use error::ScanError;
pub use lost::{Kept, LostWrites};
pub use write::{ScannedEntry, ScannedWrite, read_write};

use super::format::{Header, WriteKind};
use super::{JournalIdentity, JournalStart, Sequence};
use crate::log::rules::{Rule, holds};
use crate::model::{NodeId, ShardIndex};
use crate::rt::Runtime;
use reader::{RingReader, settle};
use sweep::{Later, sweep};
use write::{claimed_checksum, payload_is_intact, read_entries, read_table};

/// What a scan comes upon.
#[derive(Debug)]
pub enum Scanned {
    /// A whole write.
    Write(ScannedWrite),
    /// Writes that had been flushed and cannot be read any more.
    Lost(LostWrites),
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

/// A journal that is being read. Several shards may do so at the same time.
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
    /// Waits for the locks of whoever wrote the journal in `dir`, which begins at `start`, and makes what
    /// they have left durable. That it does not change afterwards is a matter of the data directory's lock.
    pub async fn settle(rt: &R, dir: &Path, start: JournalStart) -> Result<(), ScanError> {
        settle(rt, dir, start.geometry).await
    }

    /// Opens the journal in `dir` at `start`; it was settled before ([`JournalScan::settle`]).
    pub async fn open(
        rt: &R,
        dir: &Path,
        node: NodeId,
        shard: ShardIndex,
        start: JournalStart,
    ) -> Result<Self, ScanError> {
        let identity = JournalIdentity {
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
