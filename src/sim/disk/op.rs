//! Operations in flight.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::rt::{Buf, BufMut, DirEntry, OpenMode, WriteMode};

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
}

impl Work {
    /// A word for traces.
    pub(in crate::sim) fn name(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read { .. } => "read",
            Self::Sync => "sync",
            Self::Allocate { .. } => "allocate",
            Self::SetLen(_) => "set_len",
            Self::Open { .. } => "open",
            Self::Rename { .. } => "rename",
            Self::RemoveFile => "remove_file",
            Self::CreateDir => "create_dir",
            Self::RemoveDir => "remove_dir",
            Self::ReadDir => "read_dir",
            Self::SyncDir => "sync_dir",
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
