//! The broker that a demo starts: this program's `serve`, as a process of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

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
    child: Option<Child>,
}

impl Broker {
    /// Nothing is started yet. Data and log go under `dir`.
    pub(super) fn new(dir: &Path, shards: u16) -> Result<Self, CliError> {
        Ok(Self {
            data_dir: dir.join("data"),
            log: dir.join("broker.log"),
            base_port: free_ports(shards)?,
            shards,
            child: None,
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
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.address()])
            .args(["--shards", &self.shards.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
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
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        let deadline = rt.now() + STOP_LIMIT;
        while !self.has_ended()? {
            if rt.now() > deadline {
                return Err(self.failed("does not stop"));
            }
            rt.sleep(LOOK_AGAIN).await;
        }
        let status = self
            .child
            .take()
            .map(|mut child| child.wait())
            .transpose()?;
        match status {
            Some(status) if !status.success() => {
                Err(self.failed(&format!("stopped with {status}")))
            }
            _ => Ok(()),
        }
    }

    /// Processor time that it has used since its last start.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let child = self.child.as_ref()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        cpu_ticks(&stat).map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id();
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    fn has_ended(&mut self) -> Result<bool, CliError> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// An error with the last that the broker said.
    fn failed(&self, what: &str) -> CliError {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n          ");
        CliError::new(Exit::Failure, format!("the demo's broker {what}"))
            .detail("log", self.log.display().to_string())
            .detail("said", last)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; and there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The first of so many consecutive ports that are free now.
fn free_ports(count: u16) -> Result<u16, CliError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = bind(0)?;
        let base = first.local_addr()?.port();
        let Some(end) = base.checked_add(count) else {
            continue;
        };
        let others: Result<Vec<_>, _> = (base + 1..end).map(bind).collect();
        if others.is_ok() {
            return Ok(base);
        }
    }
    let what = format!("no {count} consecutive ports are free on 127.0.0.1");
    Err(CliError::new(Exit::Host, what))
}

/// User and system time of a process in clock ticks, from its `/proc/PID/stat` (proc(5), fields 14
/// and 15). The command's name may hold blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_from_proc() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 3 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("42"), None);
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(cpu_ticks(&own).is_some());
    }

    #[test]
    fn ports_are_free_when_found() {
        let base = free_ports(3).unwrap();
        assert!(base > 1024);
    }
}
