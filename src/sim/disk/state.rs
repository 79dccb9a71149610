//! The disk's state, and what each operation does to it when it completes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::DiskModel;
use super::content::{Content, Place};
use super::fault::Faults;
use super::names::{Inode, Names};
use super::op::{HandleId, Op, OpId, Outcome, Slot, Target, Work};
use super::shape::{Shape, Shapes};
use crate::rt::{BLOCK_BYTES, Buf, BufMut, DiskSpace, WriteMode};
use crate::sim::rng::Rng;
use crate::sim::world::FIRST_WALL_CLOCK_MS;

/// Size that a disk without a limit says it has.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// Everything that outlives a process.
#[derive(Debug)]
pub(in crate::sim) struct State {
    pub(super) model: DiskModel,
    pub(super) capacity_bytes: Option<u64>,
    /// Where the next life's clock starts.
    pub(in crate::sim) wall_clock_ms: i64,
    pub(super) faults: Faults,
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<Inode, File>,
    pub(super) handles: BTreeMap<HandleId, Handle>,
    pub(super) in_flight: BTreeMap<OpId, Op>,
    /// Files with pending content.
    pub(super) unsettled: BTreeSet<Inode>,
    /// Numbers changes, operations, files and handles.
    next_seq: u64,
}

/// A file's bytes and shape.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) content: Content,
    pub(super) shapes: Shapes,
    pub(super) lock: Option<HandleId>,
    /// Open handles.
    pub(super) opens: u32,
    /// Names in the running system.
    pub(super) links: u32,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) inode: Inode,
    pub(super) path: PathBuf,
    pub(super) direct: bool,
    /// Whether the process still has it.
    pub(super) is_open: bool,
    pub(super) in_flight: u32,
}

impl State {
    pub(super) fn new(model: DiskModel) -> Self {
        Self {
            model,
            capacity_bytes: None,
            wall_clock_ms: FIRST_WALL_CLOCK_MS,
            faults: Faults::default(),
            names: Names::new(),
            inodes: BTreeMap::new(),
            handles: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            next_seq: 1,
        }
    }

    /// Takes an operation in. It does nothing before [`State::complete`].
    pub(in crate::sim) fn submit(&mut self, target: Target, mut work: Work, slot: Slot) -> OpId {
        if let Target::Handle(handle) = &target
            && let Some(handle) = self.handles.get_mut(handle)
        {
            handle.in_flight += 1;
            check_alignment(handle, &mut work);
        }
        let seq = self.next_seq();
        let op = Op {
            work,
            target,
            slot,
            seq,
            name_changes: self.names.change_count(),
        };
        self.in_flight.insert(OpId(seq), op);
        OpId(seq)
    }

    /// Does an operation. `None` when it is not in flight.
    pub(in crate::sim) fn complete(&mut self, id: OpId, rng: &mut Rng) -> Option<(Slot, Outcome)> {
        let op = self.in_flight.remove(&id)?;
        let fault = self.fault_of(&op);
        let outcome = match op.target {
            Target::Path(ref path) => self.do_named(path, &op, fault),
            Target::Handle(handle) => {
                let file = self.handles.get(&handle).map(|handle| handle.inode);
                let outcome = match file {
                    Some(inode) => self.do_file(inode, handle, op.work, op.seq, fault, rng),
                    None => Outcome::Done(Err(io::Error::other("the file is closed"))),
                };
                self.end_operation(handle);
                outcome
            }
        };
        Some((op.slot, outcome))
    }

    fn fault_of(&mut self, op: &Op) -> io::Result<()> {
        let path = match &op.target {
            Target::Path(path) => path,
            Target::Handle(handle) => match self.handles.get(handle) {
                Some(handle) => &handle.path,
                None => return Ok(()),
            },
        };
        self.faults.check(&op.work, path)
    }

    /// The process has dropped its last clone of a handle.
    pub(in crate::sim) fn close(&mut self, id: HandleId) {
        if let Some(handle) = self.handles.get_mut(&id) {
            handle.is_open = false;
            self.release_if_unused(id);
        }
    }

    pub(super) fn end_operation(&mut self, id: HandleId) {
        if let Some(handle) = self.handles.get_mut(&id) {
            handle.in_flight -= 1;
            self.release_if_unused(id);
        }
    }

    fn release_if_unused(&mut self, id: HandleId) {
        let is_unused = |handle: &Handle| !handle.is_open && handle.in_flight == 0;
        if !self.handles.get(&id).is_some_and(is_unused) {
            return;
        }
        let handle = self.handles.remove(&id);
        if let Some(file) = handle.and_then(|handle| self.inodes.get_mut(&handle.inode)) {
            file.opens -= 1;
            file.lock = file.lock.filter(|holder| *holder != id);
        }
    }

    pub(in crate::sim) fn try_lock(&mut self, id: HandleId) -> io::Result<bool> {
        let file = self.file_of(id)?;
        let holder = *file.lock.get_or_insert(id);
        Ok(holder == id)
    }

    pub(in crate::sim) fn size(&mut self, id: HandleId) -> io::Result<u64> {
        Ok(self.file_of(id)?.shapes.current().size)
    }

    fn file_of(&mut self, id: HandleId) -> io::Result<&mut File> {
        let handle = self.handles.get(&id);
        let file = handle.and_then(|handle| self.inodes.get_mut(&handle.inode));
        file.ok_or_else(|| io::Error::other("the file is closed"))
    }

    fn do_file(
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
        let len: usize = write.bufs.iter().map(|buf| buf.len()).sum();
        let result = fault.and_then(|()| self.extend(inode, write.offset, len as u64));
        let seq = self.next_seq();
        let fua = self.model.fua;
        let Some(file) = self.inodes.get_mut(&inode) else {
            return result;
        };
        let place = if write.direct {
            Place::DeviceCache
        } else {
            Place::PageCache
        };
        let mut at = write.offset;
        for buf in write.bufs {
            if result.is_ok() || rng.coin() {
                file.content.write(at, buf, seq, place);
            }
            at += buf.len() as u64;
        }
        if result.is_ok() && write.mode == WriteMode::Durable {
            file.shapes.settle(seq);
            file.content.settle_cuts(seq);
            file.content.settle_range(write.offset, len, seq);
            if !fua {
                self.flush_device(write.submitted);
            }
        }
        self.unsettled.insert(inode);
        result
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
        let fua = self.model.fua;
        let Some(file) = self.inodes.get_mut(&inode) else {
            return fault;
        };
        if let Err(error) = fault {
            file.content.abandon(submitted);
            return Err(error);
        }
        file.shapes.settle(submitted);
        file.content.settle_cuts(submitted);
        file.content.settle_all(submitted, false);
        if !fua {
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

    pub(in crate::sim) fn model(&self) -> &DiskModel {
        &self.model
    }

    /// Room of the file system.
    pub(in crate::sim) fn space(&self) -> DiskSpace {
        let total_bytes = self.capacity_bytes.unwrap_or(UNLIMITED_BYTES);
        DiskSpace {
            total_bytes,
            available_bytes: total_bytes.saturating_sub(self.used_bytes()),
        }
    }

    /// Bytes that can still be allocated.
    pub(super) fn free_bytes(&self) -> u64 {
        let Some(capacity) = self.capacity_bytes else {
            return u64::MAX;
        };
        capacity.saturating_sub(self.used_bytes())
    }

    /// Bytes allocated to files that have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let files = self
            .inodes
            .values()
            .filter(|file| file.links + file.opens > 0);
        files
            .map(|file| file.shapes.current().allocated_bytes())
            .sum()
    }

    /// Whether any file has a block that takes memory.
    #[cfg(test)]
    pub(in crate::sim) fn inodes_hold_pages(&self) -> bool {
        self.inodes
            .values()
            .any(|file| file.content.page_count() > 0)
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// The running system's shape of a file.
    pub(super) fn shape(&self, inode: Inode) -> Option<&Shape> {
        Some(self.inodes.get(&inode)?.shapes.current())
    }
}

struct Write<'a> {
    bufs: &'a [Buf],
    offset: u64,
    mode: WriteMode,
    direct: bool,
    submitted: u64,
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

/// Direct files take whole, aligned blocks only; the kernel would answer EINVAL, or not.
fn check_alignment(handle: &Handle, work: &mut Work) {
    if !handle.direct {
        return;
    }
    let is_aligned = |number: u64| number.is_multiple_of(BLOCK_BYTES as u64);
    let is_fine = match work {
        Work::Write { bufs, offset, .. } => {
            is_aligned(*offset)
                && bufs.iter().all(|buf| {
                    is_aligned(buf.len() as u64) && is_aligned(buf.as_ptr().addr() as u64)
                })
        }
        Work::Read { buf, offset, len } => {
            let count = (*len).min(buf.room());
            let address = buf.spare_mut().as_ptr().addr();
            is_aligned(*offset) && is_aligned(count as u64) && is_aligned(address as u64)
        }
        _ => true,
    };
    assert!(
        is_fine,
        "not aligned to blocks: {work:?} on direct file {}",
        handle.path.display()
    );
}
