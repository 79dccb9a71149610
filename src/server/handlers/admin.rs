//! DeleteRecords, DescribeLogDirs.

use std::collections::BTreeMap;

use crate::model::{Offset, PartitionIndex};
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::request::Request;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult, DescribeLogDirsPartition,
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

/// The offset that stands for the high watermark in DeleteRecords.
const UP_TO_HIGH_WATERMARK: Offset = Offset(-1);

/// Serves DeleteRecords: raises log starts (KIP-107).
pub async fn delete_records<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DeleteRecordsRequest<'a>>,
) -> DeleteRecordsResponse<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let deleted = delete_before(context, &topic.name, asked).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: *deleted.as_ref().unwrap_or(&Offset(-1)),
                error_code: deleted.err().unwrap_or_default(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions,
        });
    }
    DeleteRecordsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

async fn delete_before<R: Runtime>(
    context: &Context<R>,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    let partition = context.led_here(topic, asked.partition_index)?;
    let high_watermark = partition.watermarks().high_watermark;
    let before = match asked.offset {
        UP_TO_HIGH_WATERMARK => high_watermark,
        offset if offset < Offset::ZERO || offset > high_watermark => {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        offset => offset,
    };
    partition
        .log()
        .delete_records(before)
        .await
        .map_err(|error| error.code())
}

/// Serves DescribeLogDirs: what this shard's partitions take (KIP-113).
pub async fn describe_log_dirs<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DescribeLogDirsRequest<'a>>,
) -> DescribeLogDirsResponse<'a> {
    let wanted = |name: &str, index: PartitionIndex| {
        request.topics.as_ref().is_none_or(|topics| {
            topics
                .iter()
                .any(|topic| topic.topic == name && topic.partitions.contains(&index))
        })
    };
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in context.shard.partitions() {
        let index = partition.id().index;
        if wanted(partition.topic(), index) {
            let described = DescribeLogDirsPartition {
                partition_index: index,
                partition_size: i64::try_from(partition.log().size_bytes()).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            };
            topics
                .entry(partition.topic().to_string())
                .or_default()
                .push(described);
        }
    }
    let config = context.shard.config();
    let dir = config.log_dir();
    let space = context.shard.rt().disk_space(dir).ok();
    let bytes = |bytes: Option<u64>| bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(-1);
    let offline = context.shard.offline_reason().is_some();
    let result = DescribeLogDirsResult {
        error_code: if offline {
            ErrorCode::KafkaStorageError
        } else {
            ErrorCode::None
        },
        log_dir: dir.display().to_string().into(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic {
                name: name.into(),
                partitions,
            })
            .collect(),
        total_bytes: bytes(space.map(|space| space.total_bytes)),
        usable_bytes: bytes(space.map(|space| space.available_bytes)),
        is_cordoned: false,
    };
    DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    }
}
