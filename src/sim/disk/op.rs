//! Operations in flight.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::rt::{BLOCK_BYTES, Buf, BufMut, DirEntry, OpenMode, WriteMode};

/// Number of an operation, over all lives of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct OpId(pub(super) u64);

impl OpId {
    pub(in crate::sim) fn number(self) -> u64 {
        self.0
    }
}

/// Number of an open file, over all lives of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct HandleId(pub(super) u64);

/// What is to be done.
#[derive(Debug)]
pub(in crate::sim) enum Work {
    Write {
        bufs: Vec<Buf>,
        offset: u64,
        mode: WriteMode,
    },
    Read {
        buf: BufMut,
        offset: u64,
        len: usize,
    },
    Sync,
    Allocate {
        offset: u64,
        len: u64,
    },
    SetLen(u64),
    Open {
        mode: OpenMode,
    },
    Rename {
        to: PathBuf,
    },
    RemoveFile,
    CreateDir,
    RemoveDir,
    ReadDir,
    SyncDir,
    SyncFileSystem,
}

impl Work {
    /// Whether it is in whole, aligned blocks, as direct files want it.
    pub(super) fn is_aligned(&mut self) -> bool {
        let is_aligned = |number: u64| number.is_multiple_of(BLOCK_BYTES as u64);
        let is_block = |bytes: &[u8], len: usize| {
            is_aligned(bytes.as_ptr().addr() as u64) && is_aligned(len as u64)
        };
        match self {
            Self::Write { bufs, offset, .. } => {
                is_aligned(*offset) && bufs.iter().all(|buf| is_block(buf, buf.len()))
            }
            Self::Read { buf, offset, len } => {
                let count = (*len).min(buf.room());
                is_aligned(*offset) && is_block(buf.spare_mut(), count)
            }
            _ => true,
        }
    }

    /// What tells it from others, in numbers.
    pub(in crate::sim) fn facts(&self) -> [u64; 3] {
        match self {
            Self::Write { bufs, offset, mode } => {
                let len: usize = bufs.iter().map(|buf| buf.len()).sum();
                [1 + (*mode as u64), *offset, len as u64]
            }
            Self::Read { offset, len, .. } => [3, *offset, *len as u64],
            Self::Allocate { offset, len } => [4, *offset, *len],
            Self::SetLen(len) => [5, 0, *len],
            Self::Sync => [6, 0, 0],
            Self::Open { mode } => [7, u64::from(mode.direct), mode.create as u64],
            Self::Rename { .. } => [8, 0, 0],
            Self::RemoveFile => [9, 0, 0],
            Self::CreateDir => [10, 0, 0],
            Self::RemoveDir => [11, 0, 0],
            Self::ReadDir => [12, 0, 0],
            Self::SyncDir => [13, 0, 0],
            Self::SyncFileSystem => [14, 0, 0],
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, offset, len] = self.facts();
        match self {
            Self::Write { mode, .. } => write!(f, "write {mode:?} {offset}+{len}"),
            Self::Read { .. } => write!(f, "read {offset}+{len}"),
            Self::Allocate { .. } => write!(f, "allocate {offset}+{len}"),
            Self::SetLen(_) => write!(f, "set_len {len}"),
            Self::Rename { to } => write!(f, "rename to {}", to.display()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// On what.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Target {
    Handle(HandleId),
    Path(PathBuf),
}

/// An operation between its submission and its completion.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) work: Work,
    pub(super) target: Target,
    /// Whoever waits; nobody does for what a killed process left behind.
    pub(super) slot: Slot,
    /// Whether the kernel refuses it.
    pub(super) is_misaligned: bool,
    /// Every change before this number had completed when it was submitted.
    pub(super) seq: u64,
    /// Likewise, for changes of names.
    pub(super) name_changes: usize,
}

/// What an operation gives back.
#[derive(Debug)]
pub(in crate::sim) enum Outcome {
    Done(io::Result<()>),
    Read(io::Result<usize>, BufMut),
    Opened(io::Result<HandleId>),
    Entries(io::Result<Vec<DirEntry>>),
}

impl Outcome {
    /// How it failed, if it did.
    pub(in crate::sim) fn error_kind(&self) -> Option<io::ErrorKind> {
        let error = match self {
            Self::Done(result) => result.as_ref().err(),
            Self::Read(result, _) => result.as_ref().err(),
            Self::Opened(result) => result.as_ref().err(),
            Self::Entries(result) => result.as_ref().err(),
        };
        error.map(io::Error::kind)
    }

    /// For an outcome that does not fit its operation: a mistake of the simulator.
    pub(in crate::sim) fn unexpected<T>(self) -> T {
        panic!("the operation cannot end in {self:?}")
    }
}

/// Where an outcome is left for the future that waits for it.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Slot(Rc<RefCell<SlotState>>);

#[derive(Debug, Default)]
struct SlotState {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Slot {
    /// Leaves the outcome and tells whom to wake. Gives it back when nobody waits any more.
    pub(in crate::sim) fn fill(self, outcome: Outcome) -> Result<Option<Waker>, Outcome> {
        if Rc::strong_count(&self.0) == 1 {
            return Err(outcome);
        }
        let mut state = self.0.borrow_mut();
        state.outcome = Some(outcome);
        Ok(state.waker.take())
    }

    /// Completes when the operation has.
    pub(in crate::sim) async fn wait(self) -> Outcome {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            match state.outcome.take() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
