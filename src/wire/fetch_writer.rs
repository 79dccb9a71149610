//! A Fetch response that is written a partition at a time.

use super::messages::{FetchPartitionData, FetchResponse};
use super::{EncodeError, Encoded, Message, Wire, Writer, begin_response};
use crate::model::TopicId;

/// Topics are named by id from this version on (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;
const FIRST_VERSION_WITH_SESSIONS: i16 = 7;

/// Writes a Fetch response, in which every step is as small as the next. What comes out is what
/// [`encode_response`](crate::wire::encode_response) would make of the whole message: the tests hold
/// it to that, version by version.
#[derive(Debug)]
pub struct FetchWriter<'o> {
    writer: Writer<'o>,
}

impl<'o> FetchWriter<'o> {
    /// Begins a frame at the end of `out` with the fields of `response` before its topics, and says
    /// that `topics` of them follow. The lists of `response` are not looked at.
    pub fn begin(
        out: &'o mut Vec<u8>,
        version: i16,
        correlation_id: i32,
        response: &FetchResponse<'_>,
        topics: usize,
    ) -> Self {
        let mut writer = begin_response(out, FetchResponse::KEY, version, correlation_id);
        response.throttle_time_ms.write(&mut writer);
        if version >= FIRST_VERSION_WITH_SESSIONS {
            response.error_code.write(&mut writer);
            response.session_id.write(&mut writer);
        }
        writer.len(Some(topics));
        Self { writer }
    }

    /// Begins a topic of so many partitions, each of which [`FetchWriter::partition`] is to be called
    /// for, and then [`FetchWriter::end_topic`].
    pub fn begin_topic(&mut self, name: &str, id: TopicId, partitions: usize) {
        if self.writer.version().number < FIRST_VERSION_BY_ID {
            self.writer.string(Some(name));
        } else {
            id.write(&mut self.writer);
        }
        self.writer.len(Some(partitions));
    }

    /// The next partition of the topic.
    pub fn partition(&mut self, data: &FetchPartitionData<'_>) {
        data.write(&mut self.writer);
    }

    /// Ends the topic.
    pub fn end_topic(&mut self) {
        self.writer.tagged(|_| {});
    }

    /// Ends the frame with the fields of `response` behind its topics. After an error `out` is as it
    /// was.
    pub fn finish(mut self, response: &FetchResponse<'_>) -> Result<Encoded, EncodeError> {
        let endpoints = &response.node_endpoints;
        self.writer.tagged(|tags| {
            if tags.version().number >= 16 && !endpoints.is_empty() {
                tags.field(0, |writer| endpoints.write(writer));
            }
        });
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BrokerId, Offset, PartitionIndex};
    use crate::wire::messages::{FetchableTopicResponse, NodeEndpoint};
    use crate::wire::{ApiKey, ErrorCode, Records, encode_response};

    fn response(topics: usize) -> FetchResponse<'static> {
        let partition = |at: usize| FetchPartitionData {
            partition_index: PartitionIndex(at as i32),
            error_code: ErrorCode::UnknownTopicId,
            high_watermark: Offset(9),
            records: Some(Records::Elsewhere(100 * at as u32)),
            ..Default::default()
        };
        let topic = |at: usize| FetchableTopicResponse {
            topic: format!("topic-{at}").into(),
            topic_id: TopicId(uuid::Uuid::from_u128(at as u128)),
            partitions: (0..at).map(partition).collect(),
        };
        let endpoint = |at: usize| NodeEndpoint {
            node_id: BrokerId(at as i32),
            host: "h".into(),
            ..Default::default()
        };
        FetchResponse {
            throttle_time_ms: 3,
            session_id: 7,
            responses: (0..topics).map(topic).collect(),
            node_endpoints: (1..topics).map(endpoint).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn it_writes_what_the_message_would_be_in_every_version() {
        for version in ApiKey::Fetch.versions() {
            for topics in [0, 1, 4] {
                let response = response(topics);
                let (mut expected, mut written) = (vec![1], vec![1]);
                let encoded = encode_response(&mut expected, version, 5, &response).unwrap();
                let mut writer = FetchWriter::begin(&mut written, version, 5, &response, topics);
                for topic in &response.responses {
                    writer.begin_topic(&topic.topic, topic.topic_id, topic.partitions.len());
                    for partition in &topic.partitions {
                        writer.partition(partition);
                    }
                    writer.end_topic();
                }
                assert_eq!(writer.finish(&response), Ok(encoded));
                assert_eq!(written, expected, "{version} {topics}");
            }
        }
    }
}
