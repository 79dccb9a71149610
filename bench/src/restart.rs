//! `restart`: from kill -9 under load to the first acknowledged batch.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use corelane::model::{PartitionIndex, TopicId};
use corelane::wire::messages::ProduceResponse;
use serde::Serialize;

use crate::args::{BrokerArgs, median, parse_bytes};
use crate::broker::Broker;
use crate::clock;
use crate::control::{Control, produce_request};
use crate::load::Load;
use crate::process::load_average;
use crate::workload::{Named, Workload};

/// How long it may take to write the data.
pub const FILL_LIMIT: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_millis(1);

/// Time from a start after kill -9 to the first acknowledged batch
#[derive(clap::Args)]
pub struct Command {
    /// Partitions that hold the data
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// How much is written before the first kill
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "5GiB")]
    bytes: u64,
    /// How often the broker is killed; before each further kill a tenth is written anew
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Serialize)]
struct Report {
    durability: String,
    partitions: i32,
    bytes: u64,
    first_ack_seconds: f64,
    first_ack_seconds_max: f64,
    rounds: Vec<Round>,
    load_average: f64,
}

#[derive(Serialize)]
struct Round {
    /// From the start of the process to the first acknowledged batch.
    first_ack_seconds: f64,
    /// From the start of the process to its line that it is ready, as it says.
    ready_ms: f64,
    /// Of that, recovery.
    recovery_ms: f64,
    journal_bytes_replayed: u64,
}

impl Command {
    /// Runs the benchmark.
    pub fn run(self) -> Result<()> {
        let (dir, broker_core, own_core) = self.broker.set_up()?;
        let workload = Workload {
            partitions: self.partitions,
            connections: 4,
            depth: 8,
            request_bytes: 64 << 10,
            ..Named::Large.workload()
        };
        let mut broker = Broker::start_ready(&self.broker, dir.path(), broker_core, own_core)?.0;
        let mut rounds = Vec::new();
        let mut bytes = self.bytes;
        for number in 0..self.rounds.max(1) {
            // A topic per round: the generator expects to begin with empty partitions.
            let name = format!("round-{number}");
            let partitions = if number == 0 { self.partitions } else { 1 };
            let workload = Workload {
                partitions,
                ..workload.clone()
            };
            let topic = broker.connect()?.create_topic(&name, partitions)?;
            let mut load = Load::open(broker.address(), topic, &workload, false)?;
            load.run(clock::now() + FILL_LIMIT, bytes)?;
            broker.kill()?;
            drop(load);
            let (next, round) =
                self.restart(dir.path(), (broker_core, own_core), topic, &workload)?;
            broker = next;
            rounds.push(round);
            bytes = self.bytes / 10;
        }
        self.report(rounds)
    }

    fn restart(
        &self,
        dir: &Path,
        (core, own_core): (usize, usize),
        topic: TopicId,
        workload: &Workload,
    ) -> Result<(Broker, Round)> {
        let (batch, _) = workload.batch(PartitionIndex(0))?;
        let mut broker = Broker::start(&self.broker, dir, core, own_core)?;
        let mut control = broker.connect()?;
        produce_one(&mut control, topic, &batch)?;
        let first_ack_seconds = broker.started().elapsed().as_secs_f64();
        let ready = broker.ready_line()?;
        let recovery = &ready["recovery"];
        let round = Round {
            first_ack_seconds,
            ready_ms: ready["ready_ms"].as_f64().unwrap_or(f64::NAN),
            recovery_ms: recovery["elapsed_ms"].as_f64().unwrap_or(f64::NAN),
            journal_bytes_replayed: recovery["journal_bytes_replayed"].as_u64().unwrap_or(0),
        };
        Ok((broker, round))
    }

    fn report(&self, rounds: Vec<Round>) -> Result<()> {
        let times: Vec<f64> = rounds.iter().map(|round| round.first_ack_seconds).collect();
        let report = Report {
            durability: self.broker.durability.clone(),
            partitions: self.partitions,
            bytes: self.bytes,
            first_ack_seconds: median(&times),
            first_ack_seconds_max: times.iter().copied().fold(0.0, f64::max),
            rounds,
            load_average: load_average(),
        };
        let each = report.rounds.iter().map(|round| {
            format!(
                "{:.3} s (recovery {:.0} ms, {} MiB of journal)",
                round.first_ack_seconds,
                round.recovery_ms,
                round.journal_bytes_replayed >> 20
            )
        });
        let rows = [
            (
                "data",
                format!("{} MiB in {} partitions", self.bytes >> 20, self.partitions),
            ),
            ("durability", report.durability.clone()),
            (
                "start to first ack, median",
                format!("{:.3} s", report.first_ack_seconds),
            ),
            ("each", each.collect::<Vec<_>>().join(", ")),
            ("load average", format!("{:.1}", report.load_average)),
        ];
        self.broker.print(&report, &rows)
    }
}

/// Sends a batch to partition 0 until it is acknowledged; gives its base offset.
pub fn produce_one(control: &mut Control, topic: TopicId, batch: &[u8]) -> Result<i64> {
    loop {
        let request = produce_request(topic, PartitionIndex(0), batch);
        if let Some(base_offset) = acknowledged(control.call(&request)?) {
            return Ok(base_offset);
        }
        clock::sleep(RETRY);
    }
}

fn acknowledged(response: ProduceResponse<'_>) -> Option<i64> {
    let topic = response.responses.iter().next()?;
    let answer = topic.partition_responses.iter().next()?;
    answer.error_code.is_none().then_some(answer.base_offset.0)
}
