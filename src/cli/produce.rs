//! `corelane produce`

use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::future::{Either, select};
use serde::Serialize;

use super::connect::{Rt, existing_topic, with_client};
use super::input::{Input, Lines, lines_of, total_bytes};
use super::terminal::progress::Progress;
use super::terminal::signals::{stopped, watch};
use super::{CliError, Context, Exit, Report, bytes, count, counted, megabytes_per_second};
use crate::client::{
    Batcher, BatcherOptions, Client, ClientError, Deliveries, NewRecord, Producer, ProducerOptions,
    Span,
};
use crate::compress::Level;
use crate::model::Codec;
use crate::model::batch::Header;
use crate::rt::{LaneReceiver, Runtime, lane};
use crate::wire::ErrorCode;

/// After a batch has failed, answers to others are waited for so long: what was written is to be
/// told, but a broker that is gone has been waited for already.
const SETTLE: Duration = Duration::from_secs(1);
/// Pieces that the input has read when it is stopped come within this time.
const LAST_PIECE: Duration = Duration::from_millis(20);

/// Write lines to a topic, each as a record
#[derive(Args)]
#[command(
    after_help = "Examples:\n  corelane produce logs access.log -z zstd:1\n  \
                        echo 'user7:login' | corelane produce events -K : -H source=shell"
)]
pub(super) struct ProduceArgs {
    /// Name of the topic
    topic: String,
    /// Files with a record per line; - or none is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Key of every record
    #[arg(short, long, conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// What stands between key and value of a line; lines without it have no key
    #[arg(short = 'K', long, value_name = "DELIMITER",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_delimiter: Option<String>,
    /// A header of every record
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Codec of the batches: none, gzip, snappy, lz4, zstd; a level may follow, as in zstd:1
    #[arg(short = 'z', long, value_name = "CODEC[:LEVEL]", value_parser = codec, default_value = "none")]
    compression: CodecArg,
    /// Write to this partition, whatever the key
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Who must have a record before it counts as written
    #[arg(long, value_enum, default_value_t, value_name = "ACKS")]
    acks: Acks,
    /// Empty values are tombstones (null), empty keys none
    #[arg(short = 'Z', long)]
    null: bool,
    /// Let the broker create the topic if it does not exist
    #[arg(long)]
    create: bool,
    /// How long records wait for others to share a batch with
    #[arg(long, value_parser = super::terminal::context::parse_duration, default_value = "5ms")]
    linger: super::terminal::context::DurationArg,
    /// Size of a batch before compression, in bytes
    #[arg(long, default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    batch_bytes: u32,
}

/// Whose acknowledgement is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Acks {
    /// Nobody's
    #[value(name = "0")]
    None,
    /// The leader's
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas'; retries never write twice
    #[default]
    All,
}

/// A codec and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodecArg(Level);

#[derive(Serialize)]
struct Produced {
    topic: String,
    records: u64,
    /// Of the records' keys, values and headers.
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    /// Null when nothing was acknowledged.
    ack_p50_us: Option<u64>,
    ack_p99_us: Option<u64>,
}

impl ProduceArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let inner = context.clone();
        let (stop, asked) = lane(1);
        let _watch = watch(move |exit| {
            // It is gone when everything is written.
            let _ = stop.try_send(exit);
        })?;
        let (produced, stopped) =
            with_client(context, |client| produce(client, self, inner, asked))?;
        if context.json() {
            context.print(&produced)?;
        } else {
            let word = if stopped.is_some() { "stopped: " } else { "" };
            context.say(format_args!("{word}{}", produced.text().trim_end()));
        }
        match stopped {
            Some(exit) => Err(CliError::stopped(exit)),
            None => Ok(()),
        }
    }

    fn value<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        Some(value).filter(|value| !(self.null && value.is_empty()))
    }

    /// Key and value of a line.
    fn cut<'l>(&'l self, line: &'l [u8]) -> (Option<&'l [u8]>, Option<&'l [u8]>) {
        let Some(delimiter) = &self.key_delimiter else {
            return (self.key.as_deref().map(str::as_bytes), self.value(line));
        };
        let delimiter = delimiter.as_bytes();
        let at = line
            .windows(delimiter.len())
            .position(|bytes| bytes == delimiter);
        match at {
            None => (None, self.value(line)),
            Some(at) => {
                let (key, rest) = line.split_at(at);
                (self.value(key), self.value(&rest[delimiter.len()..]))
            }
        }
    }
}

async fn produce(
    client: Client<Rt>,
    command: ProduceArgs,
    context: Context,
    mut asked: LaneReceiver<Exit>,
) -> Result<(Produced, Option<Exit>), CliError> {
    let started = client.rt().now();
    let (producer, batcher) = {
        let (stop, ready) = (pin!(stopped(&mut asked)), pin!(prepare(&client, &command)));
        match select(stop, ready).await {
            Either::Left((exit, _)) => return Err(CliError::stopped(exit)),
            Either::Right((ready, _)) => ready?,
        }
    };
    let mut input = Input::open(command.files.clone())?;
    let what = format!("produce to {}", command.topic);
    let total = total_bytes(&command.files);
    let mut progress = Progress::new(&context, what, total, started);
    let feed = Feed {
        rt: client.rt().clone(),
        command: &command,
        context: &context,
        batcher,
        progress: &mut progress,
    };
    let outcome = feed.run(&mut input, &mut asked).await;
    progress.finish();
    producer.close();
    let (deliveries, stopped) = outcome?;
    let seconds = (client.rt().now() - started).as_secs_f64();
    Ok((Produced::of(command.topic, &deliveries, seconds), stopped))
}

/// What writes to the topic, once it is there.
async fn prepare(
    client: &Client<Rt>,
    command: &ProduceArgs,
) -> Result<(Producer<Rt>, Batcher<Rt>), CliError> {
    let partitions = partition_count(client, command).await?;
    let options = ProducerOptions {
        acks: match command.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        idempotent: command.acks == Acks::All,
        codec: command.compression.0,
    };
    let producer = Producer::new(client.clone(), options).await?;
    let options = BatcherOptions {
        batch_bytes: command.batch_bytes as usize,
        linger: command.linger.0,
        ..BatcherOptions::default()
    };
    let rt = client.rt().clone();
    let batcher = Batcher::new(rt, producer.clone(), &command.topic, partitions, options);
    Ok((producer, batcher))
}

/// Partitions of the topic, which is created on request.
async fn partition_count(client: &Client<Rt>, command: &ProduceArgs) -> Result<i32, CliError> {
    let name = command.topic.as_str();
    if command.create {
        client.metadata(Some(&[name]), true).await?;
        let created = client.wait_for_leaders(name).await;
        created.map_err(|error| not_created(name, error))?;
    }
    let topic = match existing_topic(client, name).await {
        Err(error) if error.exit_code() == Exit::NotFound as u8 => {
            return Err(error.fix(format!("corelane topic create {name}, or produce --create")));
        }
        found => found?,
    };
    let count = topic.partitions.len() as i32;
    match command.partition {
        Some(partition) if partition >= count => Err(CliError::new(
            Exit::NotFound,
            format!(
                "'{name}' has no partition {partition}, only 0 to {}",
                count - 1
            ),
        )),
        _ => Ok(count),
    }
}

/// A broker that does not create topics does not say so: the topic stays unknown.
fn not_created(topic: &str, error: ClientError) -> CliError {
    let told = CliError::from(error);
    if told.exit_code() == Exit::NotFound as u8 {
        let fix = format!("corelane topic create {topic}");
        told.cause("the broker does not create topics itself (auto.create.topics.enable)")
            .fix(fix)
    } else {
        told
    }
}

impl Produced {
    fn of(topic: String, deliveries: &Deliveries, seconds: f64) -> Self {
        let latency_us = |quantile| {
            let is_some = deliveries.records() > 0;
            is_some.then(|| deliveries.latency_us(quantile))
        };
        Self {
            topic,
            records: deliveries.records(),
            bytes: deliveries.bytes(),
            seconds,
            bytes_per_second: deliveries.bytes() as f64 / seconds,
            ack_p50_us: latency_us(0.5),
            ack_p99_us: latency_us(0.99),
        }
    }
}

impl Report for Produced {
    const SCHEMA: &'static str = "corelane.produce/2";

    fn text(&self) -> String {
        let written = format!(
            "{}, {} in {:.2} s",
            counted(self.records, "record"),
            bytes(self.bytes),
            self.seconds
        );
        match self.ack_p50_us.zip(self.ack_p99_us) {
            None => format!("{written}\n"),
            Some((p50, p99)) => format!(
                "{written}: {}   ack p50 {:.1} ms, p99 {:.1} ms\n",
                megabytes_per_second(self.bytes_per_second),
                p50 as f64 / 1e3,
                p99 as f64 / 1e3
            ),
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("a header is KEY=VALUE".into()),
    }
}

fn codec(text: &str) -> Result<CodecArg, String> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => (name, Some(level)),
        None => (text, None),
    };
    let Some(codec) = Codec::from_name(name) else {
        let names = Codec::ALL.map(Codec::name);
        let meant = super::suggest(name, names);
        let meant = meant.map(|meant| format!(", did you mean {meant}?"));
        return Err(format!(
            "one of {}{}",
            names.join(", "),
            meant.unwrap_or_default()
        ));
    };
    let Some(level) = level else {
        return Ok(CodecArg(Level::default_of(codec)));
    };
    let level = level.parse().ok().filter(|_| codec != Codec::None);
    match level.and_then(|number| Level::new(codec, number)) {
        Some(level) => Ok(CodecArg(level)),
        None => Err(format!("{name} has no such level")),
    }
}

/// What lines pass through.
struct Feed<'c> {
    rt: Rt,
    command: &'c ProduceArgs,
    context: &'c Context,
    batcher: Batcher<Rt>,
    progress: &'c mut Progress,
}

/// Why no more lines are taken.
enum Ending {
    End,
    Stopped(Exit),
    Broken(CliError),
}

enum Next {
    Piece(Vec<u8>),
    /// A batch has waited long enough.
    Due,
    Ending(Ending),
}

impl Feed<'_> {
    /// Takes lines until there is a reason not to, and waits until they are written. Gives the code
    /// to end with where the user stopped it.
    async fn run(
        mut self,
        input: &mut Input,
        asked: &mut LaneReceiver<Exit>,
    ) -> Result<(Rc<Deliveries>, Option<Exit>), CliError> {
        let deliveries = self.batcher.deliveries().clone();
        let (rt, command) = (self.rt.clone(), self.command);
        let taken = self.take_all(input, asked).await;
        let written = match taken {
            Ok(ending) => self.batcher.finish().await.map(|_| ending),
            Err(error) => Err(error),
        };
        match written {
            Ok(Ending::End) => Ok((deliveries, None)),
            Ok(Ending::Stopped(exit)) => Ok((deliveries, Some(exit))),
            Ok(Ending::Broken(error)) => Err(with_written(error, &deliveries, command)),
            Err(error) => {
                deliveries.settle(&rt, SETTLE).await;
                let error = with_line(error, deliveries.failed());
                Err(with_written(error, &deliveries, command))
            }
        }
    }

    async fn take_all(
        &mut self,
        input: &mut Input,
        asked: &mut LaneReceiver<Exit>,
    ) -> Result<Ending, ClientError> {
        let mut lines = Lines::default();
        let mut taken_bytes = 0;
        let ending = loop {
            match next(&self.rt, input, asked, self.batcher.next_due()).await {
                Next::Piece(piece) => {
                    taken_bytes += piece.len() as u64;
                    self.append(&lines.take(&piece)).await?;
                }
                Next::Due => self.batcher.send_due().await?,
                Next::Ending(ending) => break ending,
            }
            self.progress.show(taken_bytes, self.rt.now());
            // Input that is always ready must not keep the network waiting.
            self.rt.yield_now().await;
        };
        if let Ending::Stopped(_) = ending {
            input.stop();
            while let Some(piece) = last_piece(&self.rt, input).await {
                self.append(&lines.take(&piece)).await?;
            }
            if lines.unfinished_bytes() > 0 {
                self.context.say(format_args!(
                    "an unfinished line of {} bytes is left out",
                    count(lines.unfinished_bytes() as u64)
                ));
            }
        }
        Ok(ending)
    }

    async fn append(&mut self, whole: &[u8]) -> Result<(), ClientError> {
        let headers = self.command.headers.iter().map(|(key, value)| Header {
            key: key.as_bytes(),
            value: Some(value.as_bytes()),
        });
        let headers: Vec<_> = headers.collect();
        let timestamp_ms = self.rt.wall_clock_ms();
        for line in lines_of(whole) {
            let (key, value) = self.command.cut(line);
            let record = NewRecord {
                timestamp_ms,
                key,
                value,
                headers: &headers,
            };
            self.batcher.append(self.command.partition, record).await?;
        }
        Ok(())
    }
}

async fn next(
    rt: &Rt,
    input: &mut Input,
    asked: &mut LaneReceiver<Exit>,
    due: Option<Duration>,
) -> Next {
    let wait = async {
        match due {
            Some(due) => rt.sleep(due.saturating_sub(rt.now())).await,
            None => std::future::pending().await,
        }
    };
    let (piece, wait) = (pin!(input.next()), pin!(wait));
    let piece_or_due = select(piece, wait);
    // Input that is always ready must not hide that the user wants to stop.
    match select(pin!(stopped(asked)), piece_or_due).await {
        Either::Left((exit, _)) => Next::Ending(Ending::Stopped(exit)),
        Either::Right((Either::Left((Some(Ok(piece)), _)), _)) => Next::Piece(piece),
        Either::Right((Either::Left((Some(Err(error)), _)), _)) => {
            Next::Ending(Ending::Broken(error))
        }
        Either::Right((Either::Left((None, _)), _)) => Next::Ending(Ending::End),
        Either::Right((Either::Right(_), _)) => Next::Due,
    }
}

/// A piece that the input had read before it was stopped.
async fn last_piece(rt: &Rt, input: &mut Input) -> Option<Vec<u8>> {
    match select(pin!(input.next()), pin!(rt.sleep(LAST_PIECE))).await {
        Either::Left((piece, _)) => piece?.ok(),
        Either::Right(_) => None,
    }
}

/// Names the line that is too large.
fn with_line(error: ClientError, failed: Option<Span>) -> CliError {
    let fix = match &error {
        ClientError::TooLarge { .. } => "leave it out, or compress it: -z zstd",
        ClientError::Refused {
            code: ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge,
            ..
        } => "leave it out, compress it (-z zstd), or raise the topic's max.message.bytes",
        _ => return error.into(),
    };
    let told = CliError::from(error);
    let Some(Span { first, last, count }) = failed else {
        return told;
    };
    if count == 1 {
        told.detail("line", first.to_string()).fix(fix)
    } else {
        told.detail("lines", format!("{count} of {first} to {last}"))
            .fix("make smaller batches: --batch-bytes")
    }
}

/// Says how far it went, so that the rest can be sent again.
fn with_written(error: CliError, deliveries: &Deliveries, command: &ProduceArgs) -> CliError {
    let label = match command.acks {
        Acks::None => "sent",
        Acks::Leader | Acks::All => "written",
    };
    error.detail(
        label,
        format!(
            "{} of the {} lines read, all up to line {} among them",
            deliveries.records(),
            deliveries.taken(),
            deliveries.all_up_to()
        ),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        command: ProduceArgs,
    }

    fn command(words: &[&str]) -> ProduceArgs {
        let words = ["produce", "topic"].iter().chain(words);
        Line::parse_from(words).command
    }

    #[test]
    fn lines_are_cut_at_the_first_delimiter() {
        let plain = command(&[]);
        assert_eq!(plain.cut(b"a:b"), (None, Some(&b"a:b"[..])));
        let cut = command(&["-K", "::"]);
        assert_eq!(cut.cut(b"a::b::c"), (Some(&b"a"[..]), Some(&b"b::c"[..])));
        assert_eq!(cut.cut(b"a:b"), (None, Some(&b"a:b"[..])));
        assert_eq!(cut.cut(b"::"), (Some(&b""[..]), Some(&b""[..])));
        let keyed = command(&["-k", "key"]);
        assert_eq!(keyed.cut(b""), (Some(&b"key"[..]), Some(&b""[..])));
    }

    #[test]
    fn empty_may_stand_for_null() {
        let null = command(&["-Z", "-K", ":"]);
        assert_eq!(null.cut(b"a:"), (Some(&b"a"[..]), None));
        assert_eq!(null.cut(b":b"), (None, Some(&b"b"[..])));
        assert_eq!(null.cut(b""), (None, None));
    }

    #[test]
    fn codecs_have_levels() {
        let level = |codec: Codec, number| Ok(CodecArg(Level::new(codec, number).unwrap()));
        let default = |codec: Codec| Ok(CodecArg(Level::default_of(codec)));
        assert_eq!(codec("none"), default(Codec::None));
        assert_eq!(codec("zstd:1"), level(Codec::Zstd, 1));
        assert_eq!(codec("zstd:-7"), level(Codec::Zstd, -7));
        assert_eq!(codec("lz4"), default(Codec::Lz4));
        for bad in ["", "none:1", "gzip:10", "zstd:", "zstd:x", "brotli"] {
            assert!(codec(bad).is_err(), "{bad}");
        }
        assert!(codec("ztd").unwrap_err().contains("did you mean zstd?"));
    }
}
