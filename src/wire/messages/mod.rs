//! The messages, one file per API, under one flat namespace.
//!
//! The files hold nothing but definitions, so that tests can read them a second time with
//! macros of their own: that is how the values for the round trips are made.

use super::{ApiKey, DecodeError, Message, RequestHeader};

macro_rules! messages {
    ($($module:ident: $api:ident($request:ty),)*) => {
        $(
            mod $module;
            pub use $module::*;
        )*

        /// A request of any API.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the messages themselves are documented")]
        pub enum AnyRequest<'a> {
            $($api($request),)*
        }

        impl<'a> AnyRequest<'a> {
            /// Reads the body behind a request header.
            pub fn decode(
                header: &RequestHeader<'_>,
                body: &'a [u8],
            ) -> Result<Self, DecodeError> {
                match header.api {
                    $(ApiKey::$api => Message::decode(body, header.version).map(Self::$api),)*
                }
            }
        }
    };
}

mod common;
pub use common::{LeaderIdAndEpoch, NodeEndpoint};

messages! {
    alter_configs: AlterConfigs(AlterConfigsRequest<'a>),
    api_versions: ApiVersions(ApiVersionsRequest<'a>),
    create_partitions: CreatePartitions(CreatePartitionsRequest<'a>),
    create_topics: CreateTopics(CreateTopicsRequest<'a>),
    delete_records: DeleteRecords(DeleteRecordsRequest<'a>),
    delete_topics: DeleteTopics(DeleteTopicsRequest<'a>),
    describe_cluster: DescribeCluster(DescribeClusterRequest),
    describe_configs: DescribeConfigs(DescribeConfigsRequest<'a>),
    describe_log_dirs: DescribeLogDirs(DescribeLogDirsRequest<'a>),
    describe_topic_partitions: DescribeTopicPartitions(DescribeTopicPartitionsRequest<'a>),
    fetch: Fetch(FetchRequest<'a>),
    incremental_alter_configs: IncrementalAlterConfigs(IncrementalAlterConfigsRequest<'a>),
    init_producer_id: InitProducerId(InitProducerIdRequest<'a>),
    list_offsets: ListOffsets(ListOffsetsRequest<'a>),
    metadata: Metadata(MetadataRequest<'a>),
    offset_for_leader_epoch: OffsetForLeaderEpoch(OffsetForLeaderEpochRequest<'a>),
    produce: Produce(ProduceRequest<'a>),
}
