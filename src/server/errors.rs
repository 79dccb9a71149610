//! The one table from our errors to Kafka's.

use crate::cluster::controller::ControllerError;
use crate::log::partition::producers::ProducerError;
use crate::log::{AppendError, ReadError, StorageError};
use crate::model::batch::{InvalidBatchKind, InvalidRecords, RejectReason};
use crate::partition::{AdmissionError, EpochError, FetchError, ProduceError};
use crate::server::fetch_session::SessionError;
use crate::shard::ChangeError;
use crate::wire::{ErrorCode, Str};

/// An error that has a number in Kafka's protocol.
pub trait Code {
    /// That number.
    fn code(&self) -> ErrorCode;
}

/// Both halves of an outcome that carries words: none where all went well.
pub fn outcome<E: Code + std::fmt::Display>(
    result: &Result<impl Sized, E>,
) -> (ErrorCode, Option<Str<'static>>) {
    match result {
        Ok(_) => (ErrorCode::None, None),
        Err(error) => (error.code(), Some(error.to_string().into())),
    }
}

impl Code for StorageError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Deleted => ErrorCode::UnknownTopicOrPartition,
            Self::Offline(_)
            | Self::PartitionOffline(_)
            | Self::DiskFull
            | Self::OpenRefused(_)
            | Self::Conflict(_)
            | Self::Corrupt(_)
            | Self::Io(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Producer(ProducerError::InvalidProducerEpoch { .. }) => {
                ErrorCode::InvalidProducerEpoch
            }
            Self::Producer(ProducerError::OutOfOrderSequence { .. }) => {
                ErrorCode::OutOfOrderSequenceNumber
            }
            Self::TooLarge { .. } => ErrorCode::RecordListTooLarge,
            Self::NotABatch => ErrorCode::CorruptMessage,
            // Retriable, and the batch is not in the log.
            Self::DiskFull => ErrorCode::KafkaStorageError,
            Self::Storage(error) => error.code(),
        }
    }
}

impl Code for AdmissionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(invalid) => match invalid.kind() {
                InvalidBatchKind::CorruptMessage => ErrorCode::CorruptMessage,
                InvalidBatchKind::InvalidRecord => ErrorCode::InvalidRecord,
                InvalidBatchKind::MessageTooLarge => ErrorCode::MessageTooLarge,
                InvalidBatchKind::UnsupportedCompressionType => {
                    ErrorCode::UnsupportedCompressionType
                }
                InvalidBatchKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
                InvalidBatchKind::TransactionalIdAuthorizationFailed => {
                    ErrorCode::TransactionalIdAuthorizationFailed
                }
            },
            Self::Records(InvalidRecords::Rejected(rejected)) => {
                let by_time = |reason| matches!(reason, RejectReason::Timestamp { .. });
                if rejected.iter().any(|record| by_time(record.reason)) {
                    ErrorCode::InvalidTimestamp
                } else {
                    ErrorCode::InvalidRecord
                }
            }
            Self::Records(_) => ErrorCode::InvalidRecord,
            Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            // Clients that can split a batch do so.
            Self::Decompress(error) if error.is_too_large() => ErrorCode::MessageTooLarge,
            // The CRC holds, so it was made like this: sent again it would be the same. Kafka 4.3.1
            // answers UNKNOWN_SERVER_ERROR, which clients do not retry either.
            Self::Decompress(_) => ErrorCode::InvalidRecord,
            Self::Compress(_) | Self::Seal(_) => ErrorCode::MessageTooLarge,
        }
    }
}

impl Code for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.code(),
            Self::Append(error) => error.code(),
            // Retriable, as the answer to the batch that has to come first was.
            Self::Awaited(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange => ErrorCode::OffsetOutOfRange,
            // Retriable, whatever is asked.
            Self::NoMemory(_) => ErrorCode::KafkaStorageError,
            Self::Storage(error) => error.code(),
        }
    }
}

impl Code for EpochError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fenced => ErrorCode::FencedLeaderEpoch,
            Self::Unknown => ErrorCode::UnknownLeaderEpoch,
        }
    }
}

impl Code for FetchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Epoch(error) => error.code(),
            Self::Read(error) => error.code(),
        }
    }
}

impl Code for SessionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound | Self::NoMemory => ErrorCode::FetchSessionIdNotFound,
            Self::Epoch => ErrorCode::InvalidFetchSessionEpoch,
            Self::TopicIds => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

impl Code for ControllerError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidTopic(_) => ErrorCode::InvalidTopicException,
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            Self::InvalidAssignment(_) | Self::UnknownReplica(_) => {
                ErrorCode::InvalidReplicaAssignment
            }
            Self::PolicyViolation(_) => ErrorCode::PolicyViolation,
            Self::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::InvalidConfig(_) => ErrorCode::InvalidConfig,
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::UnknownNode(_) => ErrorCode::BrokerIdNotRegistered,
            Self::NoShards => ErrorCode::BrokerNotAvailable,
            Self::NoProducerIds | Self::Inconsistent(_) => ErrorCode::UnknownServerError,
        }
    }
}

impl Code for ChangeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(error) => error.code(),
            Self::DiskFull | Self::Storage(_) => ErrorCode::KafkaStorageError,
            Self::Stopping => ErrorCode::BrokerNotAvailable,
        }
    }
}
