//! Operations on names: open, rename, remove, directories.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{opcode, squeue, types};

use super::held::Held;
use super::{OpKind, Ring, RingFile, count_of, is_transient, own};
use crate::rt::{Create, DirEntry, DiskSpace, OpenMode, flush_error, open_error};

/// Paths are taken from the working directory.
const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

impl Ring {
    /// Opens a file. Where the file system has no O_DIRECT, a direct file goes through the page
    /// cache and keeps its rules of alignment; the first such file is logged.
    pub async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        let create = match mode.create {
            Create::Never => 0,
            Create::IfMissing => libc::O_CREAT,
            Create::New => libc::O_CREAT | libc::O_EXCL,
        };
        let flags = libc::O_RDWR | libc::O_CLOEXEC | create;
        let direct = if mode.direct { libc::O_DIRECT } else { 0 };
        let fd = match self.open_descriptor(path, flags | direct).await {
            Err(error) if mode.direct && error.raw_os_error() == Some(libc::EINVAL) => {
                warn_without_direct(path);
                // The refused open may have created the file.
                self.open_descriptor(path, flags & !libc::O_EXCL).await?
            }
            other => other?,
        };
        Ok(RingFile::new(self.clone(), fd, mode.direct))
    }

    async fn open_descriptor(&self, path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
        let open = |path: &CString| {
            opcode::OpenAt::new(HERE, path.as_ptr())
                .flags(flags)
                .mode(0o644)
                .build()
        };
        let result = self.on_path(path, OpKind::Open, open).await;
        Ok(own(result.map_err(open_error)? as i32))
    }

    /// Renames a file or directory.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (c_path(from)?, c_path(to)?);
        let entry = opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
        let held = Held::Paths(from, Some(to));
        // SAFETY: the entry points to the strings' heap memory. Not repeated: rename does not
        // answer EINTR, and a second one would not find its source.
        let (result, _) = unsafe { self.start(entry, held, OpKind::Disk) }.await;
        count_of(result).map(drop)
    }

    /// Removes a file.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let unlink = |path: &CString| opcode::UnlinkAt::new(HERE, path.as_ptr()).build();
        self.on_path(path, OpKind::Disk, unlink).await.map(drop)
    }

    /// Removes an empty directory.
    pub async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let unlink = |path: &CString| {
            opcode::UnlinkAt::new(HERE, path.as_ptr())
                .flags(libc::AT_REMOVEDIR)
                .build()
        };
        self.on_path(path, OpKind::Disk, unlink).await.map(drop)
    }

    /// Creates a directory, or finds it there.
    pub async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let make = |path: &CString| {
            opcode::MkDirAt::new(HERE, path.as_ptr())
                .mode(0o755)
                .build()
        };
        match self.on_path(path, OpKind::Disk, make).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other.map(drop),
        }
    }

    /// fsync of a directory.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = Rc::new(self.open_descriptor(path, directory).await?);
        let entry = opcode::Fsync::new(types::Fd(std::os::fd::AsRawFd::as_raw_fd(&*fd))).build();
        // SAFETY: the entry has no pointers.
        let (result, _) = unsafe { self.start(entry, Held::Fd(fd), OpKind::Disk) }.await;
        count_of(result).map(drop).map_err(flush_error)
    }

    async fn on_path(
        &self,
        path: &Path,
        kind: OpKind,
        entry: impl Fn(&CString) -> squeue::Entry,
    ) -> io::Result<usize> {
        let path = c_path(path)?;
        loop {
            let path = path.clone();
            let entry = entry(&path);
            // SAFETY: the entry points to the string's heap memory.
            let pending = unsafe { self.start(entry, Held::Paths(path, None), kind) };
            let (result, _) = pending.await;
            if !is_transient(result) {
                return count_of(result);
            }
        }
    }
}

/// The entries of a directory, sorted by name.
pub fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(open_error)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            let is_dir = entry.file_type()?.is_dir();
            entries.push(DirEntry { name, is_dir });
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Room of the file system that holds `path`.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(DiskSpace {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// Makes everything durable that has completed in the file system of the file `path`, where that can be
/// relied on; waits for the disk.
///
/// syncfs reports failed writes since Linux 5.8. It leaves device caches: ext4 without a journal writes
/// the inodes behind its flush, and XFS does not flush for writes that change no inode. Both flush for
/// the sync of a file that follows.
pub fn sync_file_system(path: &Path) -> io::Result<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    let file = std::fs::File::open(path).map_err(open_error)?;
    let kind = rustix::fs::fstatfs(&file)?.f_type as u64;
    let dir = path.parent().unwrap_or(Path::new(".")).canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(open_error)?;
    if ![EXT4, XFS].contains(&kind) || has_mount_below(&mounts, &dir) {
        return Ok(false);
    }
    let synced = rustix::fs::syncfs(&file).and_then(|()| rustix::fs::fdatasync(&file));
    synced.map_err(|error| flush_error(error.into()))?;
    Ok(true)
}

/// Whether a file system is mounted below a directory, by the text of `/proc/self/mountinfo`, in which
/// the fifth field is where each one is, with octal numbers for blanks and backslashes.
fn has_mount_below(mounts: &str, dir: &Path) -> bool {
    let escaped = dir.to_string_lossy().replace('\\', "\\134");
    let escaped = escaped.replace(' ', "\\040").replace('\t', "\\011");
    let below = format!("{}/", escaped.trim_end_matches('/'));
    let at = |line: &str| {
        line.split(' ')
            .nth(4)
            .is_some_and(|at| at.starts_with(&below))
    };
    mounts.lines().any(at)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn warn_without_direct(path: &Path) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            path = %path.display(),
            "this file system has no O_DIRECT: files go through the page cache, slower"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_seen() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 22 7:0 / /var/lib/my\\040logs/t-0 rw - ext4 /dev/loop0 rw\n";
        let has = |dir: &str| has_mount_below(mounts, Path::new(dir));
        assert!(has("/var/lib/my logs"));
        assert!(has("/var"));
        assert!(!has("/var/lib/my logs/t-0"), "where it is itself mounted");
        assert!(!has("/var/lib/my log"), "a part of a name");
    }

    /// The kinds that are promised for, by what the system says of them itself.
    #[test]
    fn a_file_system_is_synced_where_it_is_known_to_do_so() {
        let dirs = [std::env::temp_dir(), "/dev/shm".into(), "/proc/self".into()];
        for dir in dirs.iter().filter(|dir| dir.is_dir()) {
            let file = match dir.starts_with("/proc") {
                true => dir.join("stat"),
                false => {
                    tempfile::NamedTempFile::new_in(dir)
                        .unwrap()
                        .keep()
                        .unwrap()
                        .1
                }
            };
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            let real = dir.canonicalize().unwrap();
            let is_within = |line: &&str| {
                let at = line.split(' ').nth(1).unwrap_or_default();
                real.starts_with(at)
            };
            let longest = |line: &&str| line.split(' ').nth(1).map(str::len);
            let mount = mounts.lines().filter(is_within).max_by_key(longest);
            let kind = mount.and_then(|line| line.split(' ').nth(2)).unwrap();
            let is_known = ["ext4", "ext3", "ext2", "xfs"].contains(&kind);
            assert_eq!(sync_file_system(&file).unwrap(), is_known, "{kind}");
            if !dir.starts_with("/proc") {
                std::fs::remove_file(&file).unwrap();
            }
        }
    }
}
