//! Bytes written down by hand from the schemas, first for the versions the oracle lacks.

use corelane::model::BrokerId;
use corelane::model::{LeaderEpoch, Offset, PartitionIndex};
use corelane::wire::messages::{
    ApiVersion, ApiVersionsResponse, DeleteTopicsResponse, DescribableLogDirTopic,
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic, DescribeTopicPartitionsRequest,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse, MetadataRequest, MetadataResponse,
};
use corelane::wire::{
    ApiKey, DecodeError, ErrorCode, Message, RequestError, RequestHeader, Writer, decode_response,
    encode_response,
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn body<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, M::KEY.version(version));
    message.write(&mut writer);
    let _ = writer.finish().unwrap();
    out.split_off(4)
}

#[test]
fn list_offsets_11() {
    let request = ListOffsetsRequest {
        replica_id: BrokerId(-1),
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: "ab".into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: PartitionIndex(3),
                current_leader_epoch: LeaderEpoch(5),
                timestamp: -6,
            }],
        }],
        timeout_ms: 1000,
    };
    let bytes =
        hex("ffffffff 01 02 03 6162 02 00000003 00000005 fffffffffffffffa 00 00 000003e8 00");
    assert_eq!(body(&request, 11), bytes);
    assert_eq!(ListOffsetsRequest::decode(&bytes, 11), Ok(request));

    let response = ListOffsetsResponse {
        throttle_time_ms: 2,
        topics: vec![ListOffsetsTopicResponse {
            name: "ab".into(),
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: PartitionIndex(3),
                error_code: ErrorCode::None,
                timestamp: 9,
                offset: Offset(10),
                leader_epoch: LeaderEpoch(5),
            }],
        }],
    };
    let bytes = hex(
        "00000002 02 03 6162 02 00000003 0000 0000000000000009 000000000000000a 00000005 00 00 00",
    );
    assert_eq!(body(&response, 11), bytes);
    assert_eq!(ListOffsetsResponse::decode(&bytes, 11), Ok(response));
}

#[test]
fn describe_log_dirs_5() {
    let request = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: "ab".into(),
            partitions: vec![PartitionIndex(1), PartitionIndex(2)],
        }]),
    };
    let bytes = hex("02 03 6162 03 00000001 00000002 00 00");
    assert_eq!(body(&request, 5), bytes);
    assert_eq!(DescribeLogDirsRequest::decode(&bytes, 5), Ok(request));
    assert_eq!(
        DescribeLogDirsRequest::decode(&[0, 0], 5),
        Ok(DescribeLogDirsRequest::default())
    );

    let response = DescribeLogDirsResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::ClusterAuthorizationFailed,
        results: vec![DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError,
            log_dir: "/d".into(),
            topics: vec![DescribeLogDirsTopic {
                name: "ab".into(),
                partitions: vec![DescribeLogDirsPartition {
                    partition_index: PartitionIndex(1),
                    partition_size: 256,
                    offset_lag: 0,
                    is_future_key: true,
                }],
            }],
            total_bytes: 1 << 40,
            usable_bytes: -1,
            is_cordoned: true,
        }],
    };
    let bytes = hex(
        "00000000 001f 02 0038 03 2f64 02 03 6162 02 00000001 0000000000000100 0000000000000000 01
         00 00 0000010000000000 ffffffffffffffff 01 00 00",
    );
    assert_eq!(body(&response, 5), bytes);
    assert_eq!(DescribeLogDirsResponse::decode(&bytes, 5), Ok(response));
}

/// KIP-511: the header of an ApiVersions response never has tags, and a client that asked in too
/// high a version gets version 0.
#[test]
fn api_versions_are_negotiated() {
    let request = hex("0012 0063 0000002a 0002 6d65 00 07 636f7265 00");
    let refused = RequestError::UnsupportedVersion {
        api: ApiKey::ApiVersions,
        version: 99,
        correlation_id: 42,
    };
    assert_eq!(RequestHeader::decode(&request), Err(refused));

    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 4,
        }],
        ..Default::default()
    };
    let mut out = Vec::new();
    let _ = encode_response(&mut out, 0, 42, &response).unwrap();
    assert_eq!(out, hex("00000010 0000002a 0023 00000001 0012 0000 0004"));
    assert_eq!(decode_response(&out[4..], 4), Ok((42, response)));

    let mut out = Vec::new();
    let _ = encode_response(&mut out, 4, 42, &ApiVersionsResponse::default()).unwrap();
    assert_eq!(out, hex("0000000c 0000002a 0000 01 00000000 00"));
}

#[test]
fn headers_of_unknown_apis_and_broken_ones() {
    let unknown = RequestError::UnknownApi { key: 7, version: 1 };
    assert_eq!(
        RequestHeader::decode(&hex("0007 0001 00000001 ffff")),
        Err(unknown)
    );
    let truncated = RequestError::Malformed(DecodeError::Truncated);
    assert_eq!(
        RequestHeader::decode(&hex("0003 0001 00000001 0001")),
        Err(truncated)
    );
    let (header, body) = RequestHeader::decode(&hex("0003 0001 00000001 ffff ab"))
        .map(|(h, b)| ((h.api, h.client_id.to_owned()), b.to_owned()))
        .unwrap();
    assert_eq!(
        (header, body),
        ((ApiKey::Metadata, String::new()), vec![0xab])
    );
}

/// Null and empty are told apart, and null is refused where a version has none.
#[test]
fn nulls_are_as_the_schemas_say() {
    let topic_count = |body: &str, version| {
        let bytes = hex(body);
        let request = MetadataRequest::decode(&bytes, version)?;
        Ok(request.topics.map(|topics| topics.len()))
    };
    assert_eq!(topic_count("ffffffff", 0), Err(DecodeError::Null));
    assert_eq!(topic_count("ffffffff", 1), Ok(None));
    assert_eq!(topic_count("00000000", 1), Ok(Some(0)));
    assert_eq!(topic_count("00 01 00 00 00", 9), Ok(None));
    assert_eq!(topic_count("01 01 00 00 00", 9), Ok(Some(0)));
    // A topic's name: nullable from 10 on, when an id can stand for it.
    assert_eq!(
        topic_count("02 00 00 01 00 00 00", 9),
        Err(DecodeError::Null)
    );
    let by_id = "02 00000000000000000000000000000007 00 00 01 00 00 00";
    assert_eq!(topic_count(by_id, 10), Ok(Some(1)));
    // What cannot be null is written empty.
    assert_eq!(body(&MetadataRequest::default(), 0), hex("00000000"));
    assert_eq!(body(&MetadataRequest::default(), 1), hex("ffffffff"));

    let has_cursor = |body: &str| {
        let bytes = hex(body);
        let request = DescribeTopicPartitionsRequest::decode(&bytes, 0)?;
        Ok(request.cursor.is_some())
    };
    assert_eq!(has_cursor("01 000007d0 ff 00"), Ok(false));
    assert_eq!(has_cursor("01 000007d0 01 02 61 00000003 00 00"), Ok(true));
    assert_eq!(
        has_cursor("01 000007d0 00 00"),
        Err(DecodeError::Presence(0))
    );
}

/// Names gave way to topic ids; before that, they cannot be null. (The oracle reads any null.)
#[test]
fn names_become_nullable_with_topic_ids() {
    for version in ApiKey::Metadata.versions() {
        let request = MetadataRequest {
            topics: Some(vec![Default::default()]),
            ..Default::default()
        };
        let bytes = body(&request, version);
        let topics = MetadataRequest::decode(&bytes, version)
            .unwrap()
            .topics
            .unwrap();
        assert_eq!(topics[0].name.is_none(), version >= 10, "request {version}");
        let response = MetadataResponse {
            topics: vec![Default::default()],
            ..Default::default()
        };
        let bytes = body(&response, version);
        let topics = MetadataResponse::decode(&bytes, version).unwrap().topics;
        assert_eq!(
            topics[0].name.is_none(),
            version >= 12,
            "response {version}"
        );
    }
    for version in ApiKey::DeleteTopics.versions() {
        let response = DeleteTopicsResponse {
            responses: vec![Default::default()],
            ..Default::default()
        };
        let bytes = body(&response, version);
        let topics = DeleteTopicsResponse::decode(&bytes, version)
            .unwrap()
            .responses;
        assert_eq!(topics[0].name.is_none(), version >= 6, "delete {version}");
    }
}

#[test]
fn text_must_be_utf_8_and_no_longer_than_32767() {
    let name = |len: usize, byte: u8| {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, ApiKey::Metadata.version(9));
        writer.len(Some(1));
        writer.len(Some(len));
        let _ = writer.finish();
        let mut body = out.split_off(4);
        body.resize(body.len() + len, byte);
        body.extend_from_slice(&hex("00 01 00 00 00"));
        MetadataRequest::decode(&body, 9).map(|_| ())
    };
    assert_eq!(name(32_767, b'a'), Ok(()));
    assert_eq!(name(32_768, b'a'), Err(DecodeError::Length(32_768)));
    assert_eq!(name(1, 0xff), Err(DecodeError::Utf8));
}

/// A version that an API does not have is not guessed at.
#[test]
fn versions_out_of_range_are_refused() {
    assert_eq!(
        MetadataRequest::decode(&[], 14),
        Err(DecodeError::Version(14))
    );
    assert_eq!(
        ListOffsetsRequest::decode(&[], 0),
        Err(DecodeError::Version(0))
    );
}
