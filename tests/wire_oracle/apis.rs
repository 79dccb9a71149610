//! The list of all APIs, for tests that treat them alike.

/// Calls `$check!(name, Request, Response)` for each API.
macro_rules! for_each_api {
    ($check:ident) => {
        $check!(alter_configs, AlterConfigsRequest, AlterConfigsResponse);
        $check!(api_versions, ApiVersionsRequest, ApiVersionsResponse);
        $check!(
            create_partitions,
            CreatePartitionsRequest,
            CreatePartitionsResponse
        );
        $check!(create_topics, CreateTopicsRequest, CreateTopicsResponse);
        $check!(delete_records, DeleteRecordsRequest, DeleteRecordsResponse);
        $check!(delete_topics, DeleteTopicsRequest, DeleteTopicsResponse);
        $check!(
            describe_cluster,
            DescribeClusterRequest,
            DescribeClusterResponse
        );
        $check!(
            describe_configs,
            DescribeConfigsRequest,
            DescribeConfigsResponse
        );
        $check!(
            describe_log_dirs,
            DescribeLogDirsRequest,
            DescribeLogDirsResponse
        );
        $check!(
            describe_topic_partitions,
            DescribeTopicPartitionsRequest,
            DescribeTopicPartitionsResponse
        );
        $check!(fetch, FetchRequest, FetchResponse);
        $check!(
            incremental_alter_configs,
            IncrementalAlterConfigsRequest,
            IncrementalAlterConfigsResponse
        );
        $check!(
            init_producer_id,
            InitProducerIdRequest,
            InitProducerIdResponse
        );
        $check!(list_offsets, ListOffsetsRequest, ListOffsetsResponse);
        $check!(metadata, MetadataRequest, MetadataResponse);
        $check!(
            offset_for_leader_epoch,
            OffsetForLeaderEpochRequest,
            OffsetForLeaderEpochResponse
        );
        $check!(produce, ProduceRequest, ProduceResponse);
    };
}
