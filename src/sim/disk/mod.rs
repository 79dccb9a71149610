//! A disk that outlives the processes that use it, and does to them what a real one may.
//!
//! **Content.** A completed plain write is visible, but lost in any part when power is lost: each
//! 512-byte sector for itself is as before or as after it, whatever was written later. The same
//! holds for a write in flight; with [`DiskModel::shred`] a block of either may be garbage too. A
//! durable write has its own blocks on the medium when it completes; a device without FUA
//! ([`DiskModel::fua`]) does it by flushing its cache, and with it what had completed before, of all
//! files or of this one ([`DiskModel::narrow_flush`]). A sync does it for everything of the file that
//! had completed when it was submitted, and where it flushes a whole device, for the others too.
//!
//! **Length and allocation** change in order per file. A power cut keeps some first part of the
//! changes since the last sync, or durable write, of that file. Blocks behind the surviving length
//! are zeros when the file grows again.
//!
//! **Names** change in one order for the whole disk, as with one metadata journal. A power cut keeps
//! some first part of the changes; a `sync_dir` has made the directory's changes durable and
//! so all that came before them. Syncing a file does not save its name (on ext4 it often does). A sync of
//! the file system does all of this, for what had completed when it was submitted.
//!
//! **Room.** What is to be allocated beyond the capacity fails, as does a name beyond the number of
//! those that there may be. Where not one block is free, a name that is added may fail as well, as its
//! directory may need one.
//!
//! A killed process's operations in flight are done, not done, done in part, or still in flight in
//! the next life; a lock is held as long as one of them is.

mod content;
mod crash;
mod cut;
mod data;
mod fault;
mod names;
pub(super) mod op;
mod shape;
mod state;
mod tree;

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub use fault::{EIO, EMFILE, ENOSPC, Fault, FaultOn};
pub(super) use state::State;

use self::content::Place;
use super::rng::{Rng, mix};

/// What kind of device it is.
#[derive(Clone, Debug)]
pub struct DiskModel {
    /// Whether a durable write makes just itself durable. Otherwise it flushes the whole device.
    pub fua: bool,
    /// Whether a flush makes only what was written to its own file durable, as where files lie on
    /// different devices. Otherwise it empties the cache of the one device.
    pub narrow_flush: bool,
    /// Whether blocks that were being written when the power went may be garbage.
    pub shred: bool,
    /// How long an operation takes.
    pub latency: Range<Duration>,
    /// One operation in so many takes a hundred times as long; 0 is none.
    pub slow_one_in: u64,
    /// Whether an operation on a direct file that is not in whole, aligned blocks is a panic, which
    /// points at the mistake, or the kernel's error.
    pub misaligned_panics: bool,
}

impl Default for DiskModel {
    fn default() -> Self {
        Self {
            fua: true,
            narrow_flush: false,
            shred: true,
            latency: Duration::from_micros(10)..Duration::from_micros(300),
            slow_one_in: 20,
            misaligned_panics: true,
        }
    }
}

impl DiskModel {
    /// One of the models, by seed.
    pub fn any(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let longest_us = [20, 300, 5_000][rng.index(3)];
        Self {
            fua: rng.coin(),
            shred: rng.coin(),
            latency: Duration::from_micros(10)..Duration::from_micros(longest_us),
            slow_one_in: [0, 20, 5][rng.index(3)],
            misaligned_panics: true,
            narrow_flush: rng.coin(),
        }
    }
}

impl DiskModel {
    pub(super) fn draw_latency(&self, rng: &mut Rng) -> Duration {
        let spread = self.latency.end.saturating_sub(self.latency.start);
        let nanos = rng.below(spread.as_nanos().max(1) as u64);
        let latency = self.latency.start + Duration::from_nanos(nanos);
        let is_slow = self.slow_one_in > 0 && rng.one_in(self.slow_one_in);
        latency * if is_slow { 100 } else { 1 }
    }
}

/// A disk. Clones are the same disk; it stays when a [`crate::sim::Sim`] ends.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

impl SimDisk {
    /// An empty disk of unlimited size.
    pub fn new(model: DiskModel) -> Self {
        Self {
            state: Rc::new(RefCell::new(State::new(model))),
        }
    }

    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Limits what can be allocated, or lifts the limit. What is beyond it stays.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Limits how many files and directories there may be, or lifts the limit.
    pub fn set_most_names(&self, count: Option<usize>) {
        self.state().most_names = count;
    }

    /// Files and directories.
    pub fn name_count(&self) -> usize {
        self.state().names.count()
    }

    /// Whether room or names are limited.
    pub fn is_limited(&self) -> bool {
        let state = self.state();
        state.capacity_bytes.is_some() || state.most_names.is_some()
    }

    /// From now on operations take so many times as long as the model says.
    pub fn set_slowness(&self, times: u32) {
        self.state().slowness = times;
    }

    /// Bytes allocated to files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Makes operations fail. Several faults may be planned; the first that fits an operation
    /// decides about it.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.plan(fault);
    }

    /// From now on, writes to files whose path contains `path` take `latency`, and stay in flight
    /// when their process is killed. Replaces what was stalled before.
    pub fn stall_writes(&self, path: &str, latency: Duration) {
        self.state().faults.stall(Some((path.to_owned(), latency)));
    }

    /// Writes take as long as others again.
    pub fn clear_stall(&self) {
        self.state().faults.stall(None);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Every file with its length, sorted by path.
    pub fn list(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let files = state.names.files().into_iter();
        let sized =
            files.map(|(path, inode)| (path, state.shape(inode).map_or(0, |shape| shape.size)));
        sized.collect()
    }

    /// A file's content as the running system sees it; `None` when there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let place = state.names.place(path.as_ref()).ok()?;
        let file = state.inodes.get(&state.names.get(&place)?.inode)?;
        let mut bytes = vec![0; usize::try_from(file.shapes.current().size).ok()?];
        file.content.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts a file there, durably, with its directories; replaces the content of one that exists.
    ///
    /// # Errors
    /// When the path is that of a directory, or leads through a file.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        let mut state = self.state();
        for dir in path
            .ancestors()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            state.create_dir(dir)?;
        }
        let place = state.names.place(path)?;
        let inode = match state.names.get(&place) {
            Some(entry) if entry.is_dir => return Err(io::ErrorKind::IsADirectory.into()),
            Some(entry) => entry.inode,
            None => state.create_file(path)?,
        };
        let name_changes = state.names.pending_count();
        state.names.settle(name_changes);
        let seq = state.next_seq();
        if let Some(file) = state.inodes.get_mut(&inode) {
            file.content.cut(0, seq);
            file.shapes.change(seq, |shape| {
                shape.set_size(0);
                shape.extend(0, bytes.len() as u64);
            });
            file.shapes.settle(seq);
            file.content.settle_cuts(seq);
            file.content.write(0, bytes, seq, Place::DeviceCache);
            file.content.settle_all(seq, false);
        }
        Ok(())
    }

    /// Changes bytes of a file in place (its length stays), on the medium and for readers.
    ///
    /// # Errors
    /// When there is no such file, or it is shorter.
    pub fn edit(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        let mut all = self.read_file(path).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(bytes.len());
        let part = all.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        part.copy_from_slice(bytes);
        let mut state = self.state();
        let place = state.names.place(path)?;
        let inode = state
            .names
            .get(&place)
            .ok_or(io::ErrorKind::NotFound)?
            .inode;
        let seq = state.next_seq();
        if let Some(file) = state.inodes.get_mut(&inode) {
            file.content.write(offset, bytes, seq, Place::DeviceCache);
            file.content.settle_range(offset, bytes.len(), seq);
        }
        Ok(())
    }

    /// Inverts every bit of a range of a file, as [`SimDisk::edit`] does.
    ///
    /// # Errors
    /// As with [`SimDisk::edit`].
    pub fn corrupt(&self, path: impl AsRef<Path>, range: Range<u64>) -> io::Result<()> {
        let path = path.as_ref();
        let all = self.read_file(path).ok_or(io::ErrorKind::NotFound)?;
        let bytes = all.get(range.start as usize..range.end as usize);
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        self.edit(path, range.start, &inverted)
    }

    /// Removes a file, durably.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.state();
        state.remove_file(path.as_ref())?;
        let name_changes = state.names.pending_count();
        state.names.settle(name_changes);
        Ok(())
    }

    /// A number that differs when paths, lengths or contents differ.
    pub fn hash(&self) -> u64 {
        let mut hash = 0;
        let mut add = |bits: u64| hash = mix(hash ^ bits).wrapping_add(bits);
        for (path, _) in self.list() {
            let bytes = self.read_file(&path).unwrap_or_default();
            for part in [path.as_bytes(), &bytes] {
                add(part.len() as u64);
                add(u64::from(crc32c::crc32c(part)));
            }
        }
        hash
    }
}
