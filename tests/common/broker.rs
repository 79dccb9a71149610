//! `corelane serve` as a child process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use corelane::cli::child::{self, BrokerProcess, free_ports, serve_command};

use super::connection::Connection;

/// How long a start may take before the test gives up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct Options {
    pub shards: u16,
    /// The first shard's port; the others follow. Chosen by [`Options::new`].
    pub port: u16,
    pub durability: &'static str,
    /// `--set` arguments.
    pub settings: Vec<String>,
    /// How many files it may have open (RLIMIT_NOFILE); none for as many as the tests may.
    pub open_files: Option<u64>,
}

impl Options {
    /// Durable, on free ports, with small journals so that starts are quick and space is reused.
    pub fn new(shards: u16) -> Self {
        Self {
            shards,
            port: free_ports(4).expect("free ports"),
            durability: "fsync",
            settings: vec![
                "corelane.journal.bytes=33554432".into(),
                "corelane.memory=268435456".into(),
                "log.retention.ms=-1".into(),
            ],
            open_files: None,
        }
    }

    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }
}

/// A broker that ends with this value, if not before.
pub struct Broker {
    process: BrokerProcess,
    pub options: Options,
    pub started: Instant,
}

impl Broker {
    /// Starts a broker on `dir` and waits until every shard answers.
    pub fn start(dir: &Path, options: &Options) -> Self {
        let mut broker = Self::spawn(dir, options);
        for shard in 0..options.shards {
            broker.wait_until_ready(broker.address_of(shard));
        }
        broker
    }

    /// Starts a broker on `dir` and does not wait.
    pub fn spawn(dir: &Path, options: &Options) -> Self {
        let log = dir.with_extension(format!("log-{}", options.port));
        let started = Instant::now();
        let process = BrokerProcess::spawn(&mut Self::command(dir, options), &log, false);
        Self {
            process: process.expect("the broker's binary"),
            options: options.clone(),
            started,
        }
    }

    /// The command line that starts it.
    pub fn command(dir: &Path, options: &Options) -> Command {
        let binary = env!("CARGO_BIN_EXE_corelane");
        let program = match options.open_files {
            None => Command::new(binary),
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                shell.args(["-c", &script, binary]);
                shell
            }
        };
        let mut command = serve_command(program, dir, options.port, options.shards);
        command.args(["--json", "--durability", options.durability]);
        for setting in &options.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Shard 0's address.
    pub fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    pub fn address_of(&self, shard: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.options.port + shard).into()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address()).expect("the broker accepts")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.ended().expect("the child's state").is_none()
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.process.kill().expect("the child's end");
    }

    /// Asks the process to stop.
    pub fn signal_stop(&self) {
        self.process.ask_to_stop().expect("SIGTERM");
    }

    /// Asks the process to stop, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal_stop();
        self.wait(STOP_LIMIT)
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.ended().expect("the child's state") {
                return status;
            }
            assert!(began.elapsed() < limit, "no end in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that brokers on this directory and port have said.
    pub fn log(&self) -> String {
        self.process.said()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        child::resident_bytes(self.pid()).expect("a living broker")
    }

    /// User and system time so far.
    pub fn cpu_time(&self) -> Duration {
        child::cpu_time(self.pid()).expect("a living broker")
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.pid());
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    fn wait_until_ready(&mut self, address: SocketAddr) {
        while !Connection::open(address).is_ok_and(|mut connection| connection.answers()) {
            let log = self.log();
            assert!(self.is_alive(), "the broker ended at its start\n{log}");
            assert!(self.started.elapsed() < START_LIMIT, "not ready\n{log}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}
