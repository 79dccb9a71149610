//! Errors and delays on demand.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::op::Work;

/// EIO.
pub const EIO: i32 = 5;
/// EMFILE: no descriptor is left.
pub const EMFILE: i32 = 24;
/// ENOSPC, which std calls `StorageFull`.
pub const ENOSPC: i32 = 28;

/// Operations that fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which kind of operation.
    pub on: FaultOn,
    /// A part of the path of the file that it concerns; empty is every file.
    pub path: String,
    /// Fitting operations that still succeed before.
    pub skip: u32,
    /// How many fail then.
    pub times: u32,
    /// The error number they fail with, such as [`EIO`].
    pub errno: i32,
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOn {
    /// Writes. Of one that fails, any blocks may have been written.
    Write,
    /// Reads.
    Read,
    /// Syncs of a file, or of the file system. What one that fails should have made durable, no later
    /// sync makes durable.
    Sync,
    /// `allocate` and `set_len`.
    Allocate,
    /// Opens, renames, removals, directories.
    Names,
    /// Syncs of a directory, which are among [`FaultOn::Names`].
    SyncDir,
    /// Opens of a file, which are among [`FaultOn::Names`].
    Open,
    /// Everything.
    Any,
}

impl FaultOn {
    fn covers(self, kind: Self) -> bool {
        self == kind
            || self == Self::Any
            || (self == Self::Names && matches!(kind, Self::SyncDir | Self::Open))
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    stall: Option<(String, Duration)>,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn stall(&mut self, stall: Option<(String, Duration)>) {
        self.stall = stall;
    }

    /// How long the operation is made to take, if it is.
    pub(super) fn stall_of(&self, work: &Work, path: &Path) -> Option<Duration> {
        let (part, latency) = self.stall.as_ref()?;
        let fits = kind_of(work) == FaultOn::Write && path.to_string_lossy().contains(part);
        fits.then_some(*latency)
    }

    /// Fails when the first fault that fits says so.
    pub(super) fn check(&mut self, work: &Work, path: &Path) -> io::Result<()> {
        if self.planned.is_empty() {
            return Ok(());
        }
        let kind = kind_of(work);
        let fitting = self.planned.iter_mut().find(|fault| {
            fault.on.covers(kind)
                && (fault.skip > 0 || fault.times > 0)
                && path.to_string_lossy().contains(&fault.path)
        });
        let Some(fault) = fitting else {
            return Ok(());
        };
        if fault.skip > 0 {
            fault.skip -= 1;
            return Ok(());
        }
        fault.times -= 1;
        Err(io::Error::from_raw_os_error(fault.errno))
    }
}

fn kind_of(work: &Work) -> FaultOn {
    match work {
        Work::Write { .. } => FaultOn::Write,
        Work::Read { .. } => FaultOn::Read,
        Work::Sync | Work::SyncFileSystem => FaultOn::Sync,
        Work::Allocate { .. } | Work::SetLen(_) => FaultOn::Allocate,
        Work::SyncDir => FaultOn::SyncDir,
        Work::Open { .. } => FaultOn::Open,
        _ => FaultOn::Names,
    }
}
