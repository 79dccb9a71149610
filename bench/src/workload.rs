//! What is sent: how large, to how many partitions, how much of it at a time.

use anyhow::{Result, ensure};
use corelane::model::batch::{BatchBuilder, HEADER_BYTES};
use corelane::model::{PartitionIndex, TopicId};
use serde::Serialize;

use crate::{clock, control};

/// What a request holds beside its batch, at most.
const FRAMING_BYTES: usize = 80;
/// What a record holds beside its value, at most: four varints of five bytes, and four of one.
const RECORD_FRAMING_BYTES: usize = 24;

/// The named workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// 1 MiB requests of 1 KiB records to one partition
    Large,
    /// 16 KiB requests of 1 KiB records over 16 partitions
    #[value(name = "16k")]
    #[serde(rename = "16k")]
    Small,
    /// 1 KiB requests of one record over 1,000 partitions
    Many,
}

/// One workload in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Partitions of the topic; each gets the same share.
    pub partitions: i32,
    /// Connections that produce; each has partitions of its own.
    pub connections: usize,
    /// Requests under way per connection.
    pub depth: usize,
    /// Bytes of a Produce request, at most, its length prefix included.
    pub request_bytes: usize,
    /// Bytes of a record's value.
    pub record_bytes: usize,
}

impl Named {
    /// Its numbers. More requests under way than these added latency and no throughput.
    pub fn workload(self) -> Workload {
        let (partitions, connections, depth, request_bytes) = match self {
            Self::Large => (1, 1, 4, 1 << 20),
            Self::Small => (16, 4, 16, 16 << 10),
            Self::Many => (1000, 8, 48, 1 << 10),
        };
        let room = request_bytes - FRAMING_BYTES - HEADER_BYTES - RECORD_FRAMING_BYTES;
        Workload {
            partitions,
            connections,
            depth,
            request_bytes,
            record_bytes: room.min(1 << 10),
        }
    }
}

/// A Produce request that can be sent any number of times: one batch to one partition.
pub struct Prepared {
    /// The whole frame. The correlation id at [`CORRELATION_ID_AT`] is to be replaced.
    pub frame: Vec<u8>,
    /// Records in the batch.
    pub records: i32,
}

/// Where the correlation id of a request frame lies: behind length, API key and version.
pub const CORRELATION_ID_AT: usize = 8;

impl Workload {
    /// The request for one partition.
    pub fn prepare(&self, topic: TopicId, partition: PartitionIndex) -> Result<Prepared> {
        let (batch, records) = self.batch(partition)?;
        let request = control::produce_request(topic, partition, &batch);
        let mut frame = Vec::with_capacity(self.request_bytes);
        control::encode(&mut frame, 0, &request)?;
        Ok(Prepared { frame, records })
    }

    /// A batch that fills a request, and how many records it has.
    pub fn batch(&self, partition: PartitionIndex) -> Result<(Vec<u8>, i32)> {
        let room = self
            .request_bytes
            .saturating_sub(FRAMING_BYTES + HEADER_BYTES);
        let count = room / (self.record_bytes + RECORD_FRAMING_BYTES);
        ensure!(
            count > 0,
            "a request of {} bytes holds no record",
            self.request_bytes
        );
        let (now_ms, mut seed) = (clock::unix_ms(), partition.0 as u64 + 1);
        let mut value = vec![0; self.record_bytes];
        let mut builder = BatchBuilder::new();
        for _ in 0..count {
            value.fill_with(|| next_byte(&mut seed));
            builder.append(now_ms, None, Some(&value), &[])?;
        }
        let mut batch = Vec::with_capacity(room);
        builder.append_batch(&mut batch)?;
        Ok((batch, i32::try_from(count)?))
    }
}

/// A byte of an xorshift generator: data that no layer can make smaller.
fn next_byte(seed: &mut u64) -> u8 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::model::batch::{BatchView, Records as BatchRecords};
    use corelane::wire::messages::ProduceRequest;
    use corelane::wire::{Message, RequestHeader};

    #[test]
    fn requests_hold_a_valid_batch_and_are_as_long_as_they_say() {
        for named in [Named::Large, Named::Small, Named::Many] {
            let workload = named.workload();
            let topic = TopicId(Default::default());
            let prepared = workload.prepare(topic, PartitionIndex(3)).unwrap();
            let frame_bytes = prepared.frame.len();
            assert!(
                frame_bytes <= workload.request_bytes,
                "{named:?}: {frame_bytes}"
            );
            assert!(
                frame_bytes > workload.request_bytes * 9 / 10,
                "{named:?}: {frame_bytes}"
            );
            let (header, body) = RequestHeader::decode(&prepared.frame[4..]).unwrap();
            let request = ProduceRequest::decode(body, header.version).unwrap();
            let data = &request.topic_data[0].partition_data[0];
            assert_eq!(data.index, PartitionIndex(3));
            let batch = BatchView::first_verified(data.records.unwrap().bytes()).unwrap();
            assert_eq!(batch.record_count(), prepared.records);
            let records = BatchRecords::new(batch.records(), batch.record_count());
            let values = records.map(|record| record.unwrap().value.unwrap().len());
            assert!(values.eq((0..prepared.records).map(|_| workload.record_bytes)));
        }
    }

    #[test]
    fn the_correlation_id_lies_where_it_is_replaced() {
        let topic = TopicId(Default::default());
        let mut frame = Named::Many
            .workload()
            .prepare(topic, PartitionIndex(0))
            .unwrap()
            .frame;
        frame[CORRELATION_ID_AT..][..4].copy_from_slice(&77_i32.to_be_bytes());
        let (header, _) = RequestHeader::decode(&frame[4..]).unwrap();
        assert_eq!(header.correlation_id, 77);
    }
}
