//! Why a producer's batch is refused.

use crate::compress::{CompressError, DecompressError};
use crate::model::batch::{
    InvalidBatch, InvalidBatchKind, InvalidRecords, RejectedRecord, SealError,
};

/// Why a batch is refused; nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Its header breaks a rule.
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
    /// Its records break a rule.
    #[error(transparent)]
    Records(#[from] InvalidRecords),
    /// Its timestamps lie outside what the topic allows.
    #[error("timestamp {timestamp_ms} is not within {first_ms} to {last_ms}")]
    Timestamp {
        /// The offending time.
        timestamp_ms: i64,
        /// Earliest that is allowed.
        first_ms: i64,
        /// Latest that is allowed.
        last_ms: i64,
    },
    /// Its records do not decompress.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The topic's codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Recompressed, it does not fit a batch.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl AdmissionError {
    /// Whether its producer is told to send the batch again as it is.
    pub fn comes_again(&self) -> bool {
        matches!(self, Self::Batch(invalid) if invalid.kind() == InvalidBatchKind::CorruptMessage)
    }

    /// The records that made the whole batch fail, as far as they are known (KIP-467).
    pub fn rejected_records(&self) -> impl Iterator<Item = &RejectedRecord> {
        match self {
            Self::Records(InvalidRecords::Rejected(rejected)) => rejected.as_slice(),
            _ => &[],
        }
        .iter()
    }
}
