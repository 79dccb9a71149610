//! `loop`: produce and consume at the same time, as fast as it goes.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{BrokerArgs, parse_bytes};
use crate::broker::{Broker, Steps};
use crate::clock;
use crate::load::{Load, Totals};
use crate::process::{cpu_seconds, load_average, written_bytes};
use crate::workload::{Named, Workload};

/// A generator whose core was busier than this is the bottleneck.
const GENERATOR_BUSY: f64 = 0.9;

/// Produce and consume at the same time, as fast as it goes
#[derive(clap::Args)]
pub struct Command {
    /// What is sent
    #[arg(long, value_enum, default_value = "large")]
    workload: Named,
    /// How long to measure
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// How long to send before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    warm_up: f64,
    /// End the measurement when this much was sent in all
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "20GiB")]
    max_bytes: u64,
    /// Producing connections, instead of the workload's
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Requests under way per connection, instead of the workload's
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Partitions, instead of the workload's
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// Bytes of a record's value, instead of the workload's
    #[arg(long, value_name = "N")]
    record_bytes: Option<usize>,
    /// Do not consume
    #[arg(long)]
    produce_only: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Serialize)]
struct Report {
    workload: Named,
    durability: String,
    #[serde(flatten)]
    shape: Workload,
    seconds: f64,
    produce_bytes_per_second: f64,
    consume_bytes_per_second: f64,
    records_per_second: f64,
    ack_p50_us: u64,
    ack_p99_us: u64,
    ack_p999_us: u64,
    ack_max_us: u64,
    broker_cpu_seconds_per_gb: f64,
    broker_cpu_percent: f64,
    generator_cpu_percent: f64,
    generator_is_bottleneck: bool,
    broker_cpu_us_per_request: f64,
    first_records_seconds: f64,
    /// From ready to the stop.
    steps_ns: Option<Steps>,
    requests: u64,
    bytes_sent: u64,
    bytes_written_by_broker: u64,
    broker_core: usize,
    generator_core: usize,
    load_average: f64,
}

/// Everything that only rises, at one moment.
struct Moment {
    seconds: f64,
    totals: Totals,
    broker_cpu: f64,
    own_cpu: f64,
    written_bytes: u64,
}

impl Command {
    /// Runs the benchmark.
    pub fn run(self) -> Result<()> {
        let workload = self.workload();
        let (dir, broker_core, own_core) = self.broker.set_up()?;
        let (mut broker, ready) =
            Broker::start_ready(&self.broker, dir.path(), broker_core, own_core)?;
        let topic = broker
            .connect()?
            .create_topic("bench", workload.partitions)?;
        let mut load = Load::open(broker.address(), topic, &workload, !self.produce_only)?;
        let first_records = clock::now();
        load.begin_all()?;
        let first_records = first_records.elapsed().as_secs_f64();
        let begun = clock::now();
        let moment = |load: &Load| -> Result<Moment> {
            Ok(Moment {
                seconds: begun.elapsed().as_secs_f64(),
                totals: load.totals(),
                broker_cpu: cpu_seconds(broker.pid())?,
                own_cpu: cpu_seconds(std::process::id())?,
                written_bytes: written_bytes(broker.pid())?,
            })
        };
        load.run(
            begun + Duration::from_secs_f64(self.warm_up),
            self.max_bytes,
        )?;
        drop(load.take_ack_times()?);
        let first = moment(&load)?;
        load.run(
            clock::now() + Duration::from_secs_f64(self.seconds),
            self.max_bytes,
        )?;
        let last = moment(&load)?;
        let ack_times = load.take_ack_times()?;
        load.drain()?;
        let mut report = self.report(workload, &first, &last, &ack_times);
        report.durability = ready["durability"].as_str().unwrap_or("unknown").into();
        (report.broker_core, report.generator_core) = (broker_core, own_core);
        report.first_records_seconds = first_records;
        drop(load);
        report.steps_ns = broker.stop()?;
        self.broker.print(&report, &report.rows())
    }

    fn workload(&self) -> Workload {
        let mut workload = self.workload.workload();
        workload.connections = self.connections.unwrap_or(workload.connections).max(1);
        workload.depth = self.depth.unwrap_or(workload.depth).max(1);
        workload.partitions = self.partitions.unwrap_or(workload.partitions).max(1);
        workload.record_bytes = self.record_bytes.unwrap_or(workload.record_bytes);
        workload
    }

    fn report(
        &self,
        shape: Workload,
        first: &Moment,
        last: &Moment,
        ack_times: &Histogram<u64>,
    ) -> Report {
        let seconds = last.seconds - first.seconds;
        let requests = last.totals.requests - first.totals.requests;
        let records_in = last.totals.records_in - first.totals.records_in;
        let records_out = last.totals.records_out - first.totals.records_out;
        let bytes = |records: u64| records as f64 * shape.record_bytes as f64;
        let broker_cpu = last.broker_cpu - first.broker_cpu;
        let own_busy = (last.own_cpu - first.own_cpu) / seconds;
        Report {
            workload: self.workload,
            durability: String::new(),
            seconds,
            produce_bytes_per_second: bytes(records_in) / seconds,
            consume_bytes_per_second: bytes(records_out) / seconds,
            records_per_second: records_in as f64 / seconds,
            ack_p50_us: ack_times.value_at_quantile(0.5),
            ack_p99_us: ack_times.value_at_quantile(0.99),
            ack_p999_us: ack_times.value_at_quantile(0.999),
            ack_max_us: ack_times.max(),
            broker_cpu_seconds_per_gb: broker_cpu / bytes(records_in) * 1e9,
            broker_cpu_percent: broker_cpu / seconds * 100.0,
            generator_cpu_percent: own_busy * 100.0,
            generator_is_bottleneck: own_busy > GENERATOR_BUSY,
            broker_cpu_us_per_request: broker_cpu / requests.max(1) as f64 * 1e6,
            first_records_seconds: 0.0,
            steps_ns: None,
            requests,
            bytes_sent: last.totals.sent_bytes - first.totals.sent_bytes,
            bytes_written_by_broker: last.written_bytes - first.written_bytes,
            broker_core: 0,
            generator_core: 0,
            load_average: load_average(),
            shape,
        }
    }
}

impl Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mib = |bytes_per_second: f64| format!("{:.0} MiB/s", bytes_per_second / 1048576.0);
        let mut rows = self.rows_of_the_run();
        rows.extend([
            ("produce", mib(self.produce_bytes_per_second)),
            ("consume", mib(self.consume_bytes_per_second)),
            ("records", format!("{:.0} /s", self.records_per_second)),
        ]);
        rows.extend(self.rows_of_the_cost());
        rows.extend(
            self.steps_ns
                .map(|steps| ("steps p50 p99 p99.9 max", steps.text())),
        );
        if self.generator_is_bottleneck {
            rows.push(("note", "the generator was the bottleneck".into()));
        }
        if self.broker_core == self.generator_core {
            rows.push(("note", "broker and generator share the only core".into()));
        }
        rows
    }

    /// What was run, and for how long.
    fn rows_of_the_run(&self) -> Vec<(&'static str, String)> {
        let Workload {
            partitions,
            connections,
            depth,
            request_bytes,
            record_bytes,
        } = self.shape;
        let workload = format!(
            "{request_bytes} B requests of {record_bytes} B records to {partitions} partitions, \
             {connections} connections x {depth} under way (closed loop)"
        );
        let measured = format!("{:.1} s, {} requests", self.seconds, self.requests);
        let before = format!(
            "a first record into each partition in {:.2} s, then the warm-up",
            self.first_records_seconds
        );
        vec![
            ("workload", workload),
            ("durability", self.durability.clone()),
            ("measured", measured),
            ("before that", before),
        ]
    }

    /// How long acknowledgements took, and what the machine gave for it all.
    fn rows_of_the_cost(&self) -> [(&'static str, String); 5] {
        let milliseconds = |us: u64| format!("{:.2}", us as f64 / 1e3);
        let acks = [
            self.ack_p50_us,
            self.ack_p99_us,
            self.ack_p999_us,
            self.ack_max_us,
        ];
        let acks = format!("{} ms", acks.map(milliseconds).join("  "));
        let broker = format!(
            "{:.3} s/GB, {:.2} µs/request, {:.0} % of core {}",
            self.broker_cpu_seconds_per_gb,
            self.broker_cpu_us_per_request,
            self.broker_cpu_percent,
            self.broker_core
        );
        let (percent, core) = (self.generator_cpu_percent, self.generator_core);
        let per_byte = self.bytes_written_by_broker as f64 / self.bytes_sent.max(1) as f64;
        [
            ("ack p50 p99 p99.9 max", acks),
            ("broker CPU", broker),
            ("generator CPU", format!("{percent:.0} % of core {core}")),
            (
                "written",
                format!("{per_byte:.2} bytes to disk per byte sent"),
            ),
            ("load average", format!("{:.1}", self.load_average)),
        ]
    }
}
