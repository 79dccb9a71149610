//! The definitions of `src/wire/messages`, read as samples.

#[path = "../../src/wire/messages/alter_configs.rs"]
mod alter_configs;
#[path = "../../src/wire/messages/api_versions.rs"]
mod api_versions;
#[path = "../../src/wire/messages/common.rs"]
mod common;
#[path = "../../src/wire/messages/create_partitions.rs"]
mod create_partitions;
#[path = "../../src/wire/messages/create_topics.rs"]
mod create_topics;
#[path = "../../src/wire/messages/delete_records.rs"]
mod delete_records;
#[path = "../../src/wire/messages/delete_topics.rs"]
mod delete_topics;
#[path = "../../src/wire/messages/describe_cluster.rs"]
mod describe_cluster;
#[path = "../../src/wire/messages/describe_configs.rs"]
mod describe_configs;
#[path = "../../src/wire/messages/describe_log_dirs.rs"]
mod describe_log_dirs;
#[path = "../../src/wire/messages/describe_topic_partitions.rs"]
mod describe_topic_partitions;
#[path = "../../src/wire/messages/fetch.rs"]
mod fetch;
#[path = "../../src/wire/messages/incremental_alter_configs.rs"]
mod incremental_alter_configs;
#[path = "../../src/wire/messages/init_producer_id.rs"]
mod init_producer_id;
#[path = "../../src/wire/messages/list_offsets.rs"]
mod list_offsets;
#[path = "../../src/wire/messages/metadata.rs"]
mod metadata;
#[path = "../../src/wire/messages/offset_for_leader_epoch.rs"]
mod offset_for_leader_epoch;
#[path = "../../src/wire/messages/produce.rs"]
mod produce;
