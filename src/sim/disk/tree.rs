//! What operations on names do.

use std::io;
use std::path::Path;

use super::names::{Change, Entry, Inode};
use super::op::{HandleId, Op, Outcome, Work};
use super::state::{File, Handle, State};
use crate::rt::{BLOCK_BYTES, Create, DirEntry, OpenMode};
use crate::sim::rng::Rng;

impl State {
    pub(super) fn do_named(&mut self, path: &Path, op: &Op, fault: io::Result<()>) -> Outcome {
        match &op.work {
            Work::Open { mode } => Outcome::Opened(fault.and_then(|()| self.open(path, *mode))),
            Work::SyncFileSystem => Outcome::Done(self.sync_file_system(path, op, fault)),
            Work::ReadDir => Outcome::Entries(fault.and_then(|()| self.read_dir(path))),
            work => Outcome::Done(fault.and_then(|()| match work {
                Work::Rename { to } => self.rename(path, to),
                Work::RemoveFile => self.remove_file(path),
                Work::CreateDir => self.create_dir(path),
                Work::RemoveDir => self.remove_dir(path),
                Work::SyncDir => self.sync_dir(path, op.name_changes),
                _ => Err(io::ErrorKind::Unsupported.into()),
            })),
        }
    }

    /// Fails where the operation would add a name, and there is no room for one.
    pub(super) fn check_names_fit(
        &self,
        path: &Path,
        work: &Work,
        rng: &mut Rng,
    ) -> io::Result<()> {
        let is_there = |path| {
            let place = self.names.place(path);
            place.is_ok_and(|place| self.names.get(&place).is_some())
        };
        let (adds_name, adds_inode) = match work {
            Work::Open { mode } if mode.create != Create::Never => (!is_there(path), true),
            Work::CreateDir => (!is_there(path), true),
            Work::Rename { to } => (!is_there(to), false),
            _ => (false, false),
        };
        let is_most = |most| adds_inode && self.names.count() >= most;
        let mut is_full = || self.free_bytes() < BLOCK_BYTES as u64 && rng.coin();
        match adds_name && (self.most_names.is_some_and(is_most) || is_full()) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<HandleId> {
        let place = self.names.place(path)?;
        let inode = match (self.names.get(&place), mode.create) {
            (Some(_), Create::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(entry), _) if entry.is_dir => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(entry), _) => entry.inode,
            (None, Create::Never) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => self.create_file(path)?,
        };
        let id = HandleId(self.next_seq());
        self.inodes.entry(inode).or_default().opens += 1;
        let handle = Handle {
            inode,
            path: path.to_owned(),
            direct: mode.direct,
            is_open: true,
            in_flight: 0,
        };
        self.handles.insert(id, handle);
        Ok(id)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Inode> {
        let place = self.names.place(path)?;
        let inode = Inode(self.next_seq());
        let entry = Entry {
            inode,
            is_dir: false,
        };
        self.names.change(Change::Link(place, entry));
        let file = File {
            links: 1,
            ..File::default()
        };
        self.inodes.insert(inode, file);
        Ok(inode)
    }

    fn unlinked(&mut self, inode: Inode) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.links -= 1;
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.names.place(from)?, self.names.place(to)?);
        let moved = self.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        if from == to {
            return Ok(());
        }
        match self.names.get(&to) {
            None => {}
            Some(entry) if entry.is_dir => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Some(_) if moved.is_dir => return Err(io::ErrorKind::NotADirectory.into()),
            Some(entry) => self.unlinked(entry.inode),
        }
        self.names.change(Change::Rename { from, to });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let place = self.names.place(path)?;
        let entry = self.names.get(&place).ok_or(io::ErrorKind::NotFound)?;
        if entry.is_dir {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.unlinked(entry.inode);
        self.names.change(Change::Unlink(place));
        Ok(())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.names.dir(path).is_ok() {
            return Ok(());
        }
        let place = self.names.place(path)?;
        if self.names.get(&place).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Inode(self.next_seq());
        let entry = Entry {
            inode,
            is_dir: true,
        };
        self.names.change(Change::Link(place, entry));
        Ok(())
    }

    fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.names.dir(path)?;
        if !self.names.entries(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let place = self.names.place(path)?;
        self.names.change(Change::Unlink(place));
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let entries = self.names.entries(self.names.dir(path)?)?;
        let listed = entries.iter().map(|(name, entry)| DirEntry {
            name: name.clone(),
            is_dir: entry.is_dir,
        });
        Ok(listed.collect())
    }

    fn sync_file_system(&mut self, path: &Path, op: &Op, fault: io::Result<()>) -> io::Result<()> {
        let place = self.names.place(path)?;
        self.names.get(&place).ok_or(io::ErrorKind::NotFound)?;
        for file in self.inodes.values_mut() {
            match fault {
                Ok(()) => file.sync(op.seq),
                Err(_) => file.content.abandon(op.seq),
            }
        }
        fault?;
        self.names.sync_all(op.name_changes);
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path, name_changes: usize) -> io::Result<()> {
        let dir = self.names.dir(path)?;
        self.names.sync(dir, name_changes);
        Ok(())
    }
}
