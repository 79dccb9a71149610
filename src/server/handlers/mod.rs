//! The handlers, a file per API family.

mod admin;
mod configs;
mod fetch;
mod metadata;
mod offsets;
mod produce;
mod producer_ids;
mod topics;
mod versions;

pub use admin::{delete_records, describe_log_dirs};
pub use configs::{alter_configs, describe_configs, incremental_alter_configs};
pub use fetch::{PlannedFetch, fetch};
pub use metadata::{describe_cluster, describe_topic_partitions, metadata};
pub use offsets::{list_offsets, offset_for_leader_epoch};
pub use produce::{AcceptedProduce, produce};
pub use producer_ids::init_producer_id;
pub use topics::{create_partitions, create_topics, delete_topics};
pub use versions::{api_versions, unsupported_api_versions};
