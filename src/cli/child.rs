//! A broker as a process of its own: what the demo, the benchmarks and the tests start, watch and end.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A broker's process. It is killed with this value, if it has not ended before.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    log: PathBuf,
}

/// `PROGRAM serve` on loopback: the first shard's port, and how many shards.
pub fn serve_command(program: Command, data_dir: &Path, port: u16, shards: u16) -> Command {
    let mut command = program;
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--shards", &shards.to_string()])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

impl BrokerProcess {
    /// Starts `command`. What it says goes to the end of `log`; its standard output does too, unless it
    /// is to be read ([`BrokerProcess::take_output`]).
    pub fn spawn(command: &mut Command, log: &Path, reads_output: bool) -> io::Result<Self> {
        let said = File::options().create(true).append(true).open(log)?;
        let output = match reads_output {
            true => Stdio::piped(),
            false => said.try_clone()?.into(),
        };
        Ok(Self {
            child: command.stdout(output).stderr(said).spawn()?,
            log: log.to_owned(),
        })
    }

    /// Its standard output, once.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to stop, as a service manager does.
    pub fn ask_to_stop(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Ends it as a crash would (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Everything that was said into its log, by processes before it, too.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines that were said.
    pub fn said_last(&self, count: usize) -> Vec<String> {
        let said = self.said();
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        let from = lines.len().saturating_sub(count);
        lines.into_iter().skip(from).collect()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; and there is nobody to tell.
        let _ = self.kill();
    }
}

/// User and system time of a process, all threads.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let ticks = cpu_ticks(&fs::read_to_string(&path)?);
    let ticks = ticks.ok_or_else(|| io::Error::other(format!("{path} has another shape")))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Memory that a process has in use, in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    Ok(proc_field(pid, "status", "VmRSS:")? * 1024)
}

/// The number behind a name in one of a process's files below `/proc/PID`.
pub fn proc_field(pid: u32, file: &str, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_ascii_whitespace().next());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}

/// The first of `count` neighbouring ports that nothing listens on, below the range from which the
/// kernel gives connections theirs; others than it gave out before.
pub fn free_ports(count: u16) -> Option<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const RANGE: u16 = 10_000;
    let spread = (std::process::id() % 200) as u16 * 50;
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..RANGE).find_map(|_| {
        let nth = NEXT.fetch_add(count, Ordering::Relaxed) % RANGE;
        let first = FIRST + (spread + nth) % RANGE;
        let end = first.checked_add(count)?;
        (first..end).all(free).then_some(first)
    })
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
        let own = std::process::id();
        assert!(cpu_time(own).is_ok());
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(proc_field(own, "status", "VmNothing:").is_err());
    }

    #[test]
    fn ports_are_free_when_found() {
        let first = free_ports(3).unwrap();
        let second = free_ports(3).unwrap();
        assert!(first >= 20_000 && first.abs_diff(second) >= 3);
    }
}
