//! Why a node cannot start from its data directory.

use std::io;
use std::path::PathBuf;

use crate::log::error::StorageError;
use crate::log::files::run::{RunError, RunId};
use crate::log::journal::ScanError;
use crate::model::TopicId;

/// Why a node cannot start from its data directory.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The committed run cannot be told.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ScanError),
    /// The directory of a partition is not there.
    #[error(
        "{} is missing: put it back; or, to start without its records, make an empty directory of \
         that name: the partition is offline then",
        .0.display()
    )]
    DirMissing(PathBuf),
    /// The directory of a partition does not say whose it is.
    #[error(
        "{} is missing or unreadable: put it back, or write it again with: \
         printf 'version: 0\\ntopic_id: {topic}' > {}",
        path.display(),
        path.display()
    )]
    DirUnmarked {
        /// The file.
        path: PathBuf,
        /// What it should say.
        topic: TopicId,
    },
    /// The file of a segment that is written on is not as long as it was.
    #[error(
        "{} has {found} of {needed} bytes: put it back; or, to start without the partition's \
         records, move {} away and make an empty directory in its place",
        path.display(),
        dir.display()
    )]
    SegmentShort {
        /// The file.
        path: PathBuf,
        /// The partition's directory.
        dir: PathBuf,
        /// Its length.
        found: u64,
        /// What was written to it.
        needed: u64,
    },
    /// The files of a journal cannot be made.
    #[error("journal: {0}")]
    JournalFiles(String),
    /// There are partitions, so there was a run, but nothing says which.
    #[error(
        "{}: no run is committed, but there are topics: the file was lost or damaged. Bring it back \
         from a copy; without it nobody knows where the records end",
        path.display()
    )]
    NoRun {
        /// The file.
        path: PathBuf,
    },
    /// A partition's directory that the metadata does not know.
    #[error(
        "{}: the metadata knows no topic with this directory: either metadata/log was lost or \
         replaced (bring it back from a copy), or the directory was put there (move it away)",
        path.display()
    )]
    UnknownDir {
        /// The directory.
        path: PathBuf,
    },
    /// A shard of the committed run has no checkpoint that is whole: both slots are damaged.
    #[error("{}: no whole checkpoint of run {run}: {reason}", dir.display())]
    Checkpoint {
        /// The shard's directory.
        dir: PathBuf,
        /// The committed run.
        run: RunId,
        /// What is wrong.
        reason: String,
    },
}

impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.into())
    }
}
