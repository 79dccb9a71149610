//! The disk's state, and what each operation does to it when it completes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DiskModel;
use super::content::Content;
use super::fault::Faults;
use super::names::{Inode, Names};
use super::op::{HandleId, Op, OpId, Outcome, Slot, Target, Work};
use super::shape::{Shape, Shapes};
use crate::rt::DiskSpace;
use crate::sim::process::FIRST_WALL_CLOCK_MS;
use crate::sim::rng::Rng;

/// Size that a disk without a limit says it has.
const UNLIMITED_BYTES: u64 = 1 << 40;

/// Everything that outlives a process.
#[derive(Debug)]
pub(in crate::sim) struct State {
    pub(super) model: DiskModel,
    pub(super) capacity_bytes: Option<u64>,
    /// Files and directories that there may be.
    pub(super) most_names: Option<usize>,
    /// How many times as long as the model says an operation takes.
    pub(super) slowness: u32,
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

impl File {
    /// Everything is durable that had completed before `submitted`.
    pub(super) fn sync(&mut self, submitted: u64) {
        self.shapes.settle(submitted);
        self.content.settle_cuts(submitted);
        self.content.settle_all(submitted, false);
    }
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
            most_names: None,
            slowness: 1,
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
        let mut is_misaligned = false;
        if let Target::Handle(handle) = &target
            && let Some(handle) = self.handles.get_mut(handle)
        {
            handle.in_flight += 1;
            is_misaligned = handle.direct && !work.is_aligned();
            assert!(
                !is_misaligned || !self.model.misaligned_panics,
                "not aligned to blocks: {work:?} on direct file {}",
                handle.path.display()
            );
        }
        let seq = self.next_seq();
        let op = Op {
            work,
            target,
            slot,
            is_misaligned,
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
            Target::Path(ref path) => {
                let fault = fault.and_then(|()| self.check_names_fit(path, &op.work, rng));
                self.do_named(path, &op, fault)
            }
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
        if op.is_misaligned {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = path_of(&self.handles, &op.target);
        self.faults.check(&op.work, path)
    }

    /// How long an operation in flight is made to take, if it is.
    pub(in crate::sim) fn stall_of(&self, id: OpId) -> Option<Duration> {
        let op = self.in_flight.get(&id)?;
        let path = path_of(&self.handles, &op.target);
        self.faults.stall_of(&op.work, path)
    }

    /// An operation in flight in words.
    pub(in crate::sim) fn describe(&self, id: OpId) -> String {
        let Some(op) = self.in_flight.get(&id) else {
            return String::new();
        };
        let path = path_of(&self.handles, &op.target);
        format!("{} {}", path.display(), op.work)
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

    pub(in crate::sim) fn has_hole(
        &mut self,
        id: HandleId,
        offset: u64,
        len: u64,
    ) -> io::Result<bool> {
        let shape = self.file_of(id)?.shapes.current();
        Ok(shape.missing_bytes(offset, len) > 0 || shape.size < offset + len)
    }

    pub(in crate::sim) fn size(&mut self, id: HandleId) -> io::Result<u64> {
        Ok(self.file_of(id)?.shapes.current().size)
    }

    fn file_of(&mut self, id: HandleId) -> io::Result<&mut File> {
        let handle = self.handles.get(&id);
        let file = handle.and_then(|handle| self.inodes.get_mut(&handle.inode));
        file.ok_or_else(|| io::Error::other("the file is closed"))
    }

    /// How long the next operation takes.
    pub(in crate::sim) fn draw_latency(&self, rng: &mut Rng) -> Duration {
        self.model.draw_latency(rng) * self.slowness
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

fn path_of<'a>(handles: &'a BTreeMap<HandleId, Handle>, target: &'a Target) -> &'a Path {
    match target {
        Target::Path(path) => path,
        Target::Handle(handle) => handles
            .get(handle)
            .map_or(Path::new(""), |handle| &handle.path),
    }
}
