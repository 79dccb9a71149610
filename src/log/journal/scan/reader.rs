//! Reading a ring of journal files in large pieces.

use std::io;
use std::path::{Path, PathBuf};

use super::error::ScanError;
use super::write::front_is_intact;
use crate::log::files::lock::open_settled;
use crate::log::files::run::RunId;
use crate::log::journal::JournalIdentity;
use crate::log::journal::files::path_of;
use crate::log::journal::format::{HEADER_BYTES, Header};
use crate::log::journal::options::LONGEST_WRITE_BYTES;
use crate::log::journal::ring::Geometry;
use crate::log::rules::{Rule, holds};
use crate::model::{NodeId, ShardIndex};
use crate::rt::{BLOCK_BYTES, Buf, File, OpenMode, Runtime};

const READ_BYTES: u64 = 1 << 20;

/// The files of a ring, and the piece that was read last.
pub(super) struct RingReader<R: Runtime> {
    rt: R,
    identity: JournalIdentity,
    geometry: Geometry,
    files: Vec<(PathBuf, R::File)>,
    piece: Option<Piece>,
}

/// What was read at once. Behind the end of its file it covers more than it has, so that the part of a
/// journal that was not prepared yet, nearly all of a fresh one, is looked at once per piece.
struct Piece {
    start: u64,
    covers_bytes: u64,
    bytes: Buf,
}

impl Piece {
    /// `len` bytes from `address` on, less at the end of the file; none where it does not reach.
    fn part(&self, address: u64, len: usize) -> Option<Buf> {
        let from = address.checked_sub(self.start)?;
        let to = from.checked_add(len as u64)?;
        let at = |byte: u64| (byte as usize).min(self.bytes.len());
        (to <= self.covers_bytes).then(|| self.bytes.slice(at(from)..at(to)))
    }
}

/// Waits for the locks of whoever wrote the files of a journal, and flushes them. From then on nobody
/// writes to them, until a later run is committed.
pub async fn settle<R: Runtime>(rt: &R, dir: &Path, geometry: Geometry) -> Result<(), ScanError> {
    for index in 0..geometry.file_count {
        let path = path_of(dir, index);
        let opened = open_settled(rt, &path, OpenMode::DIRECT).await;
        opened.map_err(|error| not_opened(error, &path, geometry))?;
    }
    Ok(())
}

fn not_opened(error: io::Error, path: &Path, geometry: Geometry) -> ScanError {
    match error.kind() {
        io::ErrorKind::NotFound => ScanError::Missing {
            path: path.to_owned(),
            file_bytes: geometry.file_bytes,
        },
        _ => error.into(),
    }
}

impl<R: Runtime> RingReader<R> {
    pub async fn open(
        rt: &R,
        dir: &Path,
        identity: JournalIdentity,
        geometry: Geometry,
    ) -> Result<Self, ScanError> {
        let mut files = Vec::new();
        for index in 0..geometry.file_count {
            let path = path_of(dir, index);
            let opened = rt.open(&path, OpenMode::DIRECT).await;
            let file = opened.map_err(|error| not_opened(error, &path, geometry))?;
            files.push((path, file));
        }
        Ok(Self {
            rt: rt.clone(),
            identity,
            geometry,
            files,
            piece: None,
        })
    }

    /// `len` bytes from `address` on, less at the end of a file.
    pub async fn bytes(&mut self, address: u64, len: usize) -> io::Result<Buf> {
        let in_file = self.geometry.rest_of_file(address);
        let len = len.min(in_file as usize);
        if let Some(found) = self
            .piece
            .as_ref()
            .and_then(|piece| piece.part(address, len))
        {
            return Ok(found);
        }
        let (index, offset) = self.geometry.place(address);
        let wanted = READ_BYTES.max(len as u64).min(in_file) as usize;
        let wanted = wanted.next_multiple_of(BLOCK_BYTES);
        // Give the last piece back before asking for the next one.
        self.piece = None;
        let buffer = self.rt.arena().alloc(wanted).map_err(io::Error::other)?;
        let Some((_, file)) = self.files.get(index) else {
            return Ok(buffer.freeze());
        };
        let (read, buffer) = file.read_at(buffer, offset, wanted).await;
        read?;
        let piece = Piece {
            start: address,
            covers_bytes: wanted as u64,
            bytes: buffer.freeze(),
        };
        let found = piece.bytes.slice(0..len.min(piece.bytes.len()));
        self.piece = Some(piece);
        Ok(found)
    }

    /// The whole header of a write of this run at `address`, with everything up to its table's
    /// end.
    pub async fn header_at(&mut self, address: u64) -> io::Result<Option<(Header, Buf)>> {
        let Some((header, front)) = self.any_header_at(address).await? else {
            return Ok(None);
        };
        let same_run = self.is_of_run(&header) || !holds(Rule::RunCheck);
        Ok((same_run && header.address == address).then_some((header, front)))
    }

    /// The same of any run.
    async fn any_header_at(&mut self, address: u64) -> io::Result<Option<(Header, Buf)>> {
        let block = self.bytes(address, BLOCK_BYTES).await?;
        let Some((header, _)) = Header::decode(&block) else {
            return Ok(None);
        };
        let JournalIdentity { node, shard, .. } = self.identity;
        let ours = header.identity.node == node && header.identity.shard == shard;
        let longest = self
            .geometry
            .rest_of_file(address)
            .min(LONGEST_WRITE_BYTES as u64);
        if !ours || header.write_bytes() as u64 > longest {
            return Ok(None);
        }
        let front = self.bytes(address, header.front_bytes()).await?;
        Ok(
            (front.len() >= HEADER_BYTES && front_is_intact(&header, &front))
                .then_some((header, front)),
        )
    }

    /// Fails when there is no place for the write `sequence`, which is not found at `address`: only
    /// what was prepared is written to, and more is prepared than is ever written, so there was one.
    pub async fn check_room(&mut self, address: u64, sequence: u64) -> Result<(), ScanError> {
        let block = self.bytes(address, BLOCK_BYTES).await?;
        let claimed = match Header::decode(&block) {
            Some((header, _)) if self.is_of_run(&header) && header.sequence == sequence => {
                header.write_bytes() as u64
            }
            _ => BLOCK_BYTES as u64,
        };
        let in_file = self.geometry.rest_of_file(address);
        self.check_size(address, claimed.min(in_file))?;
        match in_file < self.geometry.usual_write_bytes() {
            true => self.check_size(self.geometry.next_file(address), BLOCK_BYTES as u64),
            false => Ok(()),
        }
    }

    fn check_size(&self, address: u64, bytes: u64) -> Result<(), ScanError> {
        let (index, offset) = self.geometry.place(address);
        match self.files.get(index) {
            Some((path, file)) if file.size()? < offset + bytes => Err(ScanError::Short {
                path: path.clone(),
                bytes: file.size()?,
                file_bytes: self.geometry.file_bytes,
            }),
            _ => Ok(()),
        }
    }

    fn is_of_run(&self, header: &Header) -> bool {
        header.identity.run == self.identity.run
    }

    /// Whose journal it is, when a write of this run says that it is another's, at its front or at
    /// `start`. Only where its files were brought elsewhere can there be one: runs have random ids.
    pub async fn other_owner(&mut self, start: u64) -> io::Result<Option<(NodeId, ShardIndex)>> {
        for address in [start, 0] {
            let block = self.bytes(address, BLOCK_BYTES).await?;
            if let Some((header, _)) = Header::decode(&block)
                && self.is_of_run(&header)
                && header.identity != self.identity
            {
                return Ok(Some((header.identity.node, header.identity.shard)));
            }
        }
        Ok(None)
    }

    /// A later run than this one, when it has written: its first write is always at the front.
    pub async fn later_run(&mut self) -> io::Result<Option<RunId>> {
        let first = self.any_header_at(0).await?;
        let run = first.map(|(header, _)| header.identity.run);
        Ok(run.filter(|run| run.number > self.identity.run.number && holds(Rule::RunCheck)))
    }
}
