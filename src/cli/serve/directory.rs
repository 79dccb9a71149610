//! The data directory: that it is there, and no other broker's at the moment.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation};

use crate::cli::{CliError, Context, Exit};
use crate::log::files::lock::LOCK_PATIENCE;

/// The file that a broker locks in its directory.
const LOCK_FILE: &str = ".lock";

/// How long a start waits for a broker that runs: it may be about to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// PF_EXITING of the kernel's include/linux/sched.h, as /proc/PID/stat shows it.
const IS_EXITING: u64 = 4;

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    /// A process that runs: its id and name.
    Runs(u32, String),
    /// One that ends, once its writes have, or one of another pid namespace.
    Other,
}

const OTHER: &str = "choose another directory: --data-dir DIR (log.dirs)";

/// Makes the directory if it is not there; it must be one that we may write in.
pub(super) fn make(dir: &Path) -> Result<(), CliError> {
    let shown = dir.display();
    let refused = |what: String| CliError::new(Exit::Host, what);
    if dir.metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(refused(format!("{shown} is a file, not a directory")).fix(OTHER));
    }
    fs::create_dir_all(dir).map_err(|error| {
        refused(format!("the directory {shown} cannot be made: {error}")).fix(OTHER)
    })?;
    rustix::fs::access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let what = format!(
            "the directory {shown} cannot be used: {}",
            io::Error::from(error)
        );
        refused(what).fix(format!("sudo chown \"$(id -un)\" {shown}, or {OTHER}"))
    })
}

/// Waits until no other broker holds the directory; false when `stopped` says so first.
pub(super) fn wait_until_free(
    dir: &Path,
    stopped: &Receiver<()>,
    context: &Context,
) -> Result<bool, CliError> {
    let path = dir.join(LOCK_FILE);
    let mut waited = Duration::ZERO;
    while let Some(holder) = holder(&path) {
        let (who, patience) = match &holder {
            Holder::Runs(id, name) => (format!("process {id} ({name})"), STOP_PATIENCE),
            Holder::Other => ("a process that ends, or is hidden".into(), LOCK_PATIENCE),
        };
        if waited.is_zero() {
            context.say(format_args!(
                "{} is in use by {who}: waiting {} s for it to end",
                dir.display(),
                patience.as_secs()
            ));
        }
        if waited >= patience {
            let what = format!("{} is in use by {who}", dir.display());
            return Err(CliError::new(Exit::Host, what).fix(match holder {
                Holder::Runs(id, _) => format!("kill {id}, or {OTHER}"),
                Holder::Other => OTHER.to_owned(),
            }));
        }
        if stopped.recv_timeout(LOOK_AGAIN).is_ok() {
            return Ok(false);
        }
        waited += LOOK_AGAIN;
    }
    Ok(true)
}

/// Who holds the lock of a file. What cannot be looked at is looked at again, and told, by the
/// start itself.
fn holder(path: &Path) -> Option<Holder> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    // Ours is given back with the file at the end of this function.
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return None,
    }
    let runs = || -> io::Result<Option<Holder>> {
        let locks = fs::read_to_string("/proc/locks")?;
        let Some(id) = locker(&locks, file.metadata()?.ino()) else {
            return Ok(None);
        };
        Ok(running(
            id,
            &fs::read_to_string(format!("/proc/{id}/stat"))?,
        ))
    };
    Some(runs().ok().flatten().unwrap_or(Holder::Other))
}

/// The process that holds the lock of an inode, by the text of `/proc/locks` (proc(5)). File
/// systems of several devices give device numbers that are not those of their files, so that the
/// inode must do.
fn locker(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let kind = fields.next()?;
        let id = fields.nth(2)?;
        let file = fields.next()?;
        let is_it = kind == "FLOCK" && file.rsplit(':').next()?.parse() == Ok(inode);
        is_it.then(|| id.parse().ok()).flatten()
    })
}

/// The process of a `/proc/PID/stat`, unless it is ending.
fn running(id: u32, stat: &str) -> Option<Holder> {
    let (before, behind) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = behind.split_ascii_whitespace();
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let ends = matches!(state, "Z" | "X") || flags & IS_EXITING != 0;
    (!ends).then(|| Holder::Runs(id, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_who_holds_a_lock() {
        let locks = "1: POSIX  ADVISORY  READ 5433 08:01:7864448 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 2001 08:01:7864554 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 2002 08:01:7864554 0 EOF\n";
        assert_eq!(locker(locks, 7_864_554), Some(2001));
        assert_eq!(locker(locks, 7_864_448), None, "another kind of lock");
        assert_eq!(locker("", 1), None);
    }

    #[test]
    fn a_process_that_ends_does_not_run() {
        let stat = |state, flags| format!("42 (a ) b) {state} 1 42 42 0 -1 {flags} 100 0 0 0");
        let runs = Some(Holder::Runs(42, "a ) b".into()));
        assert_eq!(running(42, &stat("S", 4_194_560)), runs);
        assert_eq!(running(42, &stat("Z", 4_194_560)), None);
        assert_eq!(running(42, &stat("D", 4_194_560 | IS_EXITING)), None);
        assert_eq!(running(42, "42"), None);
    }

    #[test]
    fn a_lock_of_our_own_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        assert_eq!(holder(&path), None);
        let file = File::create(&path).unwrap();
        assert_eq!(holder(&path), None);
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let Some(Holder::Runs(id, _)) = holder(&path) else {
            panic!("{:?}", holder(&path));
        };
        assert_eq!(id, std::process::id());
    }
}
