//! A consumer at the tail of every partition, in one fetch session (KIP-227), as clients do it:
//! one request under way, and each names only the partitions whose position has moved.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use corelane::model::batch::Batches;
use corelane::model::{Offset, PartitionIndex, TopicId};
use corelane::wire::messages::{
    FetchPartition, FetchPartitionData, FetchRequest, FetchResponse, FetchTopic,
};
use corelane::wire::{ApiKey, List, decode_response};

use super::frames::FrameBuffer;
use crate::control;

/// What one answer holds at most, of one partition and of all.
const PARTITION_BYTES: i32 = 4 << 20;
const ANSWER_BYTES: i32 = 8 << 20;
/// An answer may be larger by its framing, and by a first batch that goes out whole.
const FRAME_BYTES: usize = ANSWER_BYTES as usize + (9 << 20);
const MAX_WAIT_MS: i32 = 500;

/// A consuming connection.
pub struct Consumer {
    socket: TcpStream,
    frames: FrameBuffer,
    request: Vec<u8>,
    topic: TopicId,
    /// The next offset of each partition.
    positions: Vec<i64>,
    session_id: i32,
    session_epoch: i32,
    records: u64,
}

impl Consumer {
    /// Connects and asks for the first records of each partition.
    pub fn open(address: SocketAddr, topic: TopicId, partitions: i32) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut consumer = Self {
            socket,
            frames: FrameBuffer::new(FRAME_BYTES),
            request: Vec::new(),
            topic,
            positions: vec![0; partitions as usize],
            session_id: 0,
            session_epoch: 0,
            records: 0,
        };
        consumer.ask(&(0..partitions).collect::<Vec<_>>())?;
        consumer.socket.set_nonblocking(true)?;
        Ok(consumer)
    }

    /// Reads what is there; when that ends an answer, checks it and asks for more.
    pub fn read(&mut self) -> Result<()> {
        self.frames.fill(&self.socket)?;
        let Some(frame) = self.frames.next()? else {
            return Ok(());
        };
        let version = *ApiKey::Fetch.versions().end();
        let (epoch, response): (i32, FetchResponse<'_>) = decode_response(frame, version)?;
        let code = response.error_code;
        ensure!(
            code.is_none() && epoch == self.session_epoch,
            "Fetch: {code:?}"
        );
        self.session_id = response.session_id;
        let mut moved = Vec::new();
        for data in response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            let index = data.partition_index.0;
            let position = self.positions.get_mut(index as usize);
            let position = position.context("an answer for a partition that nobody asked for")?;
            let before = *position;
            walk(data, position)?;
            if *position > before {
                self.records += (*position - before) as u64;
                moved.push(index);
            }
        }
        self.session_epoch += 1;
        self.ask(&moved)
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next offset to be read of a partition.
    pub fn position(&self, partition: usize) -> i64 {
        self.positions.get(partition).copied().unwrap_or(-1)
    }

    /// Sends the next request. It is small and the only one: the socket's buffer takes it whole.
    fn ask(&mut self, moved: &[i32]) -> Result<()> {
        let partition = |index: &i32| FetchPartition {
            partition: PartitionIndex(*index),
            fetch_offset: Offset(self.positions[*index as usize]),
            partition_max_bytes: PARTITION_BYTES,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic_id: self.topic,
            partitions: moved.iter().map(partition).collect(),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: ANSWER_BYTES,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            topics: match moved {
                [] => List::default(),
                _ => List::from(topic),
            },
            ..Default::default()
        };
        control::encode(&mut self.request, self.session_epoch, &request)?;
        Ok(self.socket.write_all(&self.request)?)
    }
}

impl AsFd for Consumer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves a position over the batches of an answer, which must follow it without a gap.
fn walk(data: &FetchPartitionData<'_>, position: &mut i64) -> Result<()> {
    let (index, code) = (data.partition_index.0, data.error_code);
    ensure!(code.is_none(), "partition {index}: {code:?}");
    let records = data
        .records
        .map(|records| records.bytes())
        .unwrap_or_default();
    for batch in Batches::new(records) {
        let (_, batch) = batch?;
        let base_offset = batch.base_offset().0;
        ensure!(
            base_offset == *position,
            "partition {index}: a batch at {base_offset} where {position} was due"
        );
        let expected = i64::from(batch.record_count());
        let end_offset = batch.end_offset().0;
        ensure!(
            end_offset - base_offset == expected,
            "partition {index}: offsets are missing"
        );
        *position = end_offset;
    }
    ensure!(
        data.high_watermark.0 >= *position,
        "partition {index}: records beyond the high watermark"
    );
    Ok(())
}
