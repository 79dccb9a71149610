//! The broker under test: `corelane serve` as a child process.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corelane::cli::child::{BrokerProcess, free_ports, serve_command};

use crate::args::BrokerArgs;
use crate::clock;
use crate::control::Control;
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A broker process with one shard. It is killed with this value.
pub struct Broker {
    process: BrokerProcess,
    address: SocketAddr,
    started: Instant,
}

impl Broker {
    /// Starts a broker on `core`, its data in `dir`; it may not answer yet. The calling thread
    /// stays on `own_core`.
    pub fn start(args: &BrokerArgs, dir: &Path, core: usize, own_core: usize) -> Result<Self> {
        let program = program()?;
        let port = free_ports(1).context("no port is free")?;
        let mut command = serve_command(Command::new(program), &dir.join("data"), port, 1);
        command.args(["--format", "json", "--durability", &args.durability]);
        for setting in &args.settings {
            command.args(["--set", setting]);
        }
        // A child inherits the core of the thread that starts it.
        process::pin(core)?;
        let started = clock::now();
        let spawned = BrokerProcess::spawn(&mut command, &dir.join("broker.log"), true);
        process::pin(own_core)?;
        Ok(Self {
            process: spawned?,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            started,
        })
    }

    /// Starts a broker and waits until it serves; gives the line that it then prints, too.
    pub fn start_ready(
        args: &BrokerArgs,
        dir: &Path,
        core: usize,
        own_core: usize,
    ) -> Result<(Self, serde_json::Value)> {
        let mut broker = Self::start(args, dir, core, own_core)?;
        let ready = broker.ready_line()?;
        Ok((broker, ready))
    }

    /// What the broker prints once it serves; to be called once.
    pub fn ready_line(&mut self) -> Result<serde_json::Value> {
        let output = self.process.take_output();
        let mut line = String::new();
        BufReader::new(output.context("the line was read before")?).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(ready) => Ok(ready),
            Err(_) => bail!(self.failed("did not become ready")),
        }
    }

    /// Connects as soon as the broker accepts.
    pub fn connect(&mut self) -> Result<Control> {
        loop {
            if let Ok(control) = Control::open(self.address) {
                return Ok(control);
            }
            if self.process.ended()?.is_some() {
                bail!(self.failed("ended before it answered"));
            }
            if self.started.elapsed() > START_LIMIT {
                bail!(self.failed("does not answer"));
            }
            clock::sleep(LOOK_AGAIN);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// When its process was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(mut self) -> Result<()> {
        Ok(self.process.kill()?)
    }

    /// Asks it to stop, waits until it is gone, and gives what its shard has said of its steps while it
    /// served (`corelane::metrics`). An older build says nothing of them.
    pub fn stop(mut self) -> Result<Option<Steps>> {
        self.process.ask_to_stop()?;
        let asked = clock::now();
        while self.process.ended()?.is_none() {
            if asked.elapsed() > STOP_LIMIT {
                bail!(self.failed("does not stop"));
            }
            clock::sleep(LOOK_AGAIN);
        }
        Ok(steps_in(&self.process.said()))
    }

    fn failed(&self, what: &str) -> String {
        let last = self.process.said_last(10).join("\n  ");
        format!("the broker {what}; it said last:\n  {last}")
    }
}

/// How long a core stayed with one task at a time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Steps {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub longest: u64,
    pub above_1ms: u64,
}

impl Steps {
    /// For a row of a table.
    pub fn text(&self) -> String {
        let us = [self.p50, self.p99, self.p999, self.longest];
        let us = us.map(|ns| format!("{:.1}", ns as f64 / 1e3)).join("  ");
        format!("{us} µs of {}, {} above 1 ms", self.count, self.above_1ms)
    }
}

fn steps_in(said: &str) -> Option<Steps> {
    let (_, figures) = said.rsplit_once("figures=")?;
    let figures = serde_json::Deserializer::from_str(figures);
    let figures: serde_json::Value = figures.into_iter().next()?.ok()?;
    serde_json::from_value(figures["steps_ns"]["serving"].clone()).ok()
}

/// The broker's binary, built by the same profile as this one.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("corelane");
    if program.exists() {
        return Ok(program);
    }
    let shown = program.display();
    bail!("there is no {shown}; build it first: cargo build --release --bin corelane")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_in_what_was_said() {
        let figures = r#"{"requests":{},"requests_ns":{},"steps_ns":{"serving":{"above_1ms":2,"count":9,"longest":7,"p50":1,"p99":5,"p999":6}}}"#;
        let said = format!(
            "INFO serving\nINFO what was measured shard=0 figures={figures}\nINFO stopped\n"
        );
        let steps = steps_in(&said).unwrap();
        assert_eq!((steps.count, steps.longest, steps.above_1ms), (9, 7, 2));
        assert_eq!(steps_in("INFO serving"), None);
        let older = r#"figures={"requests":{},"steps_ns":{}}"#;
        assert_eq!(steps_in(older), None);
    }
}
