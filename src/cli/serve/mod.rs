//! `corelane serve`: runs the broker.

mod directory;
mod failure;
mod ports;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use self::failure::{launch_error, serve_error};
use crate::cli::terminal::signals::watch;
use crate::cli::{CliError, Context, Exit, counted};
use crate::config::{self, BrokerConfig, Host, ResourcePlan, Settings, Sources};
use crate::node::{NodeOptions, Started, run_on_threads};
use crate::rt::{
    Disk, DurableWrites, LaneReceiver, Probe, ShardHandle, Shards, allowed_cpus, lane,
};
use crate::shard::MemoryPlan;

/// Runs the broker until it is told to stop (SIGTERM, SIGINT).
///
/// Settings: flags win over --set, --set over CORELANE_* variables, these over the file, and the
/// file over the defaults. An unknown key is an error; an unknown CORELANE_* variable is told and
/// ignored, since container managers set some of their own (CORELANE_SERVICE_HOST).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  corelane serve --data-dir /var/lib/corelane\n  \
                        corelane serve --listen 127.0.0.1:9092 --shards 2 --set num.partitions=4"
)]
pub struct ServeArgs {
    /// A file of settings, as Kafka's server.properties
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The data directory (log.dirs)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where shard 0 listens; shard s listens on PORT + s (listeners)
    #[arg(long, value_name = "HOST:PORT", value_parser = ports::parse_listen)]
    listen: Option<String>,
    /// Number of shards, or auto (corelane.shards)
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// When a record is acknowledged: fsync, written or memory (corelane.durability)
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
}

/// What a node is about to be run with.
struct Plan {
    settings: Arc<Settings>,
    config: Arc<BrokerConfig>,
    /// Below the data directory.
    disk: Disk,
    shards: u16,
    shard_memory_bytes: usize,
}

impl ServeArgs {
    /// Runs the broker.
    pub fn run(self, context: &Context) -> Result<(), CliError> {
        let plan = self.plan(context)?;
        let probe = probe(&plan.config)?;
        for line in probe {
            context.say(format_args!("{line}"));
        }
        // Whoever waits for the directory and the ports is told, and the node.
        let (stop, stopped) = sync_channel(2);
        let (stop_node, node_stopped) = lane(1);
        let _watch = watch(move |_| {
            // They are gone when the broker has stopped by itself.
            let _ = stop.send(());
            let _ = stop_node.try_send(());
        })?;
        if !directory::wait_until_free(plan.config.log_dir(), &stopped, context)? {
            return Ok(());
        }
        ports::check(&plan.config.client_listeners(), plan.shards, &stopped)?;
        directory::make(plan.config.log_dir())?;
        serve(plan, node_stopped, context)?;
        context.say(format_args!("stopped in good order"));
        Ok(())
    }

    fn plan(&self, context: &Context) -> Result<Plan, CliError> {
        let host = Host::probe();
        let mut sources = Sources::default();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CliError::new(Exit::Usage, format!("{}: {error}", path.display()))
            })?;
            sources.file(path, &text).map_err(invalid)?;
        }
        sources.environment(std::env::vars());
        for setting in &self.settings {
            sources.set(setting).map_err(invalid)?;
        }
        let listeners = self
            .listen
            .as_ref()
            .map(|address| format!("PLAINTEXT://{address}"));
        let flags = [
            ("--data-dir", "log.dirs", &self.data_dir),
            ("--listen", "listeners", &listeners),
            ("--shards", "corelane.shards", &self.shards),
            ("--durability", "corelane.durability", &self.durability),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                sources.flag(flag, key, value.clone());
            }
        }
        let (mut settings, notices) = sources.load(&host).map_err(invalid)?;
        for notice in notices {
            context.say(format_args!("note: {notice}"));
        }
        let disk = look_at_disk(&mut settings)?;
        let config = settings.resolve(&Default::default()).map_err(invalid)?;
        if !config.corelane_validate_records {
            context.say(format_args!("warning: {UNCHECKED}"));
        }
        let ResourcePlan {
            shards,
            shard_memory_bytes,
        } = ResourcePlan::of(&config, &host);
        let checked = config.client_listeners().check_ports(shards);
        checked.map_err(|why| CliError::new(Exit::Usage, format!("listeners: {why}")))?;
        let checked = config.advertised_listeners.check_shards(shards);
        checked
            .map_err(|why| CliError::new(Exit::Usage, format!("advertised.listeners: {why}")))?;
        let memory_bytes = usize::try_from(shard_memory_bytes).unwrap_or(usize::MAX);
        for notice in MemoryPlan::of(memory_bytes, &config).notices(&config, shards) {
            context.say(format_args!("warning: {notice}"));
        }
        Ok(Plan {
            settings: Arc::new(settings),
            config: Arc::new(config),
            disk,
            shards,
            shard_memory_bytes: memory_bytes,
        })
    }
}

/// What `corelane.validate.records=false` means, for whoever set it.
const UNCHECKED: &str = "corelane.validate.records=false: records are acknowledged unchecked, and a batch \
                         that cannot be read stops every consumer of its partition; for measuring only";

fn invalid(error: crate::config::ConfigError) -> CliError {
    CliError::new(Exit::Usage, error.to_string())
}

/// What the machine lacks, a line each; or why the broker cannot run on it.
fn probe(config: &BrokerConfig) -> Result<Vec<String>, CliError> {
    Probe::take(there(config.log_dir()))
        .verdict()
        .map_err(|fatal| {
            CliError::new(Exit::Host, fatal.what)
                .cause(fatal.cause)
                .detail("effect", fatal.effect)
                .fix(fatal.fix)
        })
}

/// The disk below the data directory, which decides what nobody has set.
fn look_at_disk(settings: &mut Settings) -> Result<Disk, CliError> {
    let config = settings.resolve(&Default::default()).map_err(invalid)?;
    let disk = Disk::of(there(config.log_dir()));
    let way = match disk.durable_writes() {
        DurableWrites::Dsync => config::DurableWrites::Dsync,
        DurableWrites::Flush => config::DurableWrites::Flush,
    };
    settings.set_default("corelane.durable.writes", way.as_str());
    Ok(disk)
}

/// The directory itself may be ours to make; its file system is that of what is there already.
fn there(dir: &Path) -> &Path {
    let there = dir.ancestors().find(|path| path.is_dir());
    there.unwrap_or(Path::new("."))
}

/// Starts a thread per shard and waits for all of them.
fn serve(plan: Plan, stop: LaneReceiver<()>, context: &Context) -> Result<(), CliError> {
    let banner = Banner::new(&plan, context);
    let options = NodeOptions {
        settings: plan.settings,
        config: plan.config,
        shards: plan.shards,
        memory_bytes: plan.shard_memory_bytes / 2,
    };
    let shards = Shards {
        count: usize::from(plan.shards),
        cpus: allowed_cpus(),
        memory_bytes: plan.shard_memory_bytes,
        durable_writes: banner.durable_writes,
    };
    let ready = move |started: Started| banner.print(&started);
    let launched = run_on_threads(&shards, options, ready, stop);
    let handles = launched.map_err(launch_error)?;
    let results: Vec<_> = handles.into_iter().map(ShardHandle::join).collect();
    for result in results {
        result.map_err(launch_error)?.map_err(serve_error)?;
    }
    Ok(())
}

/// What the broker says of itself once it serves: to people on standard error, and as one JSON line
/// on standard output with `--format json`.
struct Banner {
    started_at: std::time::SystemTime,
    durability: &'static str,
    durable_writes: DurableWrites,
    disk: String,
    data_dir: String,
    shard_memory_bytes: usize,
    json: bool,
    quiet: bool,
}

impl Banner {
    fn new(plan: &Plan, context: &Context) -> Self {
        Self {
            started_at: process_start(),
            durability: plan.config.corelane_durability.as_str(),
            durable_writes: match plan.config.corelane_durable_writes {
                Some(config::DurableWrites::Flush) => DurableWrites::Flush,
                Some(config::DurableWrites::Dsync) | None => DurableWrites::Dsync,
            },
            disk: plan.disk.to_string(),
            data_dir: plan.config.log_dir().display().to_string(),
            shard_memory_bytes: plan.shard_memory_bytes,
            json: context.json(),
            quiet: context.quiet(),
        }
    }

    fn print(self, started: &Started) {
        let ready_ms = self.started_at.elapsed().unwrap_or_default().as_millis();
        if self.json {
            self.print_json(started, ready_ms);
        } else if !self.quiet {
            self.print_text(started, ready_ms);
        }
    }

    fn print_text(&self, started: &Started, ready_ms: u128) {
        let first = started
            .listeners
            .first()
            .into_iter()
            .flatten()
            .map(SocketAddr::to_string);
        let shards = started.listeners.len();
        let report = &started.report;
        eprintln!(
            "corelane {}  pid {}  ready in {ready_ms} ms\n\
             \x20 kafka       {}  (shard s listens on port + s)\n\
             \x20 shards      {shards}, {} MiB each\n\
             \x20 data        {}  cluster {}\n\
             \x20 durability  {}{}\n\
             \x20 disk        {}; durable writes {}\n\
             \x20 recovered   {}, {} bytes of journal replayed in {:.1} ms",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            first.collect::<Vec<_>>().join(", "),
            self.shard_memory_bytes >> 20,
            self.data_dir,
            started.cluster_id,
            self.durability,
            match self.durability {
                "fsync" => ": acknowledged means on stable media",
                "written" => ": acknowledged survives a crash of process and kernel, not of power",
                _ => ": acknowledged is lost with the process; for measuring only",
            },
            self.disk,
            match self.durable_writes {
                DurableWrites::Dsync => "with RWF_DSYNC",
                DurableWrites::Flush => "with a flush behind them",
            },
            counted(report.partitions as u64, "partition"),
            report.journal_bytes_replayed,
            report.elapsed.as_secs_f64() * 1e3,
        );
        for (id, reason) in &report.offline {
            eprintln!(
                "warning: partition {} of topic {} is offline: {reason}",
                id.index, id.topic
            );
        }
        for warning in &report.warnings {
            eprintln!("warning: {warning}");
        }
    }

    fn print_json(&self, started: &Started, ready_ms: u128) {
        let listeners: Vec<Vec<String>> = started
            .listeners
            .iter()
            .map(|shard| shard.iter().map(SocketAddr::to_string).collect())
            .collect();
        let line = serde_json::json!({
            "schema": "corelane.serve.ready/1",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ready_ms": ready_ms as u64,
            "listeners": listeners,
            "data_dir": self.data_dir,
            "cluster_id": started.cluster_id,
            "durability": self.durability,
            "durable_writes": match self.durable_writes {
                DurableWrites::Dsync => "dsync",
                DurableWrites::Flush => "flush",
            },
            "disk": self.disk,
            "recovery": {
                "clean_stop": started.clean,
                "journal_bytes_replayed": started.report.journal_bytes_replayed,
                "partitions": started.report.partitions,
                "partitions_offline": started.report.offline.len(),
                "elapsed_ms": started.report.elapsed.as_secs_f64() * 1e3,
            },
        });
        let mut out = std::io::stdout().lock();
        // Whoever started the broker may not listen.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the start of the process is told to people"
)]
fn process_start() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
