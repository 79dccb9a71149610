//! The broker that a demo starts: this program's `serve`, as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cli::child::{BrokerProcess, cpu_time, free_ports, serve_command};
use crate::cli::connect::Rt;
use crate::cli::{CliError, Exit};
use crate::client::{Client, ClientOptions};
use crate::rt::Runtime;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A broker on loopback ports that were free. It ends with this value.
pub(super) struct Broker {
    data_dir: PathBuf,
    log: PathBuf,
    base_port: u16,
    shards: u16,
    process: Option<BrokerProcess>,
}

impl Broker {
    /// Nothing is started yet. Data and log go under `dir`.
    pub(super) fn new(dir: &Path, shards: u16) -> Result<Self, CliError> {
        Ok(Self {
            data_dir: dir.join("data"),
            log: dir.join("broker.log"),
            base_port: free_ports(shards).ok_or_else(|| no_ports(shards))?,
            shards,
            process: None,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.base_port)
    }

    /// Where its segments are.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&mut self, rt: &Rt) -> Result<(), CliError> {
        let program = Command::new(std::env::current_exe()?);
        let mut command = serve_command(program, &self.data_dir, self.base_port, self.shards);
        self.process = Some(BrokerProcess::spawn(&mut command, &self.log, false)?);
        let options = ClientOptions {
            brokers: vec![self.address()],
            timeout: Duration::from_secs(1),
        };
        let deadline = rt.now() + START_LIMIT;
        loop {
            let client = Client::new(rt.clone(), options.clone());
            let answer = client.refresh(Some(&[])).await;
            client.close();
            match answer {
                Ok(metadata) if metadata.brokers.len() >= usize::from(self.shards) => return Ok(()),
                _ if self.has_ended()? => return Err(self.failed("ended before it answered")),
                _ if rt.now() > deadline => return Err(self.failed("does not answer")),
                _ => rt.sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Stops it as a service manager does and waits for its end.
    pub(super) async fn stop(&mut self, rt: &Rt) -> Result<(), CliError> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        process.ask_to_stop()?;
        let deadline = rt.now() + STOP_LIMIT;
        loop {
            match self
                .process
                .as_mut()
                .map(BrokerProcess::ended)
                .transpose()?
            {
                Some(None) if rt.now() > deadline => return Err(self.failed("does not stop")),
                Some(None) => rt.sleep(LOOK_AGAIN).await,
                Some(Some(status)) if !status.success() => {
                    return Err(self.failed(&format!("stopped with {status}")));
                }
                Some(Some(_)) | None => break,
            }
        }
        self.process = None;
        Ok(())
    }

    /// Processor time that it has used since its last start.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let process = self.process.as_ref()?;
        cpu_time(process.id()).ok().map(|time| time.as_secs_f64())
    }

    fn has_ended(&mut self) -> Result<bool, CliError> {
        match &mut self.process {
            Some(process) => Ok(process.ended()?.is_some()),
            None => Ok(true),
        }
    }

    /// An error with the last that the broker said.
    fn failed(&self, what: &str) -> CliError {
        let said = self.process.as_ref().map(|process| process.said_last(5));
        let last = said.unwrap_or_default().join("\n          ");
        CliError::new(Exit::Failure, format!("the demo's broker {what}"))
            .detail("log", self.log.display().to_string())
            .detail("said", last)
    }
}

fn no_ports(count: u16) -> CliError {
    let what = format!("no {count} consecutive ports are free on 127.0.0.1");
    CliError::new(Exit::Host, what)
}
