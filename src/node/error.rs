//! Why a node does not start, or does not serve.

use std::io;
use std::path::PathBuf;

use super::metadata_log::MetadataError;
use crate::log::files::partition_files::SmallFileError;
use crate::log::{RecoveryError, StorageError};
use crate::model::NodeId;
use crate::shard::ChangeError;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory of the start cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `meta.properties` does not parse.
    #[error("{}: {source}", path.display())]
    Meta {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SmallFileError,
    },
    /// The directory is another node's.
    #[error("{} belongs to node {found}, but node.id is {configured}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who we are.
        configured: NodeId,
    },
    /// The start cannot be written into the metadata.
    #[error("metadata: {0}")]
    Change(#[from] ChangeError),
    /// The metadata log cannot be read or written.
    #[error("metadata log: {0}")]
    Metadata(#[from] MetadataError),
    /// The partitions cannot be brought back.
    #[error("recovery: {0}")]
    Recovery(#[from] RecoveryError),
    /// A setting that was accepted at run time no longer holds.
    #[error("{0}")]
    Config(#[from] crate::config::ConfigError),
}

/// Why a node or shard does not serve (any more).
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A shard's log cannot be opened or closed.
    #[error("shard {shard}: {source}")]
    Log {
        shard: usize,
        /// Why.
        source: StorageError,
    },
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The configured address, with the shard's port.
        address: String,
        /// Why.
        reason: String,
    },
    /// A shard's thread ended before it served.
    #[error("shard {0} ended before it served")]
    Lost(usize),
}
