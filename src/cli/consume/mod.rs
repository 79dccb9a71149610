//! `corelane consume`

mod offsets;
mod record;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::Args;

use self::offsets::{OffsetRange, Point};
use self::record::{RecordFormat, Shown, write_json};
use crate::cli::connect::{Rt, existing_topic, with_client};
use crate::cli::{CliError, Context, Exit};
use crate::client::{Client, ClientError, Consumer, ConsumerOptions, Fetched, When};
use crate::compress::Codecs;
use crate::model::Offset;
use crate::rt::Runtime;

/// Read records from topics
#[derive(Args)]
#[command(
    after_help = "Examples:\n  corelane consume logs -o -10 -e\n  \
                  corelane consume logs -o @-1h:end -f '%T %k %s\\n'",
    after_long_help = OFFSET_HELP
)]
pub(in crate::cli) struct ConsumeArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin, and where to end: start, end, 47, +2, -3, 10:20, @TIME:@TIME, …
    #[arg(
        short,
        long = "offset",
        value_name = "OFFSET",
        allow_hyphen_values = true
    )]
    offsets: Vec<OffsetRange>,
    /// Stop after so many records
    #[arg(short, long = "number", value_name = "N")]
    number: Option<u64>,
    /// Stop at the end of each partition, as it is at the beginning
    #[arg(short, long)]
    exit: bool,
    /// How a record is shown: json (a document per record, without a schema name), or a text with %t topic, %p partition, %o offset, %k key,
    /// %s or %v value, %K and %S their sizes, %T timestamp in ms, %h headers
    #[arg(short = 'f', long, value_name = "FORMAT", default_value = "%s\\n")]
    record_format: Style,
    /// Read these partitions alone
    #[arg(short, long = "partition", value_name = "N", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// How often to look for partitions that were added
    #[arg(long, value_parser = crate::cli::terminal::context::parse_duration, default_value = "30s")]
    metadata_age: crate::cli::terminal::context::DurationArg,
    /// Read as a member of a group (not there yet)
    #[arg(short, long, hide = true)]
    group: Option<String>,
}

const OFFSET_HELP: &str = "Offsets:
  start, end     the log's start (default), its end
  47             that offset
  +2, -3         two behind the start, three before the end
  10:20, :end    from, and up to but not including
  @TIME          the first record at or after a time; @TIME:@TIME between two
  s@TIME e@TIME  from, up to a time, as in kcat
A time is Unix seconds or milliseconds, RFC 3339, YYYY-MM-DD (UTC), or an age such as -1h.

Examples:
  corelane consume logs -o -10 -e
  corelane consume logs -o @-1h:end -f '%T %k %s\\n'
";

/// How records are shown.
#[derive(Clone, Debug)]
enum Style {
    Json,
    Text(RecordFormat),
}

impl std::str::FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            text => text.parse().map(Self::Text),
        }
    }
}

impl ConsumeArgs {
    pub(in crate::cli) fn run(self, context: &Context) -> Result<(), CliError> {
        if self.group.is_some() {
            return Err(CliError::usage("consumer groups do not exist yet")
                .fix("without --group all partitions are read, from --offset on"));
        }
        let style = if context.json() {
            Style::Json
        } else {
            self.record_format.clone()
        };
        let inner = context.clone();
        with_client(context, |client| consume(client, self, style, inner))
    }

    /// What is asked for of every partition.
    fn range(&self) -> OffsetRange {
        let ranges = self.offsets.iter();
        ranges.fold(OffsetRange::ALL, |range, more| range.and(*more))
    }

    /// Whether partitions that are added while it reads belong to what was asked for.
    fn may_grow(&self) -> bool {
        self.partitions.is_empty() && !self.exit && self.range().to.is_none()
    }
}

/// What of each partition is printed.
type Spans = BTreeMap<(String, i32), Span>;

/// The offsets of a partition that are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The first.
    from: i64,
    /// The one before which reading stops; `None` is never.
    to: Option<i64>,
    /// Where the broker is asked from: `from`, or the log's end where that is still before it.
    ask: i64,
}

async fn consume(
    client: Client<Rt>,
    command: ConsumeArgs,
    style: Style,
    context: Context,
) -> Result<(), CliError> {
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    let mut spans = Spans::new();
    for topic in &command.topics {
        let partitions = partitions(&client, topic, &command.partitions).await?;
        let (range, exit) = (command.range(), command.exit);
        let bounds = Bounds::of(&client, topic, &partitions, range, exit).await?;
        for partition in partitions {
            let span = bounds.span(partition, &context);
            if span.to.is_none_or(|to| span.from < to) {
                consumer.assign(topic, partition, Offset(span.ask));
                spans.insert((topic.clone(), partition), span);
            }
        }
    }
    let mut printer = Printer {
        out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        style,
        pretty: io::stdout().is_terminal(),
        codecs: Codecs::new(),
        left: command.number.unwrap_or(u64::MAX),
    };
    let rt = client.rt().clone();
    let mut looked_at = rt.now();
    while !consumer.is_idle() && printer.left > 0 {
        if command.may_grow() && rt.now() - looked_at >= command.metadata_age.0 {
            looked_at = rt.now();
            for (topic, partition, span) in added(&client, &command, &spans, &context).await {
                consumer.assign(&topic, partition, Offset(span.ask));
                spans.insert((topic, partition), span);
            }
        }
        for fetched in consumer.poll().await? {
            let key = (fetched.topic.to_string(), fetched.partition);
            let Some(span) = spans.get(&key).copied() else {
                continue;
            };
            printer.print(&fetched, span)?;
            let next = consumer.position(&key.0, key.1);
            if span
                .to
                .is_some_and(|to| next.is_some_and(|next| next.0 >= to))
            {
                consumer.unassign(&key.0, key.1);
            }
        }
        printer.out.flush()?;
    }
    Ok(printer.out.flush()?)
}

/// What there is to read of partitions that were not there before.
async fn added(
    client: &Client<Rt>,
    command: &ConsumeArgs,
    known: &Spans,
    context: &Context,
) -> Vec<(String, i32, Span)> {
    let mut added = Vec::new();
    for topic in &command.topics {
        // What does not work here is tried again; the fetches tell whether the topic can be read.
        let Ok(metadata) = client.refresh(Some(&[topic])).await else {
            continue;
        };
        let partitions = metadata.topics.get(topic).map(|found| &found.partitions);
        let fresh = partitions
            .into_iter()
            .flatten()
            .map(|partition| partition.index);
        let fresh: Vec<i32> = fresh
            .filter(|partition| !known.contains_key(&(topic.clone(), *partition)))
            .collect();
        if fresh.is_empty() {
            continue;
        }
        let from = match command.range().from {
            from @ Some(Point::Exact(_) | Point::Time(_)) => from,
            // All that they hold has come since reading began.
            _ => Some(Point::Start),
        };
        let range = OffsetRange { from, to: None };
        let Ok(bounds) = Bounds::of(client, topic, &fresh, range, false).await else {
            continue;
        };
        for partition in fresh {
            context.say(format_args!("partition {partition} of {topic} is new"));
            added.push((topic.clone(), partition, bounds.span(partition, context)));
        }
    }
    added
}

/// The partitions to read of a topic.
async fn partitions(
    client: &Client<Rt>,
    topic: &str,
    wanted: &[i32],
) -> Result<Vec<i32>, CliError> {
    let all = existing_topic(client, topic).await?.partitions;
    let all: Vec<i32> = all.into_iter().map(|partition| partition.index).collect();
    if wanted.is_empty() {
        return Ok(all);
    }
    match wanted.iter().find(|partition| !all.contains(partition)) {
        Some(missing) => Err(CliError::new(
            Exit::NotFound,
            format!(
                "'{topic}' has no partition {missing}, only 0 to {}",
                all.len() - 1
            ),
        )),
        None => Ok(wanted.to_vec()),
    }
}

/// Where the partitions of a topic start and end, and what was asked for.
struct Bounds {
    starts: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    from: Asked,
    to: Option<Asked>,
    /// Nothing behind the end, as it is now, is waited for.
    stop_at_end: bool,
}

/// A point, with the offsets of its time where it has one.
struct Asked {
    point: Point,
    at_time: BTreeMap<i32, i64>,
}

impl Bounds {
    async fn of(
        client: &Client<Rt>,
        topic: &str,
        partitions: &[i32],
        range: OffsetRange,
        stop_at_end: bool,
    ) -> Result<Self, CliError> {
        let from = range.from.unwrap_or(Point::Start);
        Ok(Self {
            starts: list(client, topic, partitions, When::Start).await?,
            ends: list(client, topic, partitions, When::End).await?,
            from: Asked::of(client, topic, partitions, from).await?,
            to: match range.to {
                Some(to) => Some(Asked::of(client, topic, partitions, to).await?),
                None => None,
            },
            stop_at_end,
        })
    }

    /// What to read of a partition.
    fn span(&self, partition: i32, context: &Context) -> Span {
        let start = self.starts.get(&partition).copied().unwrap_or(0);
        let end = self.ends.get(&partition).copied().unwrap_or(start);
        let asked = self.from.offset(partition, start, end);
        let from = asked.max(start);
        let to = self.to.as_ref().map(|to| to.offset(partition, start, end));
        let to = match to {
            to if self.stop_at_end => Some(to.unwrap_or(end).min(end)),
            to => to,
        };
        if from != asked {
            context.say(format_args!(
                "partition {partition} begins at offset {start}: reading from there, not from {asked}"
            ));
        } else if from > end {
            let then = match to {
                Some(to) if to <= from => "nothing to read".to_owned(),
                _ => format!("waiting for offset {from}"),
            };
            context.say(format_args!(
                "partition {partition} ends at offset {end}: {then}"
            ));
        }
        let ask = from.min(end);
        Span { from, to, ask }
    }
}

impl Asked {
    async fn of(
        client: &Client<Rt>,
        topic: &str,
        partitions: &[i32],
        point: Point,
    ) -> Result<Self, CliError> {
        let at_time = match point {
            Point::Time(time) => {
                let time = time.unix_ms(client.rt().wall_clock_ms());
                list(client, topic, partitions, When::TimestampMs(time)).await?
            }
            _ => BTreeMap::new(),
        };
        Ok(Self { point, at_time })
    }

    fn offset(&self, partition: i32, start: i64, end: i64) -> i64 {
        match self.point {
            Point::Start => start,
            Point::End => end,
            Point::Exact(offset) => offset,
            Point::FromStart(count) => start.saturating_add(count).min(end),
            Point::BeforeEnd(count) => end.saturating_sub(count).max(start),
            // Nothing is as late: the end.
            Point::Time(_) => self.at_time.get(&partition).copied().unwrap_or(end),
        }
    }
}

async fn list(
    client: &Client<Rt>,
    topic: &str,
    partitions: &[i32],
    when: When,
) -> Result<BTreeMap<i32, i64>, ClientError> {
    let listed = client.list_offsets(topic, partitions, when).await?;
    let found = listed.into_iter();
    Ok(found
        .filter_map(|(partition, listed)| Some((partition, listed.offset?.0)))
        .collect())
}

struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    style: Style,
    pretty: bool,
    codecs: Codecs,
    left: u64,
}

impl Printer {
    fn print(&mut self, fetched: &Fetched, span: Span) -> Result<(), CliError> {
        let Self {
            out,
            style,
            pretty,
            codecs,
            left,
        } = self;
        let end = span.to.unwrap_or(i64::MAX);
        let mut printed = Ok(());
        fetched.for_each_record(codecs, |offset, timestamp_ms, record| {
            if *left == 0 || !(span.from..end).contains(&offset.0) || printed.is_err() {
                return;
            }
            let shown = Shown {
                topic: &fetched.topic,
                partition: fetched.partition,
                offset: offset.0,
                timestamp_ms,
                record,
            };
            printed = match style {
                Style::Json => write_json(out, shown, *pretty),
                Style::Text(format) => format.write(out, shown),
            };
            *left -= 1;
        })?;
        Ok(printed?)
    }
}
