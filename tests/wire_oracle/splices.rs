//! Records that the sender holds: the pieces together are the frame with the records inside.

use corelane::model::PartitionIndex;
use corelane::wire::messages::{
    FetchPartitionData, FetchResponse, FetchableTopicResponse, PartitionProduceData,
    ProduceRequest, TopicProduceData,
};
use corelane::wire::{Encoded, Piece, Records, encode_request, encode_response};

const HELD: [&[u8]; 3] = [b"first batch", b"", b"third"];

/// Sends the pieces in order, as a vectored write would.
fn assemble(out: &[u8], encoded: &Encoded) -> Vec<u8> {
    let mut sent = Vec::new();
    for piece in encoded.pieces() {
        match piece {
            Piece::Framing(range) => sent.extend_from_slice(&out[range]),
            Piece::Records(index) => sent.extend_from_slice(HELD[index]),
        }
    }
    assert_eq!(sent.len(), encoded.frame_bytes());
    sent
}

fn elsewhere(records: &[u8]) -> Records<'_> {
    Records::Elsewhere(records.len() as u32)
}

fn fetch_response<'a>(records: impl Fn(&'a [u8]) -> Records<'a>) -> FetchResponse<'a> {
    let partition = |index: usize| FetchPartitionData {
        partition_index: PartitionIndex(index as i32),
        records: Some(records(HELD[index])),
        ..Default::default()
    };
    let topic = |name: &'static str, partitions: &[usize]| FetchableTopicResponse {
        topic: name.into(),
        partitions: partitions.iter().copied().map(partition).collect(),
        ..Default::default()
    };
    FetchResponse {
        responses: [topic("a", &[0, 1]), topic("b", &[2])]
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

#[test]
fn fetch_responses_leave_out_the_records_of_others() {
    for version in 4..=18 {
        let (mut whole, mut framing) = (Vec::new(), vec![0xee; 3]);
        let expected =
            encode_response(&mut whole, version, 7, &fetch_response(Records::Bytes)).unwrap();
        let encoded =
            encode_response(&mut framing, version, 7, &fetch_response(elsewhere)).unwrap();
        assert_eq!(encoded.splice_count(), 3);
        assert_eq!(encoded.framing().start, 3);
        assert_eq!(encoded.frame_bytes(), expected.frame_bytes());
        assert_eq!(assemble(&framing, &encoded), whole);
    }
}

#[test]
fn produce_requests_leave_out_the_records_of_others() {
    let request = |records| {
        let partition_data = [PartitionProduceData {
            records,
            ..Default::default()
        }];
        let topic = TopicProduceData {
            name: "logs".into(),
            partition_data: partition_data.into_iter().collect(),
            ..Default::default()
        };
        ProduceRequest {
            topic_data: [topic].into_iter().collect(),
            ..Default::default()
        }
    };
    for version in 3..=13 {
        let (mut whole, mut framing) = (Vec::new(), Vec::new());
        let inside = request(Some(Records::Bytes(HELD[0])));
        let outside = request(Some(elsewhere(HELD[0])));
        let expected = encode_request(&mut whole, version, 7, "me", &inside).unwrap();
        let encoded = encode_request(&mut framing, version, 7, "me", &outside).unwrap();
        assert_eq!(expected.splice_count(), 0);
        assert_eq!(assemble(&framing, &encoded), whole);
    }
}
