//! The two checkpoint slots of a shard: where a checkpoint's bytes are kept, not what they say.
//!
//! A slot is a file of its own, rewritten in place. Its first block is a header with the run, a
//! sequence number that grows with every checkpoint, and checksums; the content follows from the
//! second block. The slots are written in turns, and the newest checkpoint of the committed run is
//! never the one that is overwritten: after a torn write it is still there.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::error::is_disk_full;
use crate::log::files::codec::{Fields, open_header, seal_header};
use crate::log::files::lock::open_settled;
use crate::log::files::run::RunId;
use crate::log::files::small_file::reserve_durably;
use crate::log::rules::{Rule, holds};
use crate::rt::{BLOCK_BYTES, Buf, File, OpenMode, Runtime, WriteMode};

const MAGIC: u32 = u32::from_le_bytes(*b"CLCP");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Room that a slot has from the start, and its growth's step.
const STEP_BYTES: u64 = 256 << 10;
const WRITE_BYTES: usize = 1 << 20;

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
    /// What it says.
    pub content: Vec<u8>,
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
    /// Of the whole checkpoint that it holds.
    holds: Option<(RunId, u64)>,
    /// Something was written to it that is not whole.
    is_damaged: bool,
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
            Some(index) => self.slots[index].read(&self.rt).await,
            None => Ok(None),
        }
    }

    /// The slot that holds something that is not whole: torn while it was written, or rotten.
    pub fn damaged(&self) -> Option<&Path> {
        let damaged = self.slots.iter().find(|slot| slot.is_damaged);
        damaged.map(|slot| slot.path.as_path())
    }

    /// Writes a checkpoint of `run`, durable when this returns, into the slot that does not hold
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
        self.slots[index].grow_for(content.len()).await?;
        self.slots[index]
            .write(&self.rt, run, sequence, content)
            .await?;
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
            let (of, sequence) = self.slots[*index].holds?;
            (of == run || !holds(Rule::RunCheck)).then_some(sequence)
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
        self.slots[index].holds.map_or(0, |(_, sequence)| sequence)
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
        let found = slot.read(rt).await?;
        slot.holds = found.map(|checkpoint| (checkpoint.run, checkpoint.sequence));
        if slot.holds.is_none() {
            let mut block = Vec::new();
            let read = slot.read_into(rt, &mut block, 0, BLOCK_BYTES as u64).await;
            read.map_err(|source| io_error(&slot.path, source))?;
            slot.is_damaged = block.iter().any(|&byte| byte != 0);
        }
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

    async fn write(
        &mut self,
        rt: &R,
        run: RunId,
        sequence: u64,
        content: &[u8],
    ) -> Result<(), CheckpointError> {
        self.holds = None;
        let header = Header {
            run,
            sequence,
            content_bytes: content.len() as u64,
            content_checksum: checksum_of(rt, content).await,
        };
        let pieces = content.chunks(WRITE_BYTES).zip(1u64..);
        let pieces = pieces.map(|(piece, number)| {
            let offset = BLOCK_BYTES as u64 + (number - 1) * WRITE_BYTES as u64;
            (offset, piece)
        });
        // The header comes last, yet could come at any time: its checksum covers the content's.
        for (offset, piece) in pieces.chain([(0, &header.encode()[..])]) {
            self.write_piece(rt, offset, piece)
                .await
                .map_err(|source| io_error(&self.path, source))?;
        }
        self.holds = Some((run, sequence));
        Ok(())
    }

    async fn write_piece(&self, rt: &R, offset: u64, piece: &[u8]) -> io::Result<()> {
        let buf = padded(rt, piece).map_err(io::Error::other)?;
        self.file
            .write_at(vec![buf], offset, WriteMode::Durable)
            .await
    }

    /// What the slot holds, if it is whole.
    async fn read(&self, rt: &R) -> Result<Option<Checkpoint>, CheckpointError> {
        let failed = |source| io_error(&self.path, source);
        let mut block = Vec::new();
        self.read_into(rt, &mut block, 0, BLOCK_BYTES as u64)
            .await
            .map_err(failed)?;
        let header = match Header::decode(&block) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(found) => {
                return Err(CheckpointError::UnknownVersion {
                    path: self.path.clone(),
                    found,
                });
            }
        };
        let room = self.room_bytes.saturating_sub(BLOCK_BYTES as u64);
        if header.content_bytes > room {
            return Ok(None);
        }
        let mut content = Vec::new();
        self.read_into(rt, &mut content, BLOCK_BYTES as u64, header.content_bytes)
            .await
            .map_err(failed)?;
        let whole = content.len() as u64 == header.content_bytes
            && crc32c::crc32c(&content) == header.content_checksum;
        Ok(whole.then_some(Checkpoint {
            sequence: header.sequence,
            run: header.run,
            content,
        }))
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

/// A copy of `bytes` with zeros up to the next whole block.
fn padded<R: Runtime>(rt: &R, bytes: &[u8]) -> Result<Buf, crate::rt::ArenaFull> {
    let blocks = bytes.len().next_multiple_of(BLOCK_BYTES);
    let mut buffer = rt.arena().alloc(blocks)?;
    buffer.extend_from_slice(bytes);
    buffer.extend_zeroed(blocks - bytes.len());
    Ok(buffer.freeze())
}

fn io_error(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}

struct Header {
    run: RunId,
    sequence: u64,
    content_bytes: u64,
    content_checksum: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.run.number.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.run.id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.content_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.content_checksum.to_le_bytes());
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
            content_bytes: fields.u64()?,
            content_checksum: fields.u32()?,
        })
    }
}

#[cfg(test)]
mod tests;
