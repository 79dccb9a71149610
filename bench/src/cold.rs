//! `cold`: reading everything back after kill -9 under load, from disk.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

use crate::args::{BrokerArgs, parse_bytes};
use crate::broker::Broker;
use crate::clock;
use crate::load::{Consumer, Load};
use crate::process::{load_average, read_bytes};
use crate::restart::{FILL_LIMIT, produce_one};
use crate::workload::{Named, Workload};

const READ_LIMIT: Duration = Duration::from_secs(600);
const PARTITION: usize = 0;

/// Reads after kill -9 what is no longer in memory
#[derive(clap::Args)]
pub struct Command {
    /// How much is written to one partition before the kill
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "1GiB")]
    bytes: u64,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Serialize)]
struct Report {
    durability: String,
    bytes: u64,
    records: u64,
    seconds: f64,
    bytes_per_second: f64,
    /// Bytes read from disk for each byte that was asked for.
    read_amplification: f64,
    load_average: f64,
}

impl Command {
    /// Runs the benchmark.
    pub fn run(self) -> Result<()> {
        let (dir, broker_core, own_core) = self.broker.set_up()?;
        let workload = Workload {
            partitions: 1,
            connections: 1,
            depth: 8,
            request_bytes: 100 << 10,
            ..Named::Large.workload()
        };
        let mut broker = Broker::start_ready(&self.broker, dir.path(), broker_core, own_core)?.0;
        let topic = broker.connect()?.create_topic("cold", 1)?;
        let mut load = Load::open(broker.address(), topic, &workload, false)?;
        load.run(clock::now() + FILL_LIMIT, self.bytes)?;
        broker.kill()?;
        drop(load);
        let mut broker = Broker::start(&self.broker, dir.path(), broker_core, own_core)?;
        let (batch, _) = workload.batch(corelane::model::PartitionIndex(0))?;
        let end = produce_one(&mut broker.connect()?, topic, &batch)?;
        broker.ready_line()?;
        let read_before = read_bytes(broker.pid())?;
        let began = clock::now();
        let mut consumer = Consumer::open(broker.address(), topic, 1)?;
        while consumer.position(PARTITION) < end {
            let mut fds = [PollFd::new(&consumer, PollFlags::IN)];
            poll(&mut fds, None)?;
            consumer.read()?;
            ensure!(clock::now() - began < READ_LIMIT, "reading takes too long");
        }
        let seconds = (clock::now() - began).as_secs_f64();
        let read = read_bytes(broker.pid())? - read_before;
        let report = Report {
            durability: self.broker.durability.clone(),
            bytes: self.bytes,
            records: consumer.records(),
            seconds,
            bytes_per_second: self.bytes as f64 / seconds,
            read_amplification: read as f64 / self.bytes as f64,
            load_average: load_average(),
        };
        let rows = [
            ("data", format!("{} MiB in one partition", self.bytes >> 20)),
            ("durability", report.durability.clone()),
            (
                "read back",
                format!("{:.0} MB/s", report.bytes_per_second / 1e6),
            ),
            (
                "read from disk",
                format!("{:.2} x", report.read_amplification),
            ),
            ("load average", format!("{:.1}", report.load_average)),
        ];
        self.broker.print(&report, &rows)
    }
}
