//! The generator: producers and a consumer on one thread, around poll(2).
//!
//! One thread, because it has one core; few sockets with much on each, so poll(2) is enough.

mod consumer;
mod frames;
mod producer;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corelane::model::{PartitionIndex, TopicId};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::consumer::Consumer;
use self::producer::Producer;
use crate::clock;
use crate::workload::Workload;

/// No broker is this slow; a broker that has stopped answering is an error.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the first records of all partitions may take.
const BEGIN_LIMIT: Duration = Duration::from_secs(120);
/// Rounds between two looks at all partitions.
const ROUNDS_AT_ONCE: usize = 64;
/// How long a socket may be silent before the deadlines are looked at.
const POLL_LIMIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Connections under load.
pub struct Load {
    producers: Vec<Producer>,
    consumer: Option<Consumer>,
    records_per_request: u64,
}

/// Sums since the load began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that were acknowledged.
    pub requests: u64,
    /// Bytes of requests that were handed to the kernel.
    pub sent_bytes: u64,
    /// Records acknowledged.
    pub records_in: u64,
    /// Records consumed.
    pub records_out: u64,
}

impl Load {
    /// Connects for a workload on an empty topic, at whose tail a consumer reads if it is wanted.
    pub fn open(
        address: SocketAddr,
        topic: TopicId,
        workload: &Workload,
        consumes: bool,
    ) -> Result<Self> {
        let mut shares: Vec<Vec<_>> = (0..workload.connections).map(|_| Vec::new()).collect();
        for index in 0..workload.partitions {
            let share = index as usize % workload.connections;
            shares[share].push(PartitionIndex(index));
        }
        let depth = workload.depth;
        let open = |share: Vec<PartitionIndex>| -> Result<Producer> {
            let prepare = |index| Ok((index, workload.prepare(topic, index)?));
            let requests: Result<Vec<_>> = share.into_iter().map(prepare).collect();
            Producer::open(address, requests?, depth)
        };
        let producers = shares.into_iter().filter(|share| !share.is_empty());
        let consumer = match consumes {
            true => Some(Consumer::open(address, topic, workload.partitions)?),
            false => None,
        };
        let first = workload.prepare(topic, PartitionIndex(0))?;
        Ok(Self {
            producers: producers.map(open).collect::<Result<_>>()?,
            consumer,
            records_per_request: u64::try_from(first.records)?,
        })
    }

    /// Sends to all partitions in turn until each has a record, and waits until all that was sent is
    /// acknowledged and read: what a partition's first record costs is over then.
    pub fn begin_all(&mut self) -> Result<()> {
        let deadline = clock::now() + BEGIN_LIMIT;
        let has_all = |load: &Self| {
            let mut ends = load.producers.iter().flat_map(Producer::end_offsets);
            ends.all(|(_, end_offset)| end_offset > 0)
        };
        while !has_all(self) {
            ensure!(
                clock::now() < deadline,
                "some partition has no record after {BEGIN_LIMIT:?}"
            );
            for _ in 0..ROUNDS_AT_ONCE {
                self.round(true)?;
            }
        }
        self.drain()
    }

    /// Sends and reads until `deadline`, or until `limit_bytes` in all were sent. Requests may be
    /// under way when it returns.
    pub fn run(&mut self, deadline: Instant, limit_bytes: u64) -> Result<()> {
        while clock::now() < deadline && self.totals().sent_bytes < limit_bytes {
            self.round(true)?;
        }
        Ok(())
    }

    /// Waits for the acknowledgement of everything that was sent, and until the consumer has it.
    pub fn drain(&mut self) -> Result<()> {
        let deadline = clock::now() + STALL_LIMIT;
        while !self.is_drained() && clock::now() < deadline {
            self.round(false)?;
        }
        let unanswered: usize = self.producers.iter().map(Producer::under_way).sum();
        ensure!(
            unanswered == 0,
            "{unanswered} requests have no answer after {STALL_LIMIT:?}"
        );
        for (partition, end_offset) in self.producers.iter().flat_map(Producer::end_offsets) {
            let read = self
                .consumer
                .as_ref()
                .map(|consumer| consumer.position(partition));
            let is_whole = read.is_none_or(|read| read == end_offset);
            ensure!(
                is_whole,
                "partition {partition}: ends at {end_offset}, read to {read:?}"
            );
        }
        Ok(())
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        let requests = self.producers.iter().map(Producer::acknowledged).sum();
        Totals {
            requests,
            sent_bytes: self.producers.iter().map(Producer::sent_bytes).sum(),
            records_in: requests * self.records_per_request,
            records_out: self.consumer.as_ref().map_or(0, Consumer::records),
        }
    }

    /// Times from request to acknowledgement in microseconds since the last call.
    pub fn take_ack_times(&mut self) -> Result<Histogram<u64>> {
        let mut all = producer::ack_times()?;
        for producer in &mut self.producers {
            all.add(producer.take_ack_times()?)?;
        }
        Ok(all)
    }

    fn is_drained(&self) -> bool {
        let totals = self.totals();
        self.producers
            .iter()
            .all(|producer| producer.under_way() == 0)
            && (self.consumer.is_none() || totals.records_out == totals.records_in)
    }

    /// Waits for any socket and serves those that are ready.
    fn round(&mut self, sends: bool) -> Result<()> {
        let mut waiting: Vec<PollFd<'_>> = Vec::with_capacity(self.producers.len() + 1);
        for producer in &self.producers {
            let interest = match producer.wants_to_write(sends) {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            };
            waiting.push(PollFd::from_borrowed_fd(producer.as_fd(), interest));
        }
        if let Some(consumer) = &self.consumer {
            waiting.push(PollFd::from_borrowed_fd(consumer.as_fd(), PollFlags::IN));
        }
        poll(&mut waiting, Some(&POLL_LIMIT))?;
        let ready: Vec<PollFlags> = waiting.iter().map(PollFd::revents).collect();
        for (producer, ready) in self.producers.iter_mut().zip(&ready) {
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                producer.read()?;
            }
            if producer.wants_to_write(sends) {
                producer.write(sends)?;
            }
        }
        if let (Some(consumer), Some(ready)) = (&mut self.consumer, ready.last())
            && !ready.is_empty()
        {
            consumer.read()?;
        }
        Ok(())
    }
}
