//! Topics and their partitions: created, grown, deleted, described.

mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_topic_partitions;

pub use create_partitions::*;
pub use create_topics::*;
pub use delete_topics::*;
pub use describe_topic_partitions::*;
