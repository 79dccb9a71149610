//! ListOffsets and OffsetForLeaderEpoch.

use crate::model::{LeaderEpoch, Offset};
use crate::partition::{Isolation, OffsetAsk, OffsetFound};
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::Code;
use crate::server::request::Request;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    EpochEndOffset, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

/// Serves ListOffsets: where a log starts, ends, or passes a time.
pub async fn list_offsets<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<ListOffsetsRequest<'a>>,
) -> ListOffsetsResponse<'a> {
    let isolation = Isolation::from_number(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for ask in &topic.partitions {
            partitions.push(
                match find(context, request.header.version, &topic.name, ask, isolation).await {
                    Ok(found) => ListOffsetsPartitionResponse {
                        partition_index: ask.partition_index,
                        error_code: ErrorCode::None,
                        timestamp: found.timestamp_ms,
                        offset: found.offset,
                        leader_epoch: found.leader_epoch,
                    },
                    Err(error_code) => ListOffsetsPartitionResponse {
                        partition_index: ask.partition_index,
                        error_code,
                        ..Default::default()
                    },
                },
            );
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
        });
    }
    ListOffsetsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

async fn find<R: Runtime>(
    context: &Context<R>,
    version: i16,
    topic: &str,
    ask: &ListOffsetsPartition,
    isolation: Option<Isolation>,
) -> Result<OffsetFound, ErrorCode> {
    let isolation = isolation.ok_or(ErrorCode::InvalidRequest)?;
    let partition = context.led_here(topic, ask.partition_index)?;
    partition
        .check_epoch(ask.current_leader_epoch)
        .map_err(|error| error.code())?;
    let what = match (ask.timestamp, version) {
        (-1, _) => OffsetAsk::Latest,
        (-2, _) => OffsetAsk::Earliest,
        (-3, 7..) => OffsetAsk::MaxTimestamp,
        (-4, 8..) => OffsetAsk::EarliestLocal,
        (-5, 9..) => OffsetAsk::LatestTiered,
        (at_ms @ 0.., _) => OffsetAsk::Time(at_ms),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    partition
        .find_offset(what, isolation)
        .await
        .map_err(|error| error.code())
}

/// Serves OffsetForLeaderEpoch: where an epoch ends, for clients whose leader has changed (KIP-320).
pub async fn offset_for_leader_epoch<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<OffsetForLeaderEpochRequest<'a>>,
) -> OffsetForLeaderEpochResponse<'a> {
    let of_topic = |topic: &str, asks: &[OffsetForLeaderPartition]| {
        asks.iter()
            .map(|ask| epoch_end(context, topic, ask))
            .collect()
    };
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: of_topic(&topic.topic, &topic.partitions),
        })
        .collect();
    OffsetForLeaderEpochResponse {
        throttle_time_ms: 0,
        topics,
    }
}

fn epoch_end<R: Runtime>(
    context: &Context<R>,
    topic: &str,
    ask: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let found = context
        .led_here(topic, ask.partition)
        .and_then(|partition| {
            partition
                .check_epoch(ask.current_leader_epoch)
                .map_err(|error| error.code())?;
            Ok(partition.log().epoch_end_offset(ask.leader_epoch))
        });
    let (error_code, (leader_epoch, end_offset)) = match found {
        Ok(end) => (ErrorCode::None, end),
        Err(code) => (code, (LeaderEpoch::NONE, Offset(-1))),
    };
    EpochEndOffset {
        error_code,
        partition: ask.partition,
        leader_epoch,
        end_offset,
    }
}
