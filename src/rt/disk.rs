//! What the disk below a directory does with completed writes, and what follows for durable ones.
//!
//! With a write-through cache, or a volatile one and FUA (Forced Unit Access: a write that goes past
//! the cache), RWF_DSYNC costs the device one write, and completes where it was submitted. With a
//! volatile cache and no FUA the kernel flushes behind each such write, from a worker on whatever core
//! took the interrupt: a busy neighbour there delays it by milliseconds, and many writes pay for many
//! flushes. One flush of our own behind several writes is better then.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::DurableWrites;

const SYS: &str = "/sys";
/// More devices on devices than anybody stacks.
const DEPTH_MAX: usize = 8;

/// One device that a write passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its kernel name, as `vda`.
    pub name: String,
    /// Whether a completed write may be lost with the power.
    pub is_volatile: bool,
    /// Whether a single write can go past the cache.
    pub has_fua: bool,
}

/// The disk below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Its devices, from the file system down: a partition's disk, and what a stacked device lies on.
    Known(Vec<Device>),
    /// They cannot be told, and why.
    Unknown(String),
}

impl Disk {
    /// Looks in /sys.
    pub fn of(dir: &Path) -> Self {
        Self::look(Path::new(SYS), dir).unwrap_or_else(Self::Unknown)
    }

    /// The way that serves it best.
    pub fn durable_writes(&self) -> DurableWrites {
        match self {
            Self::Known(devices) if devices.iter().any(Device::needs_flush) => DurableWrites::Flush,
            Self::Known(_) | Self::Unknown(_) => DurableWrites::Dsync,
        }
    }

    fn look(sys: &Path, dir: &Path) -> Result<Self, String> {
        let there = fs::metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let number = device_number(there.dev());
        let device = match of_number(sys, &number) {
            Some(device) => device,
            // btrfs, and others over several devices, have a number that stands for none.
            None => of_number(sys, &mounted_from(&number)?)
                .ok_or_else(|| format!("{number} is no block device"))?,
        };
        let mut devices = Vec::new();
        descend(&device, DEPTH_MAX, &mut devices)?;
        Ok(Self::Known(devices))
    }
}

impl Device {
    fn needs_flush(&self) -> bool {
        self.is_volatile && !self.has_fua
    }
}

/// As `vda: volatile cache, no FUA`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = match (self.is_volatile, self.has_fua) {
            (false, _) => "write-through",
            (true, true) => "volatile cache with FUA",
            (true, false) => "volatile cache, no FUA",
        };
        write!(f, "{}: {cache}", self.name)
    }
}

/// The device that decides, or why none is known.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(devices) => {
                let decides = devices.iter().find(|device| device.needs_flush());
                match decides.or(devices.first()) {
                    Some(device) => device.fmt(f),
                    None => write!(f, "no device"),
                }
            }
            Self::Unknown(why) => write!(f, "unknown disk ({why})"),
        }
    }
}

/// As sysfs and mountinfo write it.
fn device_number(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    format!("{major}:{minor}")
}

fn of_number(sys: &Path, number: &str) -> Option<PathBuf> {
    fs::canonicalize(sys.join("dev/block").join(number)).ok()
}

/// The number of the device that the file system of this number was mounted from.
fn mounted_from(number: &str) -> Result<String, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.map_err(|error| format!("mountinfo: {error}"))?;
    let (kind, source) = mount_of(&mounts, number)
        .ok_or_else(|| format!("no mount has the device number {number}"))?;
    match fs::metadata(source) {
        Ok(device) if source.starts_with("/dev/") => Ok(device_number(device.rdev())),
        _ => Err(format!("{kind} is on no device")),
    }
}

/// Type and source of a mount: the words behind the dash of its line.
fn mount_of<'a>(mountinfo: &'a str, number: &str) -> Option<(&'a str, &'a str)> {
    let line = mountinfo
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(number))?;
    let mut words = line.split_once(" - ")?.1.split(' ');
    Some((words.next()?, words.next()?))
}

/// Adds the device at a path of sysfs, and those that it lies on.
fn descend(path: &Path, depth: usize, devices: &mut Vec<Device>) -> Result<(), String> {
    if path.join("partition").exists()
        && let Some(disk) = path.parent()
    {
        return descend(disk, depth, devices);
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err("devices without end".into());
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = |what: &str| {
        let text = fs::read_to_string(path.join("queue").join(what));
        text.map_err(|error| format!("{name}/queue/{what}: {error}"))
    };
    devices.push(Device {
        is_volatile: read("write_cache")?.trim() != "write through",
        // Kernels before 4.15 do not tell; then there may be none.
        has_fua: read("fua").is_ok_and(|fua| fua.trim() == "1"),
        name: name.into_owned(),
    });
    let below = fs::read_dir(path.join("slaves"));
    for entry in below.into_iter().flatten().flatten() {
        let device = fs::canonicalize(entry.path()).map_err(|error| error.to_string())?;
        descend(&device, depth, devices)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(sys.0.path().join("dev/block")).unwrap();
            sys
        }

        fn device(&self, name: &str, write_cache: &str, fua: &str) -> PathBuf {
            let path = self.0.path().join("devices").join(name);
            fs::create_dir_all(path.join("queue")).unwrap();
            fs::create_dir_all(path.join("slaves")).unwrap();
            fs::write(path.join("queue/write_cache"), write_cache).unwrap();
            fs::write(path.join("queue/fua"), fua).unwrap();
            path
        }

        fn looked_at(&self, device: &Path) -> Disk {
            let dir = self.0.path();
            let number = device_number(fs::metadata(dir).unwrap().dev());
            let link = self.0.path().join("dev/block").join(number);
            fs::remove_file(&link).ok();
            symlink(device, link).unwrap();
            Disk::look(self.0.path(), dir).unwrap_or_else(Disk::Unknown)
        }
    }

    #[test]
    fn a_volatile_cache_without_fua_takes_flushes() {
        use DurableWrites::{Dsync, Flush};
        let sys = Sys::new();
        for (write_cache, fua, way, text) in [
            ("write back\n", "0\n", Flush, "vda: volatile cache, no FUA"),
            ("write back\n", "1\n", Dsync, "vda: volatile cache with FUA"),
            ("write through\n", "0\n", Dsync, "vda: write-through"),
        ] {
            let disk = sys.looked_at(&sys.device("vda", write_cache, fua));
            assert_eq!((disk.durable_writes(), &*disk.to_string()), (way, text));
        }
    }

    /// A partition has no queue of its own; a mapped device tells of FUA that the disk below lacks.
    #[test]
    fn what_lies_below_decides() {
        let sys = Sys::new();
        let disk = sys.device("sda", "write back", "0");
        let partition = disk.join("sda1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), "1").unwrap();
        assert_eq!(sys.looked_at(&partition), sys.looked_at(&disk));
        let mapped = sys.device("dm-0", "write back", "1");
        assert_eq!(
            sys.looked_at(&mapped).durable_writes(),
            DurableWrites::Dsync
        );
        symlink(&partition, mapped.join("slaves/sda1")).unwrap();
        let stacked = sys.looked_at(&mapped);
        assert_eq!(stacked.durable_writes(), DurableWrites::Flush);
        assert_eq!(stacked.to_string(), "sda: volatile cache, no FUA");
        symlink(&mapped, disk.join("slaves/dm-0")).unwrap();
        assert!(matches!(sys.looked_at(&mapped), Disk::Unknown(_)));
    }

    #[test]
    fn a_mount_names_its_source() {
        let mounts = "22 1 253:0 / / rw - ext4 /dev/vda rw\n\
                      37 22 0:34 /a/b /data rw,noatime shared:1 - btrfs /dev/sdb rw,subvol=/a\n\
                      38 22 0:40 / /o rw - overlay overlay rw\n";
        assert_eq!(mount_of(mounts, "0:34"), Some(("btrfs", "/dev/sdb")));
        assert_eq!(mount_of(mounts, "0:40"), Some(("overlay", "overlay")));
        assert_eq!(mount_of(mounts, "0:41"), None);
    }

    #[test]
    fn memory_is_no_disk() {
        let disk = Disk::of(Path::new("/proc"));
        assert_eq!(disk.durable_writes(), DurableWrites::Dsync);
        assert_eq!(disk.to_string(), "unknown disk (proc is on no device)");
    }
}
