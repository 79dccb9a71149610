//! `topics`: what many partitions cost to create, to begin, and to start with again; and how long a
//! new producer of another topic waits meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corelane::model::batch::BatchBuilder;
use corelane::model::{PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use corelane::wire::ErrorCode;
use corelane::wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceResponse};
use serde::Serialize;

use crate::args::{BrokerArgs, median};
use crate::broker::Broker;
use crate::clock;
use crate::control::{Control, produce_request};
use crate::load::Load;
use crate::process::{load_average, written_bytes};
use crate::workload::{Named, Workload};

/// A new producer begins this often while a topic is created.
const PRODUCER_EVERY: Duration = Duration::from_millis(10);
/// How long the first records may take.
const FIRST_RECORDS_LIMIT: Duration = Duration::from_secs(120);
/// How long a producer waits before it asks again.
const RETRY: Duration = Duration::from_millis(5);

/// Creating many partitions, their first records, and a start with them after kill -9
#[derive(clap::Args)]
pub struct TopicsArgs {
    /// Partitions of each topic
    #[arg(long, default_value_t = 10_000)]
    partitions: i32,
    /// How many such topics are created, one after the other
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// New producers during each creation, at least
    #[arg(long, default_value_t = 40)]
    producers: usize,
    /// Topics of one partition that one request creates
    #[arg(long, default_value_t = 1000)]
    topics: usize,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Serialize)]
struct Report {
    durability: String,
    partitions: i32,
    create_seconds: Vec<f64>,
    producers: usize,
    first_produce_ms_p50: f64,
    first_produce_ms_p99: f64,
    first_produce_ms_max: f64,
    topics: usize,
    create_topics_seconds: f64,
    first_records_seconds: f64,
    restart_empty: Restart,
    restart_with_records: Restart,
    load_average: f64,
}

/// From the start of the process to its line that it is ready.
#[derive(Serialize)]
struct Restart {
    ready_ms: f64,
    recovery_ms: f64,
    written_bytes: u64,
}

impl TopicsArgs {
    /// Runs the benchmark.
    pub fn run(self) -> Result<()> {
        let (dir, broker_core, own_core) = self.broker.set_up()?;
        let cores = (broker_core, own_core);
        let (create_seconds, mut waits) = self.create_all(&dir.path().join("create"), cores)?;
        waits.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = ((waits.len() as f64 * part) as usize).min(waits.len().saturating_sub(1));
            waits.get(index).copied().unwrap_or(f64::NAN)
        };
        let create_topics_seconds = self.create_topics(&dir.path().join("topics"), cores)?;
        let begun = self.begin_and_restart(&dir.path().join("restart"), cores)?;
        let report = Report {
            durability: self.broker.durability.clone(),
            partitions: self.partitions,
            create_seconds,
            producers: waits.len(),
            first_produce_ms_p50: at(0.5),
            first_produce_ms_p99: at(0.99),
            first_produce_ms_max: at(1.0),
            topics: self.topics,
            create_topics_seconds,
            restart_empty: begun.0,
            first_records_seconds: begun.1,
            restart_with_records: begun.2,
            load_average: load_average(),
        };
        self.report(&report)
    }

    /// Creates topic after topic while new producers write to another; gives seconds per creation and
    /// milliseconds per producer.
    fn create_all(&self, dir: &Path, cores: (usize, usize)) -> Result<(Vec<f64>, Vec<f64>)> {
        std::fs::create_dir_all(dir)?;
        let mut broker = Broker::start_ready(&self.broker, dir, cores.0, cores.1)?.0;
        let other = broker.connect()?.create_topic("other", 1)?;
        let address = broker.address();
        let (mut seconds, mut waits) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let partitions = self.partitions;
            let creation = create_beside(address, format!("round-{round}"), partitions);
            let mut begun = 0;
            while begun < self.producers || !creation.is_finished() {
                waits.push(first_produce(address, other)?.as_secs_f64() * 1e3);
                begun += 1;
                clock::sleep(PRODUCER_EVERY);
            }
            let Ok(created) = creation.join() else {
                bail!("the creating thread panicked");
            };
            seconds.push(created?);
        }
        broker.kill()?;
        Ok((seconds, waits))
    }

    fn create_topics(&self, dir: &Path, cores: (usize, usize)) -> Result<f64> {
        std::fs::create_dir_all(dir)?;
        let mut broker = Broker::start_ready(&self.broker, dir, cores.0, cores.1)?.0;
        let mut control = broker.connect()?;
        let names: Vec<_> = (0..self.topics).map(|n| format!("topic-{n}")).collect();
        let began = clock::now();
        control.create_topics(&names, 1)?;
        let seconds = began.elapsed().as_secs_f64();
        broker.kill()?;
        Ok(seconds)
    }

    /// A start with empty partitions, seconds until each has a record, and a start with those.
    fn begin_and_restart(
        &self,
        dir: &Path,
        cores: (usize, usize),
    ) -> Result<(Restart, f64, Restart)> {
        std::fs::create_dir_all(dir)?;
        let mut broker = Broker::start_ready(&self.broker, dir, cores.0, cores.1)?.0;
        let topic = broker.connect()?.create_topic("begun", self.partitions)?;
        broker.kill()?;
        let (broker, empty) = self.restart(dir, cores)?;
        let workload = Workload {
            partitions: self.partitions,
            ..Named::Many.workload()
        };
        let frame_bytes = workload.prepare(topic, PartitionIndex(0))?.frame.len();
        let all_bytes = frame_bytes as u64 * self.partitions as u64;
        let mut load = Load::open(broker.address(), topic, &workload, false)?;
        let began = clock::now();
        load.run(began + FIRST_RECORDS_LIMIT, all_bytes)?;
        load.drain()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(
            load.totals().requests >= self.partitions as u64,
            "{} of {} partitions have a record after {FIRST_RECORDS_LIMIT:?}",
            load.totals().requests,
            self.partitions
        );
        broker.kill()?;
        let (broker, with_records) = self.restart(dir, cores)?;
        broker.kill()?;
        Ok((empty, seconds, with_records))
    }

    fn restart(&self, dir: &Path, cores: (usize, usize)) -> Result<(Broker, Restart)> {
        let (broker, ready) = Broker::start_ready(&self.broker, dir, cores.0, cores.1)?;
        let restart = Restart {
            written_bytes: written_bytes(broker.pid())?,
            ready_ms: ready["ready_ms"].as_f64().unwrap_or(f64::NAN),
            recovery_ms: ready["recovery"]["elapsed_ms"].as_f64().unwrap_or(f64::NAN),
        };
        Ok((broker, restart))
    }

    fn report(&self, report: &Report) -> Result<()> {
        let partitions = report.partitions;
        let each: Vec<_> = report
            .create_seconds
            .iter()
            .map(|s| format!("{s:.2}"))
            .collect();
        let restart = |restart: &Restart| {
            format!(
                "{:.0} ms (recovery {:.0} ms), {} MB written until then",
                restart.ready_ms,
                restart.recovery_ms,
                restart.written_bytes / 1_000_000
            )
        };
        let rows = [
            (
                "create",
                format!(
                    "{partitions} partitions in {:.2} s, median; each {}",
                    median(&report.create_seconds),
                    each.join(", ")
                ),
            ),
            (
                "first produce meanwhile",
                format!(
                    "p50 {:.1}, p99 {:.1}, most {:.1} ms of {} new producers",
                    report.first_produce_ms_p50,
                    report.first_produce_ms_p99,
                    report.first_produce_ms_max,
                    report.producers
                ),
            ),
            (
                "create, one each",
                format!(
                    "{} topics in {:.2} s",
                    report.topics, report.create_topics_seconds
                ),
            ),
            (
                "first records",
                format!(
                    "one in each of {partitions} in {:.2} s",
                    report.first_records_seconds
                ),
            ),
            ("start, empty", restart(&report.restart_empty)),
            (
                "start, a record in each",
                restart(&report.restart_with_records),
            ),
            ("durability", report.durability.clone()),
            ("load average", format!("{:.1}", report.load_average)),
        ];
        self.broker.print(report, &rows)
    }
}

/// Creates a topic on a thread of its own, which gives how many seconds that took.
#[expect(
    clippy::disallowed_methods,
    reason = "two requests are under way at once, each on a blocking connection"
)]
fn create_beside(
    address: SocketAddr,
    name: String,
    partitions: i32,
) -> thread::JoinHandle<Result<f64>> {
    thread::spawn(move || {
        let began = clock::now();
        Control::open(address)?.create_topic(&name, partitions)?;
        Ok(began.elapsed().as_secs_f64())
    })
}

/// How long a producer that is new takes until its first batch is acknowledged, connecting included.
fn first_produce(address: SocketAddr, topic: TopicId) -> Result<Duration> {
    let began = clock::now();
    let mut control = Control::open(address)?;
    control.api_versions()?;
    let (producer_id, producer_epoch) = init_producer_id(&mut control)?;
    let mut builder = BatchBuilder::new();
    builder.append(clock::unix_ms(), None, Some(b"first"), &[])?;
    let mut fields = builder.fields()?;
    (
        fields.producer_id,
        fields.producer_epoch,
        fields.base_sequence,
    ) = (producer_id, producer_epoch, 0);
    let mut batch = Vec::new();
    corelane::model::batch::BatchFields::reserve(&mut batch);
    batch.extend_from_slice(builder.records());
    fields.seal(&mut batch)?;
    let response: ProduceResponse<'_> =
        control.call(&produce_request(topic, PartitionIndex(0), &batch))?;
    let answer = response
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first())
        .context("no partition in a Produce answer")?;
    ensure!(
        answer.error_code.is_none(),
        "first produce: {:?} {:?}",
        answer.error_code,
        answer.error_message
    );
    Ok(began.elapsed())
}

fn init_producer_id(control: &mut Control) -> Result<(ProducerId, ProducerEpoch)> {
    loop {
        let response: InitProducerIdResponse = control.call(&InitProducerIdRequest {
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        })?;
        match response.error_code {
            ErrorCode::None => return Ok((response.producer_id, response.producer_epoch)),
            // As a client does: it asks again.
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable => {
                clock::sleep(RETRY);
            }
            code => bail!("InitProducerId: {code:?}"),
        }
    }
}
