//! Why the controller refuses.

use crate::model::{BrokerId, NodeId, TopicId};

/// A refusal; each variant is one error of Kafka's, named in its documentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// INVALID_TOPIC_EXCEPTION.
    #[error("{0}")]
    InvalidTopic(String),
    /// TOPIC_ALREADY_EXISTS.
    #[error("Topic '{0}' already exists.")]
    TopicExists(String),
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("There is no topic '{0}'.")]
    UnknownTopic(String),
    /// UNKNOWN_TOPIC_ID.
    #[error("There is no topic with the id {0}.")]
    UnknownTopicId(TopicId),
    /// INVALID_PARTITIONS.
    #[error("{0}")]
    InvalidPartitions(String),
    /// INVALID_REPLICATION_FACTOR.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("{0}")]
    InvalidAssignment(String),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("There is no broker {0}.")]
    UnknownReplica(BrokerId),
    /// POLICY_VIOLATION.
    #[error("{0}")]
    PolicyViolation(String),
    /// TOPIC_DELETION_DISABLED.
    #[error("delete.topic.enable is false")]
    DeletionDisabled,
    /// INVALID_CONFIG.
    #[error("{0}")]
    InvalidConfig(String),
    /// INVALID_REQUEST.
    #[error("{0}")]
    InvalidRequest(String),
    /// BROKER_ID_NOT_REGISTERED.
    #[error("There is no node {0}.")]
    UnknownNode(NodeId),
    /// BROKER_NOT_AVAILABLE: no shard has started that partitions could be placed on.
    #[error("No shard has started yet.")]
    NoShards,
    /// UNKNOWN_SERVER_ERROR: all producer ids have been given out.
    #[error("There are no producer ids left.")]
    NoProducerIds,
    /// UNKNOWN_SERVER_ERROR: a decision that does not follow from the image it was made on. There is
    /// none, unless the controller is wrong.
    #[error("The controller contradicts itself: {0}.")]
    Inconsistent(String),
}
