//! What the machine gives: looked at once at start, before any shard runs.
//!
//! [`Probe::take`] looks, [`Probe::verdict`] decides and touches nothing. What descriptors are for, and
//! what it means when there are none, stands here too.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use io_uring::opcode;
use rustix::fs::{Mode, OFlags};
use rustix::process::Resource;

use super::ring::RingSupport;

/// glommio refuses to start with less.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;
/// Below this, the file descriptors of segments and connections are soon used up.
const OPEN_FILES_ADVISED: u64 = 10_000;
/// Where the kernel says whether io_uring is allowed.
const DISABLED_PATH: &str = "/proc/sys/kernel/io_uring_disabled";

/// io_uring operations that nothing replaces, all in Linux 5.15.
const NEEDED: [(u8, &str); 15] = [
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::RenameAt::CODE, "RENAMEAT"),
    (opcode::UnlinkAt::CODE, "UNLINKAT"),
    (opcode::MkDirAt::CODE, "MKDIRAT"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::SendMsg::CODE, "SENDMSG"),
];

/// Facts about kernel, limits and the file system of the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Release of the kernel.
    pub kernel: String,
    /// What a ring can do here, or the errno of setting one up.
    pub ring: Result<RingFacts, i32>,
    /// kernel.io_uring_disabled: 0 allowed, 1 for a group, 2 for nobody; none on old kernels.
    pub io_uring_disabled: Option<u8>,
    /// Limit of locked memory in bytes after raising it as far as allowed; none when unlimited.
    pub memlock_bytes: Option<u64>,
    /// Limit of open files after raising it as far as allowed; none when unlimited.
    pub open_files: Option<u64>,
    /// The data directory.
    pub dir: PathBuf,
    /// Whether its file system takes O_DIRECT; none when no file could be created to find out.
    pub direct: Option<bool>,
    /// Whether it lies in memory.
    pub is_tmpfs: bool,
}

/// How many file descriptors a shard may use for what: the one place that divides the limit of the
/// process (RLIMIT_NOFILE) between segment files and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileShares {
    /// Segment files that a shard keeps open.
    pub segments: usize,
    /// Connections of a shard.
    pub connections: usize,
}

impl FileShares {
    /// Of this process, whose limit is raised as far as allowed.
    pub fn of_process(shards: usize) -> Self {
        super::raise_limits();
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        Self::of(limit, shards)
    }

    /// Of a limit: what the process and each shard need for themselves (rings, journal, checkpoints,
    /// files that are opened for a moment) comes off first. Of the rest three quarters, up to 4,096, are for
    /// connections, and what follows for segments, up to 16,384: with fewer than there are partitions
    /// that are written to in turn, each write-back opens its file and closes another (10,000 partitions
    /// with 5,000 files: a third of the requests per second). Beyond that all is for connections.
    ///
    /// | limit, one shard | segments | connections |
    /// |---|---|---|
    /// | 1,024 | 216 | 648 |
    /// | 20,000 | 15,744 | 4,096 |
    /// | 1,048,576 | 16,384 | 1,032,032 |
    pub fn of(limit: Option<u64>, shards: usize) -> Self {
        const OF_PROCESS: usize = 64;
        const OF_SHARD: usize = 96;
        const CONNECTIONS_FIRST: usize = 4_096;
        const SEGMENTS_MAX: usize = 16_384;
        const LEAST: usize = 16;
        let shards = shards.max(1);
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let each = limit.map_or(usize::MAX, |limit| {
            (limit.saturating_sub(OF_PROCESS) / shards).saturating_sub(OF_SHARD)
        });
        let first = (each - each / 4).min(CONNECTIONS_FIRST);
        let segments = (each - first).clamp(LEAST, SEGMENTS_MAX);
        Self {
            segments,
            connections: each.saturating_sub(segments).max(LEAST),
        }
    }
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// An open that the process or the machine has no descriptor (EMFILE, ENFILE) or no memory (ENOMEM)
/// for. It has changed nothing, and may be tried again. Inside an [`io::Error`]: the same numbers
/// from any other operation mean something else.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a file now: {0}")]
struct OpenRefused(io::Error);

/// The error of an open, such that [`is_open_refused`] tells whether it may be tried again.
pub fn open_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(ENOMEM | ENFILE | EMFILE) => io::Error::other(OpenRefused(error)),
        _ => error,
    }
}

/// Whether a file, or a directory to sync or list, could not be opened for want of a descriptor or of
/// memory.
pub fn is_open_refused(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<OpenRefused>())
}

/// What a ring can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingFacts {
    /// Names of needed operations that the kernel lacks.
    pub missing: Vec<&'static str>,
    /// Completions are processed when the shard asks (IORING_SETUP_DEFER_TASKRUN, Linux 6.1).
    pub defers: bool,
    /// A 2 MiB page could be registered.
    pub registers: bool,
}

/// Why corelane cannot run here: exit code 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What is wrong, in one line.
    pub what: String,
    /// Where that comes from.
    pub cause: String,
    /// What it means.
    pub effect: String,
    /// The exact commands or settings that change it.
    pub fix: String,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  cause   {}", self.cause)?;
        writeln!(f, "  effect  {}", self.effect)?;
        write!(f, "  fix     {}", self.fix)
    }
}

impl Probe {
    /// Looks at the machine and at `dir`, which exists; raises the soft limits of locked memory and
    /// open files to the hard ones.
    pub fn take(dir: &Path) -> Self {
        super::raise_limits();
        let limit = |resource| rustix::process::getrlimit(resource).current;
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into(),
            ring: probe_ring(),
            io_uring_disabled: read_number(DISABLED_PATH),
            memlock_bytes: limit(Resource::Memlock),
            open_files: limit(Resource::Nofile),
            dir: dir.to_path_buf(),
            direct: probe_direct(dir).ok(),
            is_tmpfs: is_tmpfs(dir),
        }
    }

    /// What is worse than it could be, one line each; or why nothing works.
    pub fn verdict(&self) -> Result<Vec<String>, Fatal> {
        let ring = self.ring.as_ref().map_err(|errno| self.no_ring(*errno))?;
        if !ring.missing.is_empty() {
            return Err(self.missing(&ring.missing));
        }
        if let Some(bytes) = self
            .memlock_bytes
            .filter(|bytes| *bytes < MEMLOCK_MIN_BYTES)
        {
            return Err(memlock_too_low(bytes));
        }
        let mut lines = Vec::new();
        if !ring.defers {
            lines.push(format!(
                "kernel {} has no IORING_SETUP_DEFER_TASKRUN (Linux 6.1): more CPU per request",
                self.kernel
            ));
        }
        if !ring.registers {
            lines.push(format!(
                "memlock limit {}: I/O memory is not registered, more CPU per disk operation; \
                 set LimitMEMLOCK=infinity (systemd) or --ulimit memlock=-1 (docker)",
                self.memlock_bytes.map_or("none".into(), kib)
            ));
        }
        if let Some(files) = self.open_files.filter(|files| *files < OPEN_FILES_ADVISED) {
            lines.push(format!(
                "only {files} open files allowed: few connections and partitions; \
                 set LimitNOFILE=1048576 (systemd) or --ulimit nofile=1048576 (docker)"
            ));
        }
        lines.extend(self.about_dir());
        Ok(lines)
    }

    fn about_dir(&self) -> Vec<String> {
        let dir = self.dir.display();
        let mut lines = Vec::new();
        if self.is_tmpfs {
            lines.push(format!(
                "{dir} is on tmpfs: nothing survives a restart of the machine"
            ));
        }
        if self.direct == Some(false) {
            lines.push(format!(
                "the file system of {dir} has no O_DIRECT: data goes through the page cache, \
                 slower; use ext4 or xfs"
            ));
        }
        lines
    }

    fn no_ring(&self, errno: i32) -> Fatal {
        let error = io::Error::from_raw_os_error(errno);
        let effect = "corelane does all its I/O through io_uring and cannot run".into();
        match (errno, self.io_uring_disabled) {
            (libc::EPERM, Some(level @ 1..)) => Fatal {
                what: "io_uring is blocked for this process (EPERM from io_uring_setup)".into(),
                cause: format!("kernel.io_uring_disabled={level}  ({DISABLED_PATH})"),
                effect,
                fix: "sudo sysctl kernel.io_uring_disabled=0".into(),
            },
            (libc::EPERM | libc::EACCES, _) => Fatal {
                what: "io_uring is blocked for this process (EPERM from io_uring_setup)".into(),
                cause: "a seccomp filter or security module, as containers have by default".into(),
                effect,
                fix: "docker run --security-opt seccomp=unconfined, or a profile that allows \
                      io_uring_setup, io_uring_enter and io_uring_register"
                    .into(),
            },
            (libc::ENOSYS, _) => Fatal {
                what: "this kernel has no io_uring (ENOSYS from io_uring_setup)".into(),
                cause: format!("kernel {}, or a sandbox such as gVisor", self.kernel),
                effect,
                fix: "Linux 6.1 or newer with CONFIG_IO_URING=y".into(),
            },
            (libc::ENOMEM, _) => memlock_too_low(self.memlock_bytes.unwrap_or(0)),
            _ => Fatal {
                what: format!("io_uring cannot be set up ({error})"),
                cause: format!("io_uring_setup failed on kernel {}", self.kernel),
                effect,
                fix: "Linux 6.1 or newer".into(),
            },
        }
    }

    fn missing(&self, operations: &[&str]) -> Fatal {
        Fatal {
            what: format!("io_uring lacks operations: {}", operations.join(", ")),
            cause: format!("kernel {}", self.kernel),
            effect: "files or connections cannot be served".into(),
            fix: "Linux 6.1 or newer".into(),
        }
    }
}

fn memlock_too_low(bytes: u64) -> Fatal {
    Fatal {
        what: format!("too little memory may be locked ({})", kib(bytes)),
        cause: "RLIMIT_MEMLOCK (ulimit -l)".into(),
        effect: "a shard's rings need 512 KiB".into(),
        fix: "LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (docker), or \
              ulimit -l 65536 before the start"
            .into(),
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes / 1024)
}

fn probe_ring() -> Result<RingFacts, i32> {
    let support = RingSupport::find().map_err(|error| error.raw_os_error().unwrap_or(0))?;
    let lacks = |(code, name): &(u8, &'static str)| (!support.has(*code)).then_some(*name);
    Ok(RingFacts {
        missing: NEEDED.iter().filter_map(lacks).collect(),
        defers: support.defers,
        registers: support.registers,
    })
}

fn read_number(path: &str) -> Option<u8> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Creates a file to see whether it can be opened direct.
fn probe_direct(dir: &Path) -> io::Result<bool> {
    let path = dir.join(format!(".probe-{}", std::process::id()));
    let create = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    drop(rustix::fs::open(&path, create, Mode::from_raw_mode(0o600))?);
    let direct = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, direct, Mode::empty());
    std::fs::remove_file(&path)?;
    match opened {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_tmpfs(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type == libc::TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Probe {
        Probe {
            kernel: "6.12.0".into(),
            ring: Ok(RingFacts {
                missing: vec![],
                defers: true,
                registers: true,
            }),
            io_uring_disabled: Some(0),
            memlock_bytes: None,
            open_files: Some(1 << 20),
            dir: "/data".into(),
            direct: Some(true),
            is_tmpfs: false,
        }
    }

    #[test]
    fn only_opens_are_refused() {
        for errno in [ENOMEM, ENFILE, EMFILE] {
            let raw = io::Error::from_raw_os_error(errno);
            assert!(!is_open_refused(&raw));
            assert!(is_open_refused(&open_error(raw)));
        }
        let missing = open_error(io::ErrorKind::NotFound.into());
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!is_open_refused(&missing));
    }

    #[test]
    fn descriptors_are_shared_out_within_the_limit() {
        let shares = |limit, shards| {
            let shares = FileShares::of(limit, shards);
            (shares.segments, shares.connections)
        };
        assert_eq!(shares(Some(1024), 1), (216, 648));
        assert_eq!(shares(Some(1024), 4), (36, 108));
        assert_eq!(shares(Some(64), 4), (16, 16));
        assert_eq!(shares(Some(1 << 20), 2), (16_384, 507_776));
        assert_eq!(shares(None, 2).0, 16_384);
    }

    #[test]
    fn a_good_machine_has_nothing_to_say() {
        assert_eq!(good().verdict(), Ok(vec![]));
    }

    #[test]
    fn each_lack_is_one_line() {
        let probe = Probe {
            ring: Ok(RingFacts::default()),
            memlock_bytes: Some(8 << 20),
            open_files: Some(1024),
            direct: Some(false),
            is_tmpfs: true,
            ..good()
        };
        let lines = probe.verdict().unwrap();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| !line.contains('\n')));
        assert!(lines[1].starts_with("memlock limit 8192 KiB"));
    }

    #[test]
    fn a_blocked_ring_is_explained() {
        let fix = |ring, io_uring_disabled| {
            let probe = Probe {
                ring,
                io_uring_disabled,
                ..good()
            };
            probe.verdict().unwrap_err().fix
        };
        assert!(fix(Err(libc::EPERM), Some(2)).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(fix(Err(libc::EPERM), Some(0)).contains("seccomp"));
        assert!(fix(Err(libc::ENOSYS), None).contains("CONFIG_IO_URING"));
        let lacking = RingFacts {
            missing: vec!["MKDIRAT"],
            ..RingFacts::default()
        };
        assert!(fix(Ok(lacking), None).contains("Linux 6.1"));
        let probe = Probe {
            memlock_bytes: Some(64 << 10),
            ..good()
        };
        let text = probe.verdict().unwrap_err().to_string();
        assert!(text.contains("64 KiB") && text.lines().count() == 4);
    }

    #[test]
    fn this_machine_can_be_probed() {
        let dir = tempfile::tempdir().unwrap();
        let probe = Probe::take(dir.path());
        assert!(probe.verdict().is_ok(), "{probe:?}");
        assert!(probe.direct.is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
