//! Directories: names to inodes, and which of their changes a power cut may take back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// Number of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) u64);

/// The root directory; it always exists.
pub(super) const ROOT: Inode = Inode(0);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: Inode,
    pub(super) is_dir: bool,
}

/// A name's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: Inode,
    pub(super) name: String,
}

/// One atomic change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Link(Place, Entry),
    Unlink(Place),
    Rename { from: Place, to: Place },
}

/// The running system's names, and the medium's: the latter with any number of the first changes
/// since, as a file system with one ordered metadata journal would leave them.
#[derive(Debug)]
pub(super) struct Names {
    current: Tree,
    medium: Tree,
    pending: Vec<Change>,
    settled_count: usize,
}

#[derive(Clone, Debug)]
struct Tree {
    dirs: BTreeMap<Inode, BTreeMap<String, Entry>>,
}

impl Names {
    pub(super) fn new() -> Self {
        let tree = Tree {
            dirs: BTreeMap::from([(ROOT, BTreeMap::new())]),
        };
        Self {
            current: tree.clone(),
            medium: tree,
            pending: Vec::new(),
            settled_count: 0,
        }
    }

    /// The directory that `path` names a child of, and the child's name.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(Place {
            dir,
            name: name.to_owned(),
        })
    }

    /// The directory at `path`.
    pub(super) fn dir(&self, path: &Path) -> io::Result<Inode> {
        let mut dir = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                let entries = self.entries(dir)?;
                let entry = entries.get(name).ok_or(io::ErrorKind::NotFound)?;
                if !entry.is_dir {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                dir = entry.inode;
            }
        }
        Ok(dir)
    }

    pub(super) fn get(&self, place: &Place) -> Option<Entry> {
        self.current.dirs.get(&place.dir)?.get(&place.name).copied()
    }

    pub(super) fn entries(&self, dir: Inode) -> io::Result<&BTreeMap<String, Entry>> {
        let entries = self.current.dirs.get(&dir);
        entries.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Changes the running system's names.
    pub(super) fn change(&mut self, change: Change) {
        self.current.apply(&change);
        self.pending.push(change);
    }

    /// Makes the changes of a directory durable, and with them every earlier one, as far as they
    /// are among the first `change_count` ever made.
    pub(super) fn sync(&mut self, dir: Inode, change_count: usize) {
        let among = change_count.saturating_sub(self.settled_count);
        let among = &self.pending[..among.min(self.pending.len())];
        if let Some(last) = among.iter().rposition(|change| change.touches(dir)) {
            self.settle(last + 1);
        }
    }

    /// Makes all changes durable that are among the first `change_count` ever made.
    pub(super) fn sync_all(&mut self, change_count: usize) {
        let among = change_count.saturating_sub(self.settled_count);
        self.settle(among.min(self.pending.len()));
    }

    /// Number of changes ever made.
    pub(super) fn change_count(&self) -> usize {
        self.settled_count + self.pending.len()
    }

    /// Number of changes that are not durable.
    pub(super) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Makes the first changes durable.
    pub(super) fn settle(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            self.medium.apply(&change);
        }
        self.settled_count += count;
    }

    /// The power goes after this many changes have reached the medium.
    pub(super) fn power_cut(&mut self, surviving: usize) {
        self.settle(surviving);
        self.pending.clear();
        self.current = self.medium.clone();
    }

    /// Files and directories of the running system.
    pub(super) fn count(&self) -> usize {
        self.current.dirs.values().map(BTreeMap::len).sum()
    }

    /// Every file of the running system with its path, sorted.
    pub(super) fn files(&self) -> Vec<(String, Inode)> {
        let mut files = Vec::new();
        self.collect(ROOT, "", &mut files);
        files
    }

    fn collect(&self, dir: Inode, prefix: &str, files: &mut Vec<(String, Inode)>) {
        for (name, entry) in self.current.dirs.get(&dir).into_iter().flatten() {
            let path = format!("{prefix}/{name}");
            if entry.is_dir {
                self.collect(entry.inode, &path, files);
            } else {
                files.push((path, entry.inode));
            }
        }
    }
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(place, entry) => {
                if entry.is_dir {
                    self.dirs.insert(entry.inode, BTreeMap::new());
                }
                self.insert(place, *entry);
            }
            Change::Unlink(place) => {
                if let Some(entry) = self.remove(place) {
                    self.dirs.remove(&entry.inode);
                }
            }
            Change::Rename { from, to } => {
                if let Some(entry) = self.remove(from) {
                    self.insert(to, entry);
                }
            }
        }
    }

    fn insert(&mut self, place: &Place, entry: Entry) {
        if let Some(dir) = self.dirs.get_mut(&place.dir) {
            dir.insert(place.name.clone(), entry);
        }
    }

    fn remove(&mut self, place: &Place) -> Option<Entry> {
        self.dirs.get_mut(&place.dir)?.remove(&place.name)
    }
}

impl Change {
    fn touches(&self, dir: Inode) -> bool {
        match self {
            Self::Link(place, _) | Self::Unlink(place) => place.dir == dir,
            Self::Rename { from, to } => from.dir == dir || to.dir == dir,
        }
    }
}
