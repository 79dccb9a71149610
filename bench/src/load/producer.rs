//! One connection that produces: a fixed number of requests under way.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corelane::model::PartitionIndex;
use corelane::wire::messages::ProduceResponse;
use corelane::wire::{ApiKey, decode_response};
use hdrhistogram::Histogram;

use super::frames::FrameBuffer;
use crate::clock;
use crate::workload::{CORRELATION_ID_AT, Prepared};

/// Bytes of a request that are its own: all up to the end of its correlation id.
const HEAD_BYTES: usize = CORRELATION_ID_AT + 4;
/// Largest answer to a request for one partition.
const ANSWER_BYTES: usize = 64 << 10;
/// How many requests go out with one call.
const REQUESTS_PER_WRITE: usize = 64;

/// A producing connection.
pub struct Producer {
    socket: TcpStream,
    frames: FrameBuffer,
    partitions: Vec<Target>,
    depth: usize,
    /// Queued or sent, not yet answered, in order.
    under_way: VecDeque<UnderWay>,
    /// How many at the front of `under_way` are sent whole, and how much is of the next.
    sent_whole: usize,
    sent_of_next: usize,
    next_number: u32,
    acknowledged: u64,
    sent_bytes: u64,
    ack_times: Histogram<u64>,
}

struct Target {
    index: PartitionIndex,
    request: Prepared,
    end_offset: i64,
}

struct UnderWay {
    head: [u8; HEAD_BYTES],
    target: usize,
    queued_at: Instant,
}

/// A histogram of microseconds.
pub fn ack_times() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

impl Producer {
    /// Connects, to send one request after the other to each partition in turn.
    pub fn open(
        address: SocketAddr,
        requests: Vec<(PartitionIndex, Prepared)>,
        depth: usize,
    ) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let target = |(index, request)| Target {
            index,
            request,
            end_offset: 0,
        };
        Ok(Self {
            socket,
            frames: FrameBuffer::new(ANSWER_BYTES),
            partitions: requests.into_iter().map(target).collect(),
            depth,
            under_way: VecDeque::with_capacity(depth),
            sent_whole: 0,
            sent_of_next: 0,
            next_number: 0,
            acknowledged: 0,
            sent_bytes: 0,
            ack_times: ack_times()?,
        })
    }

    /// Whether there is something to send; new requests only where `sends`.
    pub fn wants_to_write(&self, sends: bool) -> bool {
        self.sent_whole < self.under_way.len() || (sends && self.under_way.len() < self.depth)
    }

    /// Queues requests up to the depth, where `sends`, and writes as much as the socket takes.
    pub fn write(&mut self, sends: bool) -> Result<()> {
        let now = clock::now();
        while sends && self.under_way.len() < self.depth {
            self.queue(now)?;
        }
        while self.sent_whole < self.under_way.len() {
            match self.write_some() {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads and checks the answers that are there.
    pub fn read(&mut self) -> Result<()> {
        self.frames.fill(&self.socket)?;
        let now = clock::now();
        while let Some(frame) = self.frames.next()? {
            let sent = self
                .under_way
                .pop_front()
                .context("an answer that nobody asked for")?;
            self.sent_whole = self
                .sent_whole
                .checked_sub(1)
                .context("an answer too early")?;
            check_answer(frame, &sent, &mut self.partitions[sent.target])?;
            self.acknowledged += 1;
            let waited = now.saturating_duration_since(sent.queued_at);
            self.ack_times.saturating_record(waited.as_micros() as u64);
        }
        Ok(())
    }

    /// Requests answered so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes handed to the kernel so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Requests queued or sent, and not yet answered.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The offset behind the last acknowledged record, by partition.
    pub fn end_offsets(&self) -> impl Iterator<Item = (usize, i64)> {
        self.partitions
            .iter()
            .map(|target| (target.index.0 as usize, target.end_offset))
    }

    /// Times from queueing to answer in microseconds since the last call.
    pub fn take_ack_times(&mut self) -> Result<Histogram<u64>> {
        Ok(std::mem::replace(&mut self.ack_times, ack_times()?))
    }

    fn queue(&mut self, now: Instant) -> Result<()> {
        let target = self.next_number as usize % self.partitions.len();
        let frame = &self.partitions[target].request.frame;
        let mut head = *frame
            .first_chunk::<HEAD_BYTES>()
            .context("a request without a head")?;
        head[CORRELATION_ID_AT..].copy_from_slice(&self.next_number.to_be_bytes());
        self.next_number = self.next_number.wrapping_add(1);
        self.under_way.push_back(UnderWay {
            head,
            target,
            queued_at: now,
        });
        Ok(())
    }

    fn write_some(&self) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(2 * REQUESTS_PER_WRITE);
        for request in self
            .under_way
            .range(self.sent_whole..)
            .take(REQUESTS_PER_WRITE)
        {
            let body = &self.partitions[request.target].request.frame[HEAD_BYTES..];
            slices.push(IoSlice::new(&request.head));
            slices.push(IoSlice::new(body));
        }
        let mut unsent = slices.as_mut_slice();
        IoSlice::advance_slices(&mut unsent, self.sent_of_next);
        (&self.socket).write_vectored(unsent)
    }

    fn advance(&mut self, count: usize) {
        self.sent_bytes += count as u64;
        self.sent_of_next += count;
        while let Some(next) = self.under_way.get(self.sent_whole) {
            let frame_bytes = self.partitions[next.target].request.frame.len();
            if self.sent_of_next < frame_bytes {
                return;
            }
            self.sent_of_next -= frame_bytes;
            self.sent_whole += 1;
        }
    }
}

impl AsFd for Producer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// It must answer the oldest request, without an error, with the offset behind the last batch.
fn check_answer(frame: &[u8], sent: &UnderWay, target: &mut Target) -> Result<()> {
    let version = *ApiKey::Produce.versions().end();
    let (correlation_id, response): (i32, ProduceResponse<'_>) = decode_response(frame, version)?;
    ensure!(
        sent.head.ends_with(&correlation_id.to_be_bytes()),
        "answers in another order"
    );
    let topic = response
        .responses
        .first()
        .context("no topic in a Produce answer")?;
    let answer = topic
        .partition_responses
        .first()
        .context("no partition in a Produce answer")?;
    let (code, message) = (answer.error_code, &answer.error_message);
    ensure!(
        code.is_none(),
        "partition {}: {code:?} {message:?}",
        target.index.0
    );
    ensure!(
        answer.index == target.index && answer.base_offset.0 == target.end_offset,
        "partition {}: a batch at {} where {} was due",
        target.index.0,
        answer.base_offset.0,
        target.end_offset,
    );
    target.end_offset += i64::from(target.request.records);
    Ok(())
}
