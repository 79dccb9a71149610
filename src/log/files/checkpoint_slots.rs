//! The two checkpoint slots of a shard: where a checkpoint's bytes are kept, not what they say.
//!
//! A slot is a file of its own. It holds a *base*, which says everything, and behind it *changes*, each
//! of which says what is no longer as the parts before it have it. Each part begins on a fresh block with
//! a header (the run, a sequence number that grows with every checkpoint, the sequence of its base, and
//! checksums), and its content follows from the next block. A checkpoint is a base with the changes that
//! follow it without a gap.
//!
//! Bases are written to the slots in turns, and the newest checkpoint of the committed run is never
//! overwritten: a base goes to the other slot, changes go behind it, and after a torn write it is still
//! there. What older parts have left behind names another base, and is void.
//!
//! An example. Slot 0 has base 5 of 100 blocks and changes 6 and 7 of 2 blocks each, in blocks 100 to 103;
//! together they are checkpoint 7. Base 8 goes to slot 1, base 11 to slot 0, over 98 blocks: change 12
//! will begin in block 98. Blocks 100 to 103 still have changes 6 and 7; they name base 5, and nobody takes
//! them for changes of base 11.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::error::is_disk_full;
use crate::log::files::codec::{Fields, open_header, seal_header};
use crate::log::files::lock::open_settled;
use crate::log::files::run::RunId;
use crate::log::files::small_file::reserve_durably;
use crate::log::rules::{Rule, holds};
use crate::rt::{ArenaFull, BLOCK_BYTES, Buf, File, OpenMode, Runtime, WriteMode};

const MAGIC: u32 = u32::from_le_bytes(*b"CLCP");
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 64;
/// Room that a slot has from the start, and its growth's step.
const STEP_BYTES: u64 = 256 << 10;
const WRITE_BYTES: usize = 1 << 20;
/// So many bytes of changes are worth less than a base, however short that is.
const FEW_BYTES: u64 = 32 << 10;

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The slot had to grow and the disk is full; both slots are as they were. Try again later.
    #[error("no disk space for a checkpoint of {bytes} bytes")]
    DiskFull {
        /// What was to be written.
        bytes: usize,
    },
    /// Written by a version of corelane that this one does not know.
    #[error("{}: written in format version {found}, this build reads {VERSION}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A checkpoint as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Grows by one with every checkpoint of the shard, over all runs.
    pub sequence: u64,
    /// The run that wrote it.
    pub run: RunId,
    /// What its base says.
    pub content: Vec<u8>,
    /// What has changed since, oldest first.
    pub changes: Vec<Vec<u8>>,
}

/// A shard's two slots, open and locked.
pub struct CheckpointSlots<R: Runtime> {
    rt: R,
    slots: [Slot<R>; 2],
}

struct Slot<R: Runtime> {
    file: R::File,
    path: PathBuf,
    room_bytes: u64,
    /// The whole checkpoint that it holds.
    holds: Option<Held>,
    /// Something was written to it that is not whole.
    is_damaged: bool,
}

/// A whole checkpoint in a slot.
#[derive(Clone, Copy)]
struct Held {
    run: RunId,
    /// Sequence of its base, and of its last change.
    base: u64,
    sequence: u64,
    /// Where the base ends, and where the last change does.
    base_end: u64,
    end: u64,
}

impl Held {
    /// Content that one more change may have: all changes together take no more than the base, or little.
    fn change_bytes(&self, room_bytes: u64) -> u64 {
        let most = self.base_end + self.base_end.max(FEW_BYTES);
        let left = most.min(room_bytes).saturating_sub(self.end);
        left.saturating_sub(BLOCK_BYTES as u64)
    }

    /// With the part that `header` begins, and that ends at `end`.
    fn after(self, header: &Header, end: u64) -> Self {
        let sequence = header.sequence;
        Self {
            sequence,
            end,
            ..self
        }
    }
}

impl<R: Runtime> CheckpointSlots<R> {
    /// Opens `checkpoint-0` and `checkpoint-1` in `shard_dir` (which exists), creates and
    /// preallocates what is missing, waits for the locks, and looks what the slots hold.
    pub async fn open(rt: &R, shard_dir: &Path) -> Result<Self, CheckpointError> {
        let first = Slot::open(rt, shard_dir, "checkpoint-0").await?;
        let second = Slot::open(rt, shard_dir, "checkpoint-1").await?;
        let synced = rt.sync_dir(shard_dir).await;
        synced.map_err(|source| io_error(shard_dir, source))?;
        Ok(Self {
            rt: rt.clone(),
            slots: [first, second],
        })
    }

    /// The newest whole checkpoint that `run` has written.
    pub async fn load(&self, run: RunId) -> Result<Option<Checkpoint>, CheckpointError> {
        match self.newest_of(run) {
            Some(index) => {
                let (checkpoint, _, _) = self.slots[index].read(&self.rt).await?;
                Ok(checkpoint)
            }
            None => Ok(None),
        }
    }

    /// The longest content that [`CheckpointSlots::write_changes`] takes: 0 where a whole checkpoint is
    /// due.
    pub fn change_bytes(&self, run: RunId) -> usize {
        let room = self.newest_of(run).map_or(0, |index| {
            let slot = &self.slots[index];
            slot.holds
                .map_or(0, |held| held.change_bytes(slot.room_bytes))
        });
        room as usize
    }

    /// Writes what has changed since the newest checkpoint of `run`, the committed one, behind it; durable
    /// when this returns. Returns the checkpoint's sequence.
    ///
    /// # Errors
    /// After `DiskFull`, for a content that is longer than [`CheckpointSlots::change_bytes`], nothing is
    /// written. After any error the next checkpoint has to be whole.
    pub async fn write_changes(
        &mut self,
        run: RunId,
        content: &[u8],
    ) -> Result<u64, CheckpointError> {
        let fits = content.len() <= self.change_bytes(run);
        let newest = self.newest_of(run).filter(|_| fits);
        let Some((index, held)) = newest.and_then(|index| Some((index, self.slots[index].holds?)))
        else {
            let bytes = content.len();
            return Err(CheckpointError::DiskFull { bytes });
        };
        let slot = &mut self.slots[index];
        let header = Header::of(&self.rt, run, held.sequence + 1, held.base, content).await;
        let end = slot.write(&self.rt, held.end, &header, content).await?;
        slot.holds = Some(held.after(&header, end));
        Ok(header.sequence)
    }

    /// The slot that holds a part that is not whole: torn while it was written, or rotten.
    pub fn damaged(&self) -> Option<&Path> {
        let damaged = self.slots.iter().find(|slot| slot.is_damaged);
        damaged.map(|slot| slot.path.as_path())
    }

    /// Writes a whole checkpoint of `run`, durable when this returns, into the slot that does not hold
    /// the newest one of `committed`. While recovery prepares the next run, `committed` is still
    /// the one before; afterwards both are the same. Returns the checkpoint's sequence.
    ///
    /// # Errors
    /// After `DiskFull` the slots are as they were; after `Io` this one may be void.
    pub async fn write_next(
        &mut self,
        committed: Option<RunId>,
        run: RunId,
        content: &[u8],
    ) -> Result<u64, CheckpointError> {
        let sequence = self.last_sequence() + 1;
        let index = self.next_slot(committed);
        let slot = &mut self.slots[index];
        slot.grow_for(content.len()).await?;
        slot.holds = None;
        let header = Header::of(&self.rt, run, sequence, sequence, content).await;
        let end = slot.write(&self.rt, 0, &header, content).await?;
        slot.holds = Some(header.held(end));
        // Ahead of need and for both, so that the next ones fit on a full disk.
        for slot in &mut self.slots {
            slot.grow_for(content.len() + content.len() / 2).await.ok();
        }
        Ok(sequence)
    }

    /// Content that both slots have room for.
    pub fn room_bytes(&self) -> usize {
        let room = self.slots.iter().map(|slot| slot.room_bytes).min();
        room.unwrap_or(0).saturating_sub(BLOCK_BYTES as u64) as usize
    }

    /// Makes room for a content of that length in both slots, and for half as much again if the disk
    /// has it.
    ///
    /// # Errors
    /// `DiskFull`: there is no less room than before.
    pub async fn make_room(&mut self, content_bytes: usize) -> Result<(), CheckpointError> {
        for slot in &mut self.slots {
            if slot
                .grow_for(content_bytes + content_bytes / 2)
                .await
                .is_err()
            {
                slot.grow_for(content_bytes).await?;
            }
        }
        Ok(())
    }

    fn newest_of(&self, run: RunId) -> Option<usize> {
        let sequence_of = |index: &usize| {
            let held = self.slots[*index].holds?;
            (held.run == run || !holds(Rule::RunCheck)).then_some(held.sequence)
        };
        let newest = [0, 1].into_iter().max_by_key(sequence_of)?;
        sequence_of(&newest).map(|_| newest)
    }

    fn next_slot(&self, committed: Option<RunId>) -> usize {
        let newest = committed.and_then(|run| self.newest_of(run));
        match newest {
            Some(newest) if holds(Rule::RecoveryKeepsNewestCheckpoint) => 1 - newest,
            Some(newest) => newest,
            // Nothing to protect: the older, or the empty one.
            None => usize::from(self.sequence(1) < self.sequence(0)),
        }
    }

    fn sequence(&self, index: usize) -> u64 {
        self.slots[index].holds.map_or(0, |held| held.sequence)
    }

    fn last_sequence(&self) -> u64 {
        self.sequence(0).max(self.sequence(1))
    }
}

impl<R: Runtime> Slot<R> {
    async fn open(rt: &R, dir: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = dir.join(name);
        let failed = |source| io_error(&path, source);
        let file = open_settled(rt, &path, OpenMode::DIRECT_CREATE)
            .await
            .map_err(failed)?;
        let mut slot = Self {
            room_bytes: file.size().map_err(failed)?,
            file,
            path: path.clone(),
            holds: None,
            is_damaged: false,
        };
        slot.grow_for(0).await?;
        let (_, held, is_damaged) = slot.read(rt).await?;
        slot.holds = held;
        slot.is_damaged = is_damaged;
        Ok(slot)
    }

    /// Reserves space for a content of that length, in whole steps.
    async fn grow_for(&mut self, content_bytes: usize) -> Result<(), CheckpointError> {
        let needed = (BLOCK_BYTES + content_bytes) as u64;
        let room = needed.next_multiple_of(STEP_BYTES);
        if self.room_bytes >= needed {
            return Ok(());
        }
        match reserve_durably(&self.file, room).await {
            Ok(()) => self.room_bytes = room,
            Err(error) if is_disk_full(&error) => {
                return Err(CheckpointError::DiskFull {
                    bytes: content_bytes,
                });
            }
            Err(source) => return Err(io_error(&self.path, source)),
        }
        Ok(())
    }

    /// Writes a part at `start`, durable when this returns; gives where it ends.
    async fn write(
        &self,
        rt: &R,
        start: u64,
        header: &Header,
        content: &[u8],
    ) -> Result<u64, CheckpointError> {
        let first = start + BLOCK_BYTES as u64;
        let offsets = (first..).step_by(WRITE_BYTES);
        let pieces = offsets.zip(content.chunks(WRITE_BYTES));
        let write = async {
            // Whatever reaches the disk first: the header's checksum covers the content's.
            for (offset, piece) in pieces.chain([(start, &header.encode()[..])]) {
                let buf = padded(rt, piece).await;
                let written = self.file.write_at(vec![buf], offset, WriteMode::Plain);
                written.await?;
            }
            match holds(Rule::CheckpointFlushed) {
                true => self.file.sync().await,
                false => Ok(()),
            }
        };
        write.await.map_err(|source| io_error(&self.path, source))?;
        Ok(header.end_from(start))
    }

    /// The whole checkpoint that the slot holds, and whether a part of one is not whole.
    async fn read(
        &self,
        rt: &R,
    ) -> Result<(Option<Checkpoint>, Option<Held>, bool), CheckpointError> {
        let (header, content) = match self.read_part(rt, 0).await? {
            Part::Whole(header, content) if header.base == header.sequence => (header, content),
            Part::Blank => return Ok((None, None, false)),
            _ => return Ok((None, None, true)),
        };
        let mut held = header.held(header.end_from(0));
        let mut changes = Vec::new();
        let is_damaged = loop {
            match self.read_part(rt, held.end).await? {
                Part::Whole(header, content) if header.follows(&held) => {
                    held = held.after(&header, header.end_from(held.end));
                    changes.push(content);
                }
                Part::Cut(header) => break header.follows(&held),
                _ => break false,
            }
        };
        let checkpoint = Checkpoint {
            sequence: held.sequence,
            run: held.run,
            content,
            changes,
        };
        Ok((Some(checkpoint), Some(held), is_damaged))
    }

    /// What begins at `start`.
    async fn read_part(&self, rt: &R, start: u64) -> Result<Part, CheckpointError> {
        let failed = |source| io_error(&self.path, source);
        let mut block = Vec::new();
        let read = self.read_into(rt, &mut block, start, BLOCK_BYTES as u64);
        read.await.map_err(failed)?;
        let header = match Header::decode(&block) {
            Ok(Some(header)) => header,
            Ok(None) if block.iter().all(|&byte| byte == 0) => return Ok(Part::Blank),
            Ok(None) => return Ok(Part::Unknown),
            Err(found) => {
                return Err(CheckpointError::UnknownVersion {
                    path: self.path.clone(),
                    found,
                });
            }
        };
        let first = start + BLOCK_BYTES as u64;
        if header.content_bytes > self.room_bytes.saturating_sub(first) {
            return Ok(Part::Cut(header));
        }
        let mut content = Vec::new();
        let read = self.read_into(rt, &mut content, first, header.content_bytes);
        read.await.map_err(failed)?;
        let whole = content.len() as u64 == header.content_bytes
            && crc32c::crc32c(&content) == header.content_checksum;
        Ok(match whole {
            true => Part::Whole(header, content),
            false => Part::Cut(header),
        })
    }

    /// Reads `bytes` from `offset` on, less at the end of the file.
    async fn read_into(
        &self,
        rt: &R,
        into: &mut Vec<u8>,
        offset: u64,
        bytes: u64,
    ) -> io::Result<()> {
        let end = offset + bytes;
        let mut position = offset;
        while position < end {
            let wanted = (end - position).min(WRITE_BYTES as u64) as usize;
            let blocks = wanted.next_multiple_of(BLOCK_BYTES);
            let buffer = rt.arena().alloc(blocks).map_err(io::Error::other)?;
            let (read, buffer) = self.file.read_at(buffer, position, blocks).await;
            let count = read?.min(wanted);
            into.extend_from_slice(&buffer[..count]);
            if count < wanted {
                break;
            }
            position += count as u64;
        }
        Ok(())
    }
}

/// The checksum of a content, which is taken in slices: of ten thousand partitions, and of many
/// producers, it would keep the core for longer than a millisecond.
async fn checksum_of<R: Runtime>(rt: &R, content: &[u8]) -> u32 {
    const SLICE_BYTES: usize = 512 << 10;
    let mut checksum = 0;
    for slice in content.chunks(SLICE_BYTES) {
        checksum = crc32c::crc32c_append(checksum, slice);
        rt.yield_now().await;
    }
    checksum
}

/// A copy of `bytes` with zeros up to the next whole block. Waits for memory, which whoever holds it gives
/// back in a while: without checkpoints nobody could go on, so that none is no reason to end it all.
async fn padded<R: Runtime>(rt: &R, bytes: &[u8]) -> Buf {
    const RETRY: Duration = Duration::from_millis(1);
    let blocks = bytes.len().next_multiple_of(BLOCK_BYTES);
    let mut buffer = loop {
        match rt.arena().alloc(blocks) {
            Ok(buffer) => break buffer,
            Err(ArenaFull { .. }) => rt.sleep(RETRY).await,
        }
    };
    buffer.extend_from_slice(bytes);
    buffer.extend_zeroed(blocks - bytes.len());
    buffer.freeze()
}

fn io_error(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What is found where a part may begin.
enum Part {
    Whole(Header, Vec<u8>),
    /// The content is not the one that the header tells of.
    Cut(Header),
    /// No header, or a damaged one.
    Unknown,
    Blank,
}

struct Header {
    run: RunId,
    sequence: u64,
    /// Sequence of the base: its own, unless it is that of a change.
    base: u64,
    content_bytes: u64,
    content_checksum: u32,
}

impl Header {
    async fn of<R: Runtime>(rt: &R, run: RunId, sequence: u64, base: u64, content: &[u8]) -> Self {
        Self {
            run,
            sequence,
            base,
            content_bytes: content.len() as u64,
            content_checksum: checksum_of(rt, content).await,
        }
    }

    /// As the header of a base.
    fn held(&self, end: u64) -> Held {
        Held {
            run: self.run,
            base: self.base,
            sequence: self.sequence,
            base_end: end,
            end,
        }
    }

    /// Whether it is that of the next change.
    fn follows(&self, held: &Held) -> bool {
        let is_next =
            (self.run, self.base) == (held.run, held.base) && self.sequence == held.sequence + 1;
        is_next || !holds(Rule::ChangesNameTheirBase)
    }

    /// Where the part ends that begins at `start`.
    fn end_from(&self, start: u64) -> u64 {
        let content_bytes = self.content_bytes.next_multiple_of(BLOCK_BYTES as u64);
        start + BLOCK_BYTES as u64 + content_bytes
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.run.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.run.id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.content_bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.content_checksum.to_le_bytes());
        seal_header(&mut bytes);
        bytes
    }

    /// None when it is not whole; the version when it is an unknown one.
    fn decode(block: &[u8]) -> Result<Option<Self>, u32> {
        Ok(open_header(block, HEADER_BYTES, MAGIC, VERSION)?.and_then(Self::read))
    }

    fn read(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            run: RunId {
                number: fields.u64()?,
                id: fields.u128()?,
            },
            sequence: fields.u64()?,
            base: fields.u64()?,
            content_bytes: fields.u64()?,
            content_checksum: fields.u32()?,
        })
    }
}

#[cfg(test)]
mod tests;
