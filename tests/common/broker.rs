//! `corelane serve` as a child process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::connection::Connection;

/// How long a start may take before the test gives up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The kernel's ticks per second in /proc/PID/stat (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

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
            port: free_ports(4),
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
    child: Child,
    log: PathBuf,
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
        let output = File::options().create(true).append(true).open(&log);
        let output = output.expect("the broker's log");
        let mut command = Self::command(dir, options);
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a second handle"));
        command.stderr(output);
        let started = Instant::now();
        let child = command.spawn().expect("the broker's binary");
        Self {
            child,
            log,
            options: options.clone(),
            started,
        }
    }

    /// The command line that starts it.
    pub fn command(dir: &Path, options: &Options) -> Command {
        let binary = env!("CARGO_BIN_EXE_corelane");
        let mut command = match options.open_files {
            None => Command::new(binary),
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                shell.args(["-c", &script, binary]);
                shell
            }
        };
        command.args(["serve", "--json", "--data-dir"]).arg(dir);
        command.args(["--listen", &format!("127.0.0.1:{}", options.port)]);
        command.args(["--shards", &options.shards.to_string()]);
        command.args(["--durability", options.durability]);
        for setting in &options.settings {
            command.args(["--set", setting]);
        }
        command.env("NO_COLOR", "1");
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
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the child's state").is_none()
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("the child's end");
    }

    /// Asks the process to stop.
    pub fn signal_stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
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
            if let Some(status) = self.child.try_wait().expect("the child's state") {
                return status;
            }
            assert!(began.elapsed() < limit, "no end in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that brokers on this directory and port have said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.map(|text| text.trim().trim_end_matches(" kB").parse::<u64>());
        kib.expect("VmRSS").expect("a number") * 1024
    }

    /// User and system time so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(')').expect("the name in parentheses");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
    }

    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.pid());
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("a living broker")
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
        // Both fail when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

/// The first of `count` neighbouring ports that nothing listens on, below the range from which
/// the kernel gives connections theirs.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let nth = NEXT.fetch_add(count, Ordering::Relaxed);
        let spread = (std::process::id() % 200) as u16 * 50;
        let first = 20_000 + (spread + nth) % 10_000;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(free) {
            return first;
        }
    }
}
