//! What operations on an open file do when they complete.

use std::io;

use super::content::Place;
use super::names::Inode;
use super::op::{HandleId, Outcome, Target, Work};
use super::state::State;
use crate::rt::{BLOCK_BYTES, Buf, BufMut, WriteMode};
use crate::sim::rng::Rng;

/// A write that completes.
struct Write<'a> {
    bufs: &'a [Buf],
    offset: u64,
    mode: WriteMode,
    direct: bool,
    submitted: u64,
}

impl State {
    pub(super) fn do_file(
        &mut self,
        inode: Inode,
        handle: HandleId,
        work: Work,
        seq: u64,
        fault: io::Result<()>,
        rng: &mut Rng,
    ) -> Outcome {
        match work {
            Work::Write { bufs, offset, mode } => {
                let direct = self
                    .handles
                    .get(&handle)
                    .is_some_and(|handle| handle.direct);
                let write = Write {
                    bufs: &bufs,
                    offset,
                    mode,
                    direct,
                    submitted: seq,
                };
                Outcome::Done(self.write(inode, &write, fault, rng))
            }
            Work::Read {
                mut buf,
                offset,
                len,
            } => {
                let result = fault.map(|()| self.read(inode, &mut buf, offset, len, rng));
                Outcome::Read(result, buf)
            }
            Work::Sync => Outcome::Done(self.sync(inode, seq, fault)),
            Work::Allocate { offset, len } => {
                let result = fault.and_then(|()| self.extend(inode, offset, len));
                Outcome::Done(result)
            }
            Work::SetLen(len) => Outcome::Done(fault.map(|()| self.set_len(inode, len))),
            _ => Outcome::Done(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn write(
        &mut self,
        inode: Inode,
        write: &Write<'_>,
        fault: io::Result<()>,
        rng: &mut Rng,
    ) -> io::Result<()> {
        if let Err(error) = fault {
            if error.kind() != io::ErrorKind::InvalidInput {
                self.write_some_blocks(inode, write, rng);
            }
            return Err(error);
        }
        let len: usize = write.bufs.iter().map(|buf| buf.len()).sum();
        self.extend(inode, write.offset, len as u64)?;
        let seq = self.next_seq();
        let Some(file) = self.inodes.get_mut(&inode) else {
            return Ok(());
        };
        for (at, buf) in write.pieces() {
            file.content.write(at, buf, seq, write.place());
        }
        self.unsettled.insert(inode);
        if write.mode == WriteMode::Durable {
            file.shapes.settle(seq);
            file.content.settle_cuts(seq);
            file.content.settle_range(write.offset, len, seq);
            match (self.model.fua, self.model.narrow_flush) {
                (true, _) => {}
                (false, true) => file.content.settle_all(write.submitted, true),
                (false, false) => self.flush_device(write.submitted),
            }
        }
        Ok(())
    }

    /// What a failed write leaves: any of its blocks, as far as the file reaches.
    fn write_some_blocks(&mut self, inode: Inode, write: &Write<'_>, rng: &mut Rng) {
        let seq = self.next_seq();
        let Some(file) = self.inodes.get_mut(&inode) else {
            return;
        };
        let size = file.shapes.current().size;
        for (mut at, buf) in write.pieces() {
            for block in buf.chunks(BLOCK_BYTES) {
                let reaches = at + block.len() as u64 <= size;
                if reaches && rng.coin() {
                    file.content.write(at, block, seq, write.place());
                }
                at += block.len() as u64;
            }
        }
        self.unsettled.insert(inode);
    }

    /// Applies a part of a write, for one that a killed process left behind.
    pub(super) fn write_blocks(&mut self, inode: Inode, offset: u64, bytes: &[u8]) {
        if self.extend(inode, offset, bytes.len() as u64).is_ok() {
            let seq = self.next_seq();
            if let Some(file) = self.inodes.get_mut(&inode) {
                file.content.write(offset, bytes, seq, Place::DeviceCache);
                self.unsettled.insert(inode);
            }
        }
    }

    fn flush_device(&mut self, seq: u64) {
        let inodes = &mut self.inodes;
        self.unsettled.retain(|inode| {
            inodes.get_mut(inode).is_some_and(|file| {
                file.content.settle_all(seq, true);
                file.content.is_pending()
            })
        });
    }

    fn read(
        &self,
        inode: Inode,
        buf: &mut BufMut,
        offset: u64,
        len: usize,
        rng: &mut Rng,
    ) -> usize {
        let Some(file) = self.inodes.get(&inode) else {
            return 0;
        };
        let left = file.shapes.current().size.saturating_sub(offset);
        let count = len
            .min(buf.room())
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let into = &mut buf.spare_mut()[..count];
        file.content.read(offset, into);
        self.mix_in_flight(inode, offset, into, rng);
        buf.advance(count);
        count
    }

    /// A read beside a write of the same bytes may see any of its blocks.
    fn mix_in_flight(&self, inode: Inode, offset: u64, into: &mut [u8], rng: &mut Rng) {
        for op in self.in_flight.values() {
            let (
                Target::Handle(handle),
                Work::Write {
                    bufs, offset: at, ..
                },
            ) = (&op.target, &op.work)
            else {
                continue;
            };
            if self
                .handles
                .get(handle)
                .is_none_or(|handle| handle.inode != inode)
            {
                continue;
            }
            let mut at = *at;
            for buf in bufs {
                overlay(into, offset, buf, at, rng);
                at += buf.len() as u64;
            }
        }
    }

    fn sync(&mut self, inode: Inode, submitted: u64, fault: io::Result<()>) -> io::Result<()> {
        let reaches_others = !self.model.fua && !self.model.narrow_flush;
        let Some(file) = self.inodes.get_mut(&inode) else {
            return fault;
        };
        if let Err(error) = fault {
            file.content.abandon(submitted);
            return Err(error);
        }
        file.sync(submitted);
        if reaches_others {
            self.flush_device(submitted);
        }
        Ok(())
    }

    /// Allocates a range and makes the file reach to its end.
    fn extend(&mut self, inode: Inode, offset: u64, len: u64) -> io::Result<()> {
        let seq = self.next_seq();
        let free = self.free_bytes();
        let Some(file) = self.inodes.get_mut(&inode) else {
            return Ok(());
        };
        if file.shapes.current().missing_bytes(offset, len) > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let shape = file.shapes.current();
        if shape.size < offset + len || shape.missing_bytes(offset, len) > 0 {
            file.shapes.change(seq, |shape| shape.extend(offset, len));
        }
        Ok(())
    }

    fn set_len(&mut self, inode: Inode, len: u64) {
        let seq = self.next_seq();
        if let Some(file) = self.inodes.get_mut(&inode) {
            if len < file.shapes.current().size {
                file.content.cut(len, seq);
                self.unsettled.insert(inode);
            }
            file.shapes.change(seq, |shape| shape.set_size(len));
        }
    }
}

impl Write<'_> {
    fn place(&self) -> Place {
        match self.direct {
            true => Place::DeviceCache,
            false => Place::PageCache,
        }
    }

    /// Its buffers, each with its place in the file.
    fn pieces(&self) -> impl Iterator<Item = (u64, &Buf)> {
        self.bufs.iter().scan(self.offset, |next, buf| {
            let at = *next;
            *next += buf.len() as u64;
            Some((at, buf))
        })
    }
}

/// Copies some blocks of `bytes`, which lie at `at`, over `into`, which lies at `offset`.
fn overlay(into: &mut [u8], offset: u64, bytes: &[u8], at: u64, rng: &mut Rng) {
    let end = (offset + into.len() as u64).min(at + bytes.len() as u64);
    let mut next = offset.max(at);
    while next < end {
        let count = (BLOCK_BYTES as u64 - next % BLOCK_BYTES as u64).min(end - next) as usize;
        if rng.coin() {
            let (to, from) = ((next - offset) as usize, (next - at) as usize);
            into[to..to + count].copy_from_slice(&bytes[from..from + count]);
        }
        next += count as u64;
    }
}
