//! `idle`: the first answer after a start, and the cost of silent connections.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::args::BrokerArgs;
use crate::broker::Broker;
use crate::clock;
use crate::control::Control;
use crate::process::{cpu_seconds, load_average, resident_bytes};

/// What goes on behind a start (files prepared) is over by then.
const SETTLE: Duration = Duration::from_secs(5);

/// Time to the first answer, and the cost of a thousand silent connections
#[derive(clap::Args)]
pub struct Command {
    /// Silent connections
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How long to measure
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Serialize)]
struct Report {
    first_answer_ms: f64,
    connections: usize,
    cpu_percent: f64,
    resident_bytes: u64,
    load_average: f64,
}

impl Command {
    /// Runs the benchmark.
    pub fn run(self) -> Result<()> {
        let (dir, core, own_core) = self.broker.set_up()?;
        let mut broker = Broker::start(&self.broker, dir.path(), core, own_core)?;
        broker.connect()?.api_versions()?;
        let first_answer_ms = broker.started().elapsed().as_secs_f64() * 1e3;
        broker.ready_line()?;
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let mut connection = Control::open(broker.address())?;
            connection.api_versions()?;
            connections.push(connection);
        }
        clock::sleep(SETTLE);
        let before = cpu_seconds(broker.pid())?;
        clock::sleep(Duration::from_secs(self.seconds));
        let used = cpu_seconds(broker.pid())? - before;
        let report = Report {
            first_answer_ms,
            connections: connections.len(),
            cpu_percent: used / self.seconds as f64 * 100.0,
            resident_bytes: resident_bytes(broker.pid())?,
            load_average: load_average(),
        };
        let rows = [
            (
                "first answer",
                format!("{first_answer_ms:.0} ms after the start"),
            ),
            ("connections", report.connections.to_string()),
            ("CPU", format!("{:.2} % of a core", report.cpu_percent)),
            ("resident", format!("{} MiB", report.resident_bytes >> 20)),
            ("load average", format!("{:.1}", report.load_average)),
        ];
        self.broker.print(&report, &rows)
    }
}
