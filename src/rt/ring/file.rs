//! Files on the ring.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use rustix::fs::FlockOperation;

use super::held::{Held, Pieces};
use super::{OpKind, Ring, count_of, is_transient};
use crate::rt::{BLOCK_BYTES, Buf, BufMut, DurableWrites, File, WriteMode, flush_error};

/// An open file of a ring.
#[derive(Clone)]
pub struct RingFile {
    ring: Ring,
    fd: Rc<OwnedFd>,
    direct: bool,
}

impl RingFile {
    pub(super) fn new(ring: Ring, fd: OwnedFd, direct: bool) -> Self {
        Self {
            ring,
            fd: Rc::new(fd),
            direct,
        }
    }

    /// Runs an operation without memory until it is not told to come again.
    async fn plain(self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            let held = Held::Fd(self.fd.clone());
            // SAFETY: such an entry has no pointers.
            let pending = unsafe { self.ring.start(entry.clone(), held, OpKind::Disk) };
            let (result, _) = pending.await;
            if !is_transient(result) {
                return count_of(result).map(drop);
            }
        }
    }

    /// fdatasync. Never repeated: a second one may succeed where the first has lost something.
    async fn flush(self) -> io::Result<()> {
        let entry = opcode::Fsync::new(self.target())
            .flags(types::FsyncFlags::DATASYNC)
            .build();
        let held = Held::Fd(self.fd.clone());
        // SAFETY: such an entry has no pointers.
        let pending = unsafe { self.ring.start(entry, held, OpKind::Disk) };
        let (result, _) = pending.await;
        count_of(result).map(drop).map_err(flush_error)
    }

    fn target(&self) -> types::Fd {
        types::Fd(self.fd.as_raw_fd())
    }

    fn check_aligned(&self, numbers: impl IntoIterator<Item = usize>) -> io::Result<()> {
        let aligned = |number: usize| number.is_multiple_of(BLOCK_BYTES);
        if self.direct && !numbers.into_iter().all(aligned) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "direct file operation that is not in whole, aligned blocks",
            ));
        }
        Ok(())
    }

    async fn write_durably(self, pieces: Pieces, offset: u64) -> io::Result<()> {
        match self.ring.durable_writes() {
            DurableWrites::Dsync => self.write_pieces(pieces, offset, libc::RWF_DSYNC).await,
            DurableWrites::Flush => {
                self.write_pieces(pieces, offset, 0).await?;
                self.clone().flush().await
            }
        }
    }

    async fn write_pieces(
        &self,
        mut pieces: Pieces,
        mut offset: u64,
        flags: i32,
    ) -> io::Result<()> {
        while !pieces.is_empty() {
            let entry = self.write_entry(&mut pieces, offset, flags);
            let held = Held::From(self.fd.clone(), pieces);
            // SAFETY: the entry points to the pieces' heap memory.
            let pending = unsafe { self.ring.start(entry, held, OpKind::Disk) };
            let (result, Held::From(_, back)) = pending.await else {
                unreachable!("an operation gives back what it held")
            };
            pieces = back;
            if is_transient(result) {
                continue;
            }
            let count = count_of(result)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            pieces.take(count);
            offset += count as u64;
        }
        Ok(())
    }

    fn write_entry(&self, pieces: &mut Pieces, offset: u64, flags: i32) -> squeue::Entry {
        if let Some(buf) = pieces.single() {
            if let Some(slot) = buf.registration() {
                let (start, len) = (buf.as_ptr(), buf.len() as u32);
                return opcode::WriteFixed::new(self.target(), start, len, slot)
                    .offset(offset)
                    .rw_flags(flags)
                    .build();
            }
            return opcode::Write::new(self.target(), buf.as_ptr(), buf.len() as u32)
                .offset(offset)
                .rw_flags(flags)
                .build();
        }
        let iovecs = pieces.iovecs();
        opcode::Writev::new(self.target(), iovecs.as_ptr(), iovecs.len() as u32)
            .offset(offset)
            .rw_flags(flags)
            .build()
    }

    fn read_entry(&self, buf: &mut BufMut, offset: u64, len: usize) -> squeue::Entry {
        let slot = buf.registration();
        let (start, len) = (buf.spare_mut().as_mut_ptr(), len as u32);
        match slot {
            Some(slot) => opcode::ReadFixed::new(self.target(), start, len, slot)
                .offset(offset)
                .build(),
            None => opcode::Read::new(self.target(), start, len)
                .offset(offset)
                .build(),
        }
    }

    async fn read_into(
        self,
        mut buf: BufMut,
        offset: u64,
        len: usize,
    ) -> (io::Result<usize>, BufMut) {
        let mut done = 0;
        while done < len {
            let entry = self.read_entry(&mut buf, offset + done as u64, len - done);
            let held = Held::Into(self.fd.clone(), buf);
            // SAFETY: the entry points to the buffer's memory, which lives behind a pointer.
            let pending = unsafe { self.ring.start(entry, held, OpKind::Disk) };
            let (result, Held::Into(_, back)) = pending.await else {
                unreachable!("an operation gives back what it held")
            };
            buf = back;
            match count_of(result) {
                Err(_) if is_transient(result) => {}
                Err(error) => return (Err(error), buf),
                Ok(count) => {
                    buf.advance(count);
                    done += count;
                    if count == 0 || self.check_aligned([count]).is_err() {
                        break;
                    }
                }
            }
        }
        (Ok(done), buf)
    }
}

impl File for RingFile {
    fn write_at(
        &self,
        bufs: Vec<Buf>,
        offset: u64,
        mode: WriteMode,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        async move {
            let numbers = bufs
                .iter()
                .flat_map(|buf| [buf.as_ptr() as usize, buf.len()]);
            file.check_aligned(numbers.chain([offset as usize]))?;
            let pieces = Pieces::new(bufs);
            match mode {
                WriteMode::Plain => file.write_pieces(pieces, offset, 0).await,
                WriteMode::Durable => file.write_durably(pieces, offset).await,
            }
        }
    }

    fn read_at(
        &self,
        mut buf: BufMut,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static {
        let file = self.clone();
        async move {
            let len = len.min(buf.room());
            let start = buf.spare_mut().as_ptr() as usize;
            match file.check_aligned([start, offset as usize, len]) {
                Ok(()) => file.read_into(buf, offset, len).await,
                Err(error) => (Err(error), buf),
            }
        }
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        self.clone().flush()
    }

    fn allocate(&self, offset: u64, len: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let entry = opcode::Fallocate::new(self.target(), len)
            .offset(offset)
            .build();
        self.clone().plain(entry)
    }

    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        async move {
            if file.ring.inner.features.ftruncate {
                let entry = opcode::Ftruncate::new(file.target(), len).build();
                return file.plain(entry).await;
            }
            Ok(rustix::fs::ftruncate(&*file.fd, len)?)
        }
    }

    fn has_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        // The end of the file counts as one, also where the file system knows no others.
        match rustix::fs::seek(&*self.fd, rustix::fs::SeekFrom::Hole(offset)) {
            Ok(hole) => Ok(hole < offset.saturating_add(len)),
            Err(rustix::io::Errno::NXIO) => Ok(len > 0),
            Err(error) => Err(error.into()),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&*self.fd)?.st_size as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&*self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
