//! The way from a shard to the controller: a change asked for, and what has become of it.

use crate::cluster::controller::{Change, ControllerError, Made};
use crate::log::StorageError;
use crate::log::files::record_log::RecordLogError;
use crate::rt::LaneSender;

/// What has become of each item of a change, in its order.
pub type Changed = Result<Vec<Result<Made, ChangeError>>, ChangeError>;

/// A change that somebody asks for.
pub struct ChangeRequest {
    /// What is to change.
    pub change: Change,
    /// Whether it is only to be checked: everything is decided, nothing is changed.
    pub validate_only: bool,
    /// Who waits for it.
    pub reply: LaneSender<Changed>,
}

/// Why nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The controller refuses.
    #[error(transparent)]
    Refused(#[from] ControllerError),
    /// There is no room for it; the same change may be asked for again.
    #[error("no space left on device")]
    DiskFull,
    /// The metadata log or a partition's files cannot be written.
    #[error("{0}")]
    Storage(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl From<RecordLogError> for ChangeError {
    fn from(error: RecordLogError) -> Self {
        match error {
            RecordLogError::DiskFull => Self::DiskFull,
            other => Self::Storage(format!("metadata log: {other}")),
        }
    }
}

impl From<StorageError> for ChangeError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::DiskFull => Self::DiskFull,
            other => Self::Storage(other.to_string()),
        }
    }
}
