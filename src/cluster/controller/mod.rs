//! Decisions: from the image and a request to records, or to a refusal.
//!
//! A decision changes nothing. Whoever asks for it makes the records durable, applies them, and
//! answers; a request that only validates stops after the decision. A request with several topics
//! decides each on the image that the ones before it made.

mod configs;
mod error;
mod names;
mod placement;
mod producer_ids;
mod run;
mod topics;

pub use configs::{
    AlterOp, Alteration, ConfigRules, ConfigTarget, alter_configs, incremental_alter_configs,
};
pub use error::ControllerError;
pub use names::check_topic_name;
pub use producer_ids::{PRODUCER_ID_BLOCK_LEN, ProducerIdBlock, allocate_producer_ids};
pub use run::start_run;
pub use topics::{
    Assignment, MAX_NEW_PARTITIONS, MAX_PARTITIONS, NewPartitions, NewTopic, add_partitions,
    create_topic, delete_topic, purge_topic,
};
