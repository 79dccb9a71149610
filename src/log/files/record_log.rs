//! A small log of records that are durable one by one: the cluster metadata.
//!
//! Each record starts on a fresh block, so that writing one never touches another. All numbers
//! are little-endian. A record names the log's random id and its own index: what an earlier log
//! left behind, or bytes within a record, are never taken for one.
//!
//! Behind each record, once it is durable, goes an empty one, the *seal*, and only then is the
//! record acknowledged. So a damaged record with nothing behind it was cut while it was written, and
//! one with anything behind it has rotted.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::error::is_disk_full;
use crate::log::files::codec::{Fields, open_header, seal_header};
use crate::log::files::lock::{open_locked, open_settled};
use crate::log::files::small_file::reserve_durably;
use crate::log::rules::{Rule, holds};
use crate::rt::{ArenaFull, BLOCK_BYTES, Buf, BufMut, Create, File, OpenMode, Runtime, WriteMode};

const MAGIC: u32 = u32::from_le_bytes(*b"CLRL");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
/// What proves that the record before it was durable.
const SEAL: &[u8] = &[];
/// The file grows in steps of this length.
const STEP_BYTES: u64 = 1 << 20;
/// What is kept free for the records that make room on a full disk.
const RESERVE_BYTES: u64 = 512 << 10;

/// Longest record, in bytes.
pub const LONGEST_RECORD_BYTES: usize = 16 << 20;

/// Whether a record may take the last of the preallocated space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// It leaves the reserve alone: what adds.
    Keep,
    /// It may use it: what deletes, so that a full disk can be emptied.
    Use,
}

/// Why records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordLogError {
    /// The disk is full; the log is as it was. Try again later.
    #[error("no disk space for a metadata record")]
    DiskFull,
    /// The record is longer than [`LONGEST_RECORD_BYTES`].
    #[error("a record of {bytes} bytes is too long")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A record before the last one is damaged. Nothing behind it can be trusted.
    #[error("{}: record {index} is damaged, and later ones exist", path.display())]
    Rot {
        /// The file.
        path: PathBuf,
        /// The record's index.
        index: u64,
    },
    /// Written by a version of corelane that this one does not know.
    #[error("{}: written in format version {found}, this build reads {VERSION}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system said no. After a failed write the log is final.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// An open, locked record log.
pub struct RecordLog<R: Runtime> {
    rt: R,
    file: R::File,
    dir: PathBuf,
    path: PathBuf,
    id: u64,
    next_index: u64,
    end: u64,
    room: u64,
    failed: bool,
    /// Whether there is no record without its seal.
    is_sealed: bool,
}

impl<R: Runtime> RecordLog<R> {
    /// Opens `dir/log`, directory and file created when missing, and returns every record in
    /// order; the first is the snapshot if there was one. A torn last record is ignored: without a
    /// seal it was never acknowledged.
    pub async fn open(rt: &R, dir: &Path) -> Result<(Self, Vec<Vec<u8>>), RecordLogError> {
        let path = dir.join("log");
        let opened = open_file(rt, dir, &path).await;
        let (file, room) = opened.map_err(|source| io_error(&path, source))?;
        let mut log = Self {
            rt: rt.clone(),
            file,
            dir: dir.to_owned(),
            path,
            id: rt.random_u64(),
            next_index: 0,
            end: 0,
            room,
            failed: false,
            is_sealed: true,
        };
        let records = log.replay().await?;
        if !log.is_sealed {
            log.grow_to(log.end + record_bytes(0)).await?;
            let seal = log.lay_out(log.next_index, SEAL)?;
            log.write([seal], WriteMode::Durable).await?;
        }
        log.grow_ahead().await;
        Ok((log, records))
    }

    /// Appends a record, which is not empty; durable when this returns. After an error other than `DiskFull` and
    /// `TooLarge` it is unknown whether the record is there, and the log takes no more.
    pub async fn append(&mut self, record: &[u8], reserve: Reserve) -> Result<(), RecordLogError> {
        if record.len() > LONGEST_RECORD_BYTES {
            let bytes = record.len();
            return Err(RecordLogError::TooLarge { bytes });
        }
        let kept = match reserve {
            Reserve::Keep => RESERVE_BYTES,
            Reserve::Use => 0,
        };
        let bytes = record_bytes(record.len()) + record_bytes(0);
        self.grow_to(self.end + bytes + kept).await?;
        let mode = if holds(Rule::MetadataDurableFirst) {
            WriteMode::Durable
        } else {
            WriteMode::Plain
        };
        // Memory for both, before either is written: a record that is there without its seal is neither
        // in the log nor out of it.
        let record = self.lay_out(self.next_index, record)?;
        let seal = self.lay_out(self.next_index + 1, SEAL)?;
        self.write([record, seal], mode).await?;
        self.grow_ahead().await;
        Ok(())
    }

    /// Bytes of the records so far: what a snapshot would save.
    pub fn size_bytes(&self) -> u64 {
        self.end
    }

    /// Replaces all records by one that sums them up; durable when this returns. On `DiskFull` the
    /// log is as it was.
    pub async fn snapshot(&mut self, snapshot: &[u8]) -> Result<(), RecordLogError> {
        let path = self.dir.join("log.new");
        let failed = |source| io_error(&path, source);
        match self.rt.remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mode = OpenMode {
            direct: true,
            create: Create::New,
        };
        let file = open_locked(&self.rt, &path, mode).await.map_err(failed)?;
        let mut next = Self {
            rt: self.rt.clone(),
            file,
            dir: self.dir.clone(),
            path: path.clone(),
            id: self.rt.random_u64(),
            next_index: 0,
            end: 0,
            room: 0,
            failed: false,
            is_sealed: true,
        };
        if let Err(error) = next.append(snapshot, Reserve::Keep).await {
            self.rt.remove_file(&path).await.ok();
            return Err(error);
        }
        // From here on a failure leaves open which of the two logs is found after a crash.
        self.failed = true;
        let renamed = self.rt.rename(&path, &self.path).await;
        renamed.map_err(|source| io_error(&self.path, source))?;
        let synced = self.rt.sync_dir(&self.dir).await;
        synced.map_err(|source| io_error(&self.dir, source))?;
        next.path.clone_from(&self.path);
        *self = next;
        Ok(())
    }

    /// A record with its header, in whole blocks. An error has changed nothing.
    fn lay_out(&self, index: u64, record: &[u8]) -> Result<Buf, RecordLogError> {
        let header = Header {
            id: self.id,
            index,
            record_bytes: record.len() as u32,
            record_checksum: crc32c::crc32c(record),
        };
        let bytes = record_bytes(record.len()) as usize;
        let buffer = self.rt.arena().alloc(bytes);
        let mut buffer = buffer.map_err(|full: ArenaFull| self.io(io::Error::other(full)))?;
        buffer.extend_from_slice(&header.encode());
        buffer.extend_from_slice(record);
        buffer.extend_zeroed(bytes - buffer.len());
        Ok(buffer.freeze())
    }

    /// Writes records that are laid out, the next one only when the one before is durable. Where one of
    /// them fails the log takes no more.
    async fn write<const N: usize>(
        &mut self,
        records: [Buf; N],
        mode: WriteMode,
    ) -> Result<(), RecordLogError> {
        if self.failed {
            return Err(self.io(io::Error::other("an earlier write failed")));
        }
        self.failed = true;
        for record in records {
            let bytes = record.len() as u64;
            let written = self.file.write_at(vec![record], self.end, mode).await;
            written.map_err(|source| self.io(source))?;
            self.end += bytes;
            self.next_index += 1;
        }
        self.failed = false;
        Ok(())
    }

    /// Reserves space, durably, up to `end`.
    async fn grow_to(&mut self, end: u64) -> Result<(), RecordLogError> {
        if end <= self.room {
            return Ok(());
        }
        let room = end.next_multiple_of(STEP_BYTES);
        match reserve_durably(&self.file, room).await {
            Ok(()) => self.room = room,
            Err(error) if is_disk_full(&error) => {
                return Err(RecordLogError::DiskFull);
            }
            Err(source) => return Err(self.io(source)),
        }
        Ok(())
    }

    /// Grows before the need, so that the reserve is whole when the disk fills up.
    async fn grow_ahead(&mut self) {
        self.grow_to(self.end + 2 * RESERVE_BYTES).await.ok();
    }

    async fn replay(&mut self) -> Result<Vec<Vec<u8>>, RecordLogError> {
        let size = self.file.size().map_err(|source| self.io(source))?;
        let mut records = Vec::new();
        while let Some((header, record)) = self.read_record(self.end, size).await? {
            let expected = header.index == self.next_index;
            if !expected || (header.id != self.id && header.index > 0) {
                break;
            }
            self.id = header.id;
            self.end += record_bytes(record.len());
            self.next_index += 1;
            self.is_sealed = record == SEAL;
            if !self.is_sealed {
                records.push(record);
            }
        }
        self.check_nothing_later(size).await?;
        Ok(records)
    }

    /// Records are written one after the other: one behind a damaged one proves that the damaged
    /// one had been durable.
    async fn check_nothing_later(&self, size: u64) -> Result<(), RecordLogError> {
        let mut at = self.end;
        while at < size {
            let found = self.read_header(at, size).await?;
            let of_this_log = |header: &Header| self.next_index == 0 || header.id == self.id;
            let is_later = |header: &Header| header.index > self.next_index;
            if found.is_some_and(|header| of_this_log(&header) && is_later(&header)) {
                return Err(RecordLogError::Rot {
                    path: self.path.clone(),
                    index: self.next_index,
                });
            }
            at += BLOCK_BYTES as u64;
        }
        Ok(())
    }

    async fn read_header(&self, at: u64, size: u64) -> Result<Option<Header>, RecordLogError> {
        let block = self.read(at, BLOCK_BYTES as u64, size).await?;
        Header::decode(&block).map_err(|found| RecordLogError::UnknownVersion {
            path: self.path.clone(),
            found,
        })
    }

    async fn read_record(
        &self,
        at: u64,
        size: u64,
    ) -> Result<Option<(Header, Vec<u8>)>, RecordLogError> {
        let Some(header) = self.read_header(at, size).await? else {
            return Ok(None);
        };
        let len = header.record_bytes as usize;
        if len > LONGEST_RECORD_BYTES {
            return Ok(None);
        }
        let bytes = self.read(at, record_bytes(len), size).await?;
        let record = bytes.get(HEADER_BYTES..HEADER_BYTES + len);
        let whole = record.filter(|record| crc32c::crc32c(record) == header.record_checksum);
        Ok(whole.map(|record| (header, record.to_vec())))
    }

    /// Up to `len` bytes from `at` on.
    async fn read(&self, at: u64, len: u64, size: u64) -> Result<BufMut, RecordLogError> {
        let len = len.min(size.saturating_sub(at)) as usize;
        let buffer = self.rt.arena().alloc(len);
        let buffer = buffer.map_err(|full| self.io(io::Error::other(full)))?;
        let (read, buffer) = self.file.read_at(buffer, at, len).await;
        read.map_err(|source| self.io(source))?;
        Ok(buffer)
    }

    fn io(&self, source: io::Error) -> RecordLogError {
        io_error(&self.path, source)
    }
}

async fn open_file<R: Runtime>(rt: &R, dir: &Path, path: &Path) -> io::Result<(R::File, u64)> {
    rt.create_dir(dir).await?;
    if let Some(parent) = dir.parent() {
        rt.sync_dir(parent).await?;
    }
    let file = open_settled(rt, path, OpenMode::DIRECT_CREATE).await?;
    rt.sync_dir(dir).await?;
    let room = file.size()?;
    Ok((file, room))
}

fn io_error(path: &Path, source: io::Error) -> RecordLogError {
    RecordLogError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Room of a record with its header, in whole blocks.
fn record_bytes(len: usize) -> u64 {
    (HEADER_BYTES + len).next_multiple_of(BLOCK_BYTES) as u64
}

struct Header {
    id: u64,
    index: u64,
    record_bytes: u32,
    record_checksum: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.record_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.record_checksum.to_le_bytes());
        seal_header(&mut bytes);
        bytes
    }

    /// None when it is not whole; the version when it is an unknown one.
    fn decode(block: &[u8]) -> Result<Option<Self>, u32> {
        Ok(open_header(block, HEADER_BYTES, MAGIC, VERSION)?.and_then(Self::read))
    }

    fn read(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            id: fields.u64()?,
            index: fields.u64()?,
            record_bytes: fields.u32()?,
            record_checksum: fields.u32()?,
        })
    }
}

#[cfg(test)]
mod tests;
