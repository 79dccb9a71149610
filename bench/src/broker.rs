//! The broker under test: `corelane serve` as a child process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::BrokerArgs;
use crate::clock;
use crate::control::Control;
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A broker process with one shard. It is killed with this value.
pub struct Broker {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    started: Instant,
}

impl Broker {
    /// Starts a broker on `core`, its data in `dir`; it may not answer yet. The calling thread
    /// stays on `own_core`.
    pub fn start(args: &BrokerArgs, dir: &Path, core: usize, own_core: usize) -> Result<Self> {
        let program = program()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = dir.join("broker.log");
        let mut command = Command::new(program);
        command
            .args(["serve", "--format", "json", "--shards", "1"])
            .args([
                "--listen",
                &address.to_string(),
                "--durability",
                &args.durability,
            ])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log)?);
        for setting in &args.settings {
            command.args(["--set", setting]);
        }
        // A child inherits the core of the thread that starts it.
        process::pin(core)?;
        let started = clock::now();
        let child = command.spawn();
        process::pin(own_core)?;
        Ok(Self {
            child: child?,
            address,
            log,
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
        let stdout = self
            .child
            .stdout
            .take()
            .context("the line was read before")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
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
            if self.child.try_wait()?.is_some() {
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
        self.child.id()
    }

    /// When its process was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn failed(&self, what: &str) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
        format!("the broker {what}; it said last:\n  {last}")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself; and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
