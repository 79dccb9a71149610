//! `corelane demo`: the main job in one command.
//!
//! | file | what |
//! |---|---|
//! | `lines` | log lines that look real, from a fixed seed |
//! | `corpus` | which record each line makes, and where it goes |
//! | `broker` | the broker as a process of its own |
//! | `flow` | in, out at the tail, out from the segments |
//! | `check` | every record compared with what was sent |
//! | `report` | the table |

mod broker;
mod check;
mod corpus;
mod flow;
mod lines;
mod report;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use clap::Args;

use self::broker::Broker;
use self::corpus::Corpus;
use self::flow::{Flow, Ingested};
use self::report::{CodecRow, Demo};
use super::connect::{self, MEMORY_BYTES, Rt};
use super::info::durability;
use super::{CliError, Context, Exit, bytes, counted};
use crate::client::{Client, ClientOptions, NewTopic};
use crate::config::{default_log_dir, default_shards};
use crate::model::Codec;
use crate::rt::{Runtime, allowed_cpus, run_one};

/// Start a broker, ingest a log with every codec, read all back and compare every record
#[derive(Args)]
#[command(after_help = "Examples:\n  corelane demo\n  corelane demo --input access.log")]
pub(super) struct DemoArgs {
    /// A log file to ingest instead of a generated one
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How much to ingest per codec: of the input at most, of generated lines exactly [default: all
    /// of the input; 256MB generated]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Partitions of each topic
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// Where the demo makes its directory [default: the broker's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave the data there
    #[arg(long)]
    keep: bool,
    /// A command for the shell to run before the cold read, with the data directory in DEMO_DATA
    #[arg(long, hide = true, value_name = "COMMAND")]
    before_cold_read: Option<String>,
}

/// What a demo generates when no size is given.
const DEFAULT_BYTES: u64 = 256_000_000;

impl DemoArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        // Before anything is made that would have to be taken away again.
        let limit = self.size.unwrap_or(Corpus::BYTES_MAX);
        let input = self.input.as_ref();
        let input = input.map(|path| Corpus::read(path, limit)).transpose()?;
        let dir = WorkDir::create(self.data_dir.clone(), self.keep)?;
        let inner = context.clone();
        let demo = run_one(MEMORY_BYTES, |rt| async move {
            let demo = self.demo(&rt, &dir, input, &inner).await;
            match &demo {
                Ok(_) => dir.remove(&inner)?,
                Err(_) => inner.say(format_args!("the data stays in {}", dir.path.display())),
            }
            demo
        })??;
        context.print(&demo)?;
        if !context.json() {
            writeln!(
                std::io::stdout(),
                "verified {} records",
                demo.records_verified
            )?;
        }
        Ok(())
    }

    async fn demo(
        &self,
        rt: &Rt,
        dir: &WorkDir,
        input: Option<Vec<u8>>,
        context: &Context,
    ) -> Result<Demo, CliError> {
        let is_on_tmpfs = dir.is_on_tmpfs();
        if is_on_tmpfs {
            context.say(format_args!(
                "{} is on tmpfs: nothing is durable",
                dir.path.display()
            ));
        }
        let corpus = Arc::new(self.corpus(rt, dir, input, context)?);
        let mut stage = Stage::open(rt, dir, context).await?;
        let flows = self.flows(&stage, &corpus, context);
        let mut rows = Vec::new();
        for flow in &flows {
            rows.push(ingest(&stage, flow).await?);
        }
        stage.restart(rt, context).await?;
        self.run_hook(&stage)?;
        let sizes = stage.client(rt).log_dirs().await.ok();
        for (flow, row) in flows.iter().zip(&mut rows) {
            let seconds = flow.read_cold(rt.clone()).await?;
            flow.check_ends(&stage.client(rt)).await?;
            row.cold_bytes_per_second = corpus.bytes() as f64 / seconds;
            row.disk_bytes = sizes.as_ref().map(|dirs| {
                let all = dirs.iter().flat_map(|dir| &dir.partitions);
                let own = all.filter(|((topic, _), _)| *topic == flow.topic);
                own.map(|(_, size)| u64::try_from(*size).unwrap_or(0)).sum()
            });
        }
        let demo = Demo {
            input: self.input_name(),
            records_per_codec: corpus.records() as u64,
            payload_bytes: corpus.bytes(),
            partitions: self.partitions,
            durability: stage.durability(rt).await,
            is_on_tmpfs,
            codecs: rows,
            records_verified: (corpus.records() * flows.len()) as u64,
        };
        stage.close(rt, &flows, self.keep).await?;
        Ok(demo)
    }

    /// The lines to ingest; written first when no file is given.
    fn corpus(
        &self,
        rt: &Rt,
        dir: &WorkDir,
        input: Option<Vec<u8>>,
        context: &Context,
    ) -> Result<Corpus, CliError> {
        let input = match input {
            Some(input) => input,
            None => {
                let limit = self.size.unwrap_or(DEFAULT_BYTES);
                let path = dir.path.join("input.log");
                let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
                // The line that would pass the limit is not ingested.
                lines::write_lines(&mut file, limit)?;
                Corpus::read(&path, limit)?
            }
        };
        let corpus = Corpus::of(input, self.partitions, rt.wall_clock_ms());
        context.say(format_args!(
            "{}: {}, {}",
            self.input_name(),
            counted(corpus.records() as u64, "line"),
            bytes(corpus.bytes())
        ));
        Ok(corpus)
    }

    fn input_name(&self) -> String {
        match &self.input {
            Some(path) => path.display().to_string(),
            None => "generated web server logs".into(),
        }
    }

    /// Without a codec, and with each.
    fn flows(&self, stage: &Stage, corpus: &Arc<Corpus>, context: &Context) -> Vec<Flow> {
        Codec::ALL
            .into_iter()
            .map(|codec| Flow {
                corpus: corpus.clone(),
                options: stage.options.clone(),
                topic: format!("{}{codec}", stage.topic_prefix),
                codec,
                context: context.clone(),
            })
            .collect()
    }

    fn run_hook(&self, stage: &Stage) -> Result<(), CliError> {
        let Some(command) = &self.before_cold_read else {
            return Ok(());
        };
        let mut shell = process::Command::new("sh");
        shell.args(["-c", command]).stdout(process::Stdio::null());
        if let Some(broker) = &stage.broker {
            shell.env("DEMO_DATA", broker.data_dir());
        }
        let status = shell.status()?;
        if status.success() {
            Ok(())
        } else {
            let what = format!("--before-cold-read ended with {status}");
            Err(CliError::new(Exit::Failure, what))
        }
    }
}

/// Sends one codec's records, with a consumer at the tail.
async fn ingest(stage: &Stage, flow: &Flow) -> Result<CodecRow, CliError> {
    let rt = stage.rt.clone();
    let client = stage.client(&rt);
    let topic = NewTopic {
        name: flow.topic.clone(),
        partitions: flow.corpus.partitions().len() as i32,
        replication_factor: -1,
        configs: vec![
            ("max.message.bytes".into(), (8 << 20).to_string()),
            ("retention.ms".into(), "-1".into()),
        ],
    };
    client.create_topic(&topic, false).await?;
    client.wait_for_leaders(&flow.topic).await?;
    client.close();
    let cpu_before = stage.cpu_seconds();
    let Ingested {
        seconds,
        tail_seconds,
        ack_p50_us,
        ack_p99_us,
    } = flow.ingest_and_tail()?;
    let cpu_after = stage.cpu_seconds();
    let payload_bytes = flow.corpus.bytes() as f64;
    let per_gb = |(before, after): (f64, f64)| (after - before) / payload_bytes * 1e9;
    Ok(CodecRow {
        codec: flow.codec_name(),
        produce_bytes_per_second: payload_bytes / seconds,
        tail_bytes_per_second: payload_bytes / tail_seconds,
        cold_bytes_per_second: 0.0,
        ack_p50_us,
        ack_p99_us,
        disk_bytes: None,
        broker_cpu_seconds_per_gb: cpu_before.zip(cpu_after).map(per_gb),
    })
}

/// The broker that a demo is about: one of its own, or the one that was named.
struct Stage {
    rt: Rt,
    options: ClientOptions,
    broker: Option<Broker>,
    topic_prefix: String,
}

impl Stage {
    async fn open(rt: &Rt, dir: &WorkDir, context: &Context) -> Result<Self, CliError> {
        let mut options = connect::options(context);
        if context.named_brokers().is_some() {
            let topic_prefix = format!("corelane-demo-{:08x}-", rt.random_u64() as u32);
            return Ok(Self {
                rt: rt.clone(),
                options,
                broker: None,
                topic_prefix,
            });
        }
        let mut broker = Broker::new(&dir.path, default_shards(allowed_cpus().len()))?;
        broker.start(rt).await?;
        options.brokers = vec![broker.address()];
        Ok(Self {
            rt: rt.clone(),
            options,
            broker: Some(broker),
            topic_prefix: "demo-".into(),
        })
    }

    fn client(&self, rt: &Rt) -> Client<Rt> {
        Client::new(rt.clone(), self.options.clone())
    }

    fn cpu_seconds(&self) -> Option<f64> {
        self.broker.as_ref()?.cpu_seconds()
    }

    async fn durability(&self, rt: &Rt) -> Option<String> {
        let client = self.client(rt);
        let brokers = client.refresh(Some(&[])).await.ok()?.brokers;
        durability(&client, brokers.keys().next().copied()).await
    }

    /// Stops the broker and starts it again, so that nothing is left in its memory.
    async fn restart(&mut self, rt: &Rt, context: &Context) -> Result<(), CliError> {
        match &mut self.broker {
            None => {
                context.say(format_args!(
                    "the broker is not ours: cold reads without a restart"
                ));
                Ok(())
            }
            Some(broker) => {
                broker.stop(rt).await?;
                broker.start(rt).await
            }
        }
    }

    /// Leaves nothing behind, neither here nor on a broker that was named.
    async fn close(self, rt: &Rt, flows: &[Flow], keep: bool) -> Result<(), CliError> {
        let client = self.client(rt);
        match self.broker {
            Some(mut broker) => broker.stop(rt).await,
            None if keep => Ok(()),
            None => {
                for flow in flows {
                    client.delete_topic(&flow.topic).await?;
                }
                Ok(())
            }
        }
    }
}

/// A directory that was not there before.
struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    fn create(parent: Option<PathBuf>, keep: bool) -> Result<Self, CliError> {
        let is_root = rustix::process::geteuid().is_root();
        let parent = parent.unwrap_or_else(|| default_log_dir(is_root).into());
        let id = uuid::Uuid::new_v4().simple().to_string();
        // No name that a broker whose data directory this is could take for a partition's.
        let path = parent.join(format!("demo_{}", &id[..12]));
        fs::create_dir_all(&path).map_err(|error| {
            CliError::new(Exit::Failure, format!("{}: {error}", path.display()))
                .fix("corelane demo --data-dir DIR")
        })?;
        let path = path.canonicalize()?;
        Ok(Self { path, keep })
    }

    fn is_on_tmpfs(&self) -> bool {
        /// TMPFS_MAGIC of statfs(2).
        const TMPFS: i64 = 0x0102_1994;
        rustix::fs::statfs(&self.path).is_ok_and(|found| found.f_type == TMPFS)
    }

    fn remove(&self, context: &Context) -> Result<(), CliError> {
        if self.keep {
            context.say(format_args!("the data stays in {}", self.path.display()));
            return Ok(());
        }
        fs::remove_dir_all(&self.path)?;
        // Ours if the demo made it: then it is empty now.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// Reads a size: a number with nothing, kB, MB, GB, KiB, MiB or GiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let size = number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    size.filter(|size| *size > 0)
        .ok_or_else(|| "a size is a number with kB, MB, GB, KiB, MiB or GiB, such as 256MB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("7"), Ok(7));
        assert_eq!(parse_size("256MB"), Ok(256_000_000));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        for bad in ["", "0", "MB", "-1MB", "1.5GB", "1XB", "99999999999GB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_work_directory_is_new_and_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("data");
        let work = WorkDir::create(Some(parent.clone()), false).unwrap();
        assert!(work.path.is_dir());
        let context = Context::new(Default::default(), |_| None);
        work.remove(&context).unwrap();
        assert!(!parent.exists());
    }
}
