//! `check`: what it costs to look at every record of a producer's batch, without a broker around it.
//! Times are processor times of one thread.

use std::fmt::Write as _;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use corelane::compress::{Codecs, Level};
use corelane::config::{BrokerConfig, Host, Sources, TopicConfig};
use corelane::model::Codec;
use corelane::model::batch::{BatchBuilder, BatchFields, BatchView, Records};
use corelane::partition::{AdmissionRules, BatchOpener};
use corelane::rt::Aside;
use serde::Serialize;

use crate::args::{median, print_report};
use crate::clock;
use crate::process::load_average;

/// Plain bytes of the batches.
const BATCH_BYTES: [usize; 4] = [1 << 10, 16 << 10, 128 << 10, 1 << 20];
/// How long one figure is measured, this often; the median counts.
const MEASURED: Duration = Duration::from_millis(60);
const ROUNDS: usize = 5;
/// Calls between two looks at the clock.
const CALLS: u32 = 16;
/// Input of the levels.
const STEPS_INPUT_BYTES: usize = 4 << 20;

/// What it costs to check every record, per codec and size; how long compression holds a core
#[derive(clap::Args)]
pub struct CheckArgs {
    /// Bytes of a record's value: a line of a log
    #[arg(long, default_value_t = 200)]
    record_bytes: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct CheckReport {
    record_bytes: usize,
    batches: Vec<BatchRow>,
    levels: Vec<LevelRow>,
    load_average: f64,
}

#[derive(Serialize)]
struct BatchRow {
    codec: &'static str,
    plain_bytes: usize,
    sent_bytes: usize,
    records: i32,
    /// The gateway with `corelane.validate.records=false`: header and CRC.
    unchecked_ns: f64,
    /// The gateway as it is by default.
    checked_ns: f64,
    /// Plain megabytes per second of what the check adds.
    check_megabytes_per_second: f64,
    /// What the check would add if it decompressed into memory of its own and decoded every field.
    decoded_ns: f64,
}

#[derive(Serialize)]
struct LevelRow {
    level: String,
    step_bytes: usize,
    megabytes_per_second: f64,
    longest_step_ms: f64,
}

impl CheckArgs {
    pub fn run(self) -> Result<()> {
        let mut batches = Vec::new();
        for codec in Codec::ALL {
            for plain_bytes in BATCH_BYTES {
                batches.push(self.batch_row(codec, plain_bytes)?);
            }
        }
        let levels = [
            (Codec::Gzip, &[1, 6, 9][..]),
            (Codec::Snappy, &[0]),
            (Codec::Lz4, &[9]),
            (Codec::Zstd, &[-5, 1, 3, 6, 9, 10, 15, 19, 22]),
        ];
        let input = text(STEPS_INPUT_BYTES);
        let mut rows = Vec::new();
        for (codec, numbers) in levels {
            for number in numbers {
                let level = Level::new(codec, *number).context("a level")?;
                rows.push(level_row(level, &input)?);
            }
        }
        let report = CheckReport {
            record_bytes: self.record_bytes,
            batches,
            levels: rows,
            load_average: load_average(),
        };
        print_report(self.json, &report, &report.rows())
    }

    fn batch_row(&self, codec: Codec, plain_bytes: usize) -> Result<BatchRow> {
        let batch = batch(codec, plain_bytes, self.record_bytes)?;
        let view = BatchView::first_verified(&batch)?;
        let unchecked_ns = gateway_ns(&batch, "false")?;
        let checked_ns = gateway_ns(&batch, "true")?;
        let mut codecs = Codecs::new();
        let decoded_ns = measured_ns(|| {
            let mut plain = Vec::new();
            let done = codecs.decompress(codec, view.records(), &mut plain, usize::MAX);
            let records = Records::new(&plain, view.record_count());
            done.is_ok() && records.filter(|record| black_box(record).is_err()).count() == 0
        })?;
        let check_ns = (checked_ns - unchecked_ns).max(1.0);
        Ok(BatchRow {
            codec: codec.name(),
            plain_bytes,
            sent_bytes: batch.len(),
            records: view.record_count(),
            unchecked_ns,
            checked_ns,
            check_megabytes_per_second: plain_bytes as f64 * 1e3 / check_ns,
            decoded_ns,
        })
    }
}

impl CheckReport {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("load average", format!("{:.1}", self.load_average)),
            (
                "codec",
                "   plain     sent records  unchecked    checked  check MB/s  decoded instead"
                    .into(),
            ),
        ];
        for row in &self.batches {
            let mut line = String::new();
            let _ = write!(
                line,
                "{:8} {:8} {:7} {:7.0} ns {:7.0} ns {:11.0} {:+13.0} ns",
                row.plain_bytes,
                row.sent_bytes,
                row.records,
                row.unchecked_ns,
                row.checked_ns,
                row.check_megabytes_per_second,
                row.decoded_ns,
            );
            rows.push((row.codec, line));
        }
        for row in &self.levels {
            let line = format!(
                "{:8}  {:7} bytes a step, the longest {:7.2} ms, {:6.1} MB/s",
                row.level, row.step_bytes, row.longest_step_ms, row.megabytes_per_second
            );
            rows.push(("level", line));
        }
        rows
    }
}

/// Nanoseconds of a pass through the gateway.
fn gateway_ns(batch: &[u8], validate_records: &str) -> Result<f64> {
    let mut sources = Sources::default();
    sources.set(&format!("corelane.validate.records={validate_records}"))?;
    sources.set("message.max.bytes=2097152")?;
    let (settings, _) = sources.load(&Host::probe())?;
    let broker: BrokerConfig = settings.resolve(&Default::default())?;
    let topic = TopicConfig::resolve(&broker, &Default::default())?;
    let (rules, opener) = (
        AdmissionRules::new(&topic, &broker),
        BatchOpener::new(1 << 20, Aside::at_once()),
    );
    let (now_ms, pause) = (clock::unix_ms(), async || {});
    measured_ns(|| {
        let mut admitted = pin!(rules.admit(batch, true, &opener, now_ms, &pause));
        // Nothing waits: there is memory, and a pause is none.
        let done = admitted
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        matches!(black_box(done), Poll::Ready(Ok(_)))
    })
}

/// Nanoseconds of one call, which must give true.
fn measured_ns(mut call: impl FnMut() -> bool) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (began, mut calls) = (clock::thread_cpu(), 0u32);
        let mut elapsed = Duration::ZERO;
        while elapsed < MEASURED {
            for _ in 0..CALLS {
                if !call() {
                    bail!("a batch that is right was refused");
                }
            }
            calls += CALLS;
            elapsed = clock::thread_cpu() - began;
        }
        rounds.push(elapsed.as_nanos() as f64 / f64::from(calls));
    }
    Ok(median(&rounds))
}

/// Compresses `input` as the gateway does, step by step.
fn level_row(level: Level, input: &[u8]) -> Result<LevelRow> {
    let mut codecs = Codecs::new();
    let mut out = Vec::with_capacity(level.max_output_bytes(input.len()));
    let began = clock::thread_cpu();
    let mut compressing = codecs.writers.begin(level, input.len(), &mut out)?;
    let mut longest = Duration::ZERO;
    for step in input.chunks(level.step_bytes()) {
        let before = clock::thread_cpu();
        compressing.write(step, &mut out)?;
        longest = longest.max(clock::thread_cpu() - before);
    }
    let last = clock::thread_cpu();
    compressing.finish(&[], &mut out)?;
    let ended = clock::thread_cpu();
    let (longest, elapsed) = (longest.max(ended - last), ended - began);
    Ok(LevelRow {
        level: format!("{}:{}", level.codec(), level.number()),
        step_bytes: level.step_bytes(),
        megabytes_per_second: input.len() as f64 / 1e6 / elapsed.as_secs_f64(),
        longest_step_ms: longest.as_secs_f64() * 1e3,
    })
}

/// A batch whose records take about `plain_bytes` before they are compressed.
fn batch(codec: Codec, plain_bytes: usize, record_bytes: usize) -> Result<Vec<u8>> {
    let lines = text(plain_bytes);
    let mut builder = BatchBuilder::new();
    for line in lines.chunks(record_bytes.max(1)) {
        builder.append(clock::unix_ms(), Some(b"key"), Some(line), &[])?;
        if builder.records().len() >= plain_bytes {
            break;
        }
    }
    let fields = BatchFields {
        compression: codec,
        ..builder.fields()?
    };
    let mut batch = Vec::new();
    BatchFields::reserve(&mut batch);
    Codecs::new().compress(Level::default_of(codec), builder.records(), &mut batch)?;
    fields.seal(&mut batch)?;
    Ok(batch)
}

/// Like the lines of a log: compressible.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = String::with_capacity(bytes + 128);
    for line in 0u64.. {
        if text.len() >= bytes {
            break;
        }
        let mixed = line.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let _ = writeln!(
            text,
            "level=info id={mixed:016x} line={line} path=/api/v1/items/{} status=200 took_ms={}",
            mixed % 9_973,
            line % 97
        );
    }
    text.truncate(bytes);
    text.into_bytes()
}
