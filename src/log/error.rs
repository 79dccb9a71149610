//! What can go wrong with a log, an enum per operation.

use std::io;
use std::path::Path;

use crate::log::partition::producers::ProducerError;
use crate::rt::{ArenaFull, is_open_refused};

/// Whether there is no room, on the device or in a quota: no failure, as there may be later.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// A failure of storage. Clones because one failed write fails everyone who waits for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A write or flush failed: nothing is acknowledged any more until the node starts again.
    #[error("log directory is offline: {0}")]
    Offline(String),
    /// This partition alone cannot be used.
    #[error("partition is offline: {0}")]
    PartitionOffline(String),
    /// The file system has no room, or the quota none; the operation may be tried again.
    #[error("no space left on device")]
    DiskFull,
    /// There is no file descriptor, or no memory, to open a file with; the operation may be tried
    /// again.
    #[error("{0}")]
    OpenRefused(String),
    /// The partition has been deleted.
    #[error("partition is deleted")]
    Deleted,
    /// A directory of that name belongs to another topic id.
    #[error("{0}")]
    Conflict(String),
    /// Something on disk is not what was written.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// The operating system refused.
    #[error("{0}")]
    Io(String),
}

impl StorageError {
    /// Of a sync that failed: final (rule 12 of [`crate::manual::durability`]), unless what is synced could
    /// not be opened.
    pub(super) fn of_sync(path: &Path, error: io::Error) -> Self {
        let reason = format!("{}: {error}", path.display());
        match Self::from(error) {
            refused @ Self::OpenRefused(_) => refused,
            _ => Self::Offline(reason),
        }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        if is_disk_full(&error) {
            Self::DiskFull
        } else if is_open_refused(&error) {
            Self::OpenRefused(error.to_string())
        } else {
            Self::Io(error.to_string())
        }
    }
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The producer's epoch or sequence does not fit.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// RECORD_LIST_TOO_LARGE: the batch does not fit a segment (`segment.bytes`), or the journal.
    #[error("batch of {batch_bytes} bytes, at most {limit_bytes} fit")]
    TooLarge {
        /// Size of the batch.
        batch_bytes: u64,
        /// The bound.
        limit_bytes: u64,
    },
    /// The bytes are not one whole batch: the gateway did not check.
    #[error("not one record batch")]
    NotABatch,
    /// Retriable: there is no room for the batch now.
    #[error("no space left on device")]
    DiskFull,
    /// KAFKA_STORAGE_ERROR, or the partition is gone.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::DiskFull => Self::DiskFull,
            other => Self::Storage(other),
        }
    }
}

/// No space is retriable; anything else from the file system is told as it is.
impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        StorageError::from(error).into()
    }
}

/// Why segments were not replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// They are not sealed segments of the log one behind the other, or no longer: the log start has
    /// passed them.
    #[error("the segments are not there")]
    NotThere,
    /// There are more of them, or of those that would take their place, than an event of the journal can
    /// name.
    #[error("too many segments at a time")]
    TooMany,
    /// What was made of a batch is no batch, or lies beyond its offsets, or has another leader epoch.
    #[error("what was made of a batch is no part of it")]
    NotWithin,
    /// They could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The others could not be written, or the partition cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The journal has failed before it was known to have the event: the next start tells whether they
    /// were replaced.
    #[error(transparent)]
    Unknown(StorageError),
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The shard has no memory for it now.
    #[error("{0}")]
    NoMemory(ArenaFull),
    /// OFFSET_OUT_OF_RANGE: below the log start, or beyond the log end.
    #[error("offset out of range")]
    OutOfRange,
    /// KAFKA_STORAGE_ERROR, or the partition is gone.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.into())
    }
}
