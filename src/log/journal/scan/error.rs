//! Why a journal cannot be read back.

use std::io;
use std::path::PathBuf;

use crate::log::files::run::RunId;
use crate::log::journal::Sequence;
use crate::model::{NodeId, ShardIndex};

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file could not be opened, locked or read.
    #[error("journal: {0}")]
    Io(#[from] io::Error),
    /// A file is not there, though it was made before the run was committed.
    #[error(
        "{} is missing, and with it acknowledged records may be: put it back; or, to give up what \
         was in it alone, make an empty one with: truncate -s {file_bytes} {}",
        path.display(),
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The length it should have.
        file_bytes: u64,
    },
    /// A file ends before the journal does.
    #[error(
        "{} has only {bytes} bytes: it was cut, and acknowledged records may be lost: put it back; \
         or, to give up what was behind them, fill it up with: truncate -s {file_bytes} {}",
        path.display(),
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// The length it has.
        bytes: u64,
        /// The length it should have.
        file_bytes: u64,
    },
    /// The journal belongs to a later run than the one that counts as committed: the file `run`
    /// is damaged or was put back from an older copy.
    #[error("the journal was written by run {found}, but run {committed} counts as the last one")]
    LaterRun {
        /// What the file `run` says.
        committed: RunId,
        /// What the journal says.
        found: RunId,
    },
    /// The journal of another node, or of another shard, lies where this one's should.
    #[error(
        "{} is the journal of node {node}, shard {shard}: bring this one's back, or start under the \
         node.id that it was written under",
        dir.display()
    )]
    OtherOwner {
        /// Its directory.
        dir: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// Which of its shards'.
        shard: ShardIndex,
    },
    /// A whole write that this build does not understand.
    #[error("journal write {} has entries that this build cannot read", .0.0)]
    UnknownEntries(Sequence),
}
