//! Why the journal refuses.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// Why the journal cannot do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk has no room for the journal. Try again later.
    #[error("no disk space for the journal")]
    DiskFull,
    /// The entry would take more than half of the journal.
    #[error("an entry of {bytes} bytes does not fit into the journal twice")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A write failed. That is final: nothing is acknowledged any more.
    #[error("the journal has failed: {0}")]
    Failed(Rc<io::Error>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// Whoever waited for space needs it no more.
    #[error("the space is no longer wanted")]
    Unwanted,
    /// The files could not be opened or prepared.
    #[error("{}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        source: Rc<io::Error>,
    },
}
