//! What a demo shows at its end.

use serde::Serialize;

use crate::cli::{Align, Report, Table, bytes, count, counted};

/// All codecs.
#[derive(Serialize)]
pub(super) struct Demo {
    pub(super) input: String,
    pub(super) records_per_codec: u64,
    pub(super) payload_bytes: u64,
    pub(super) partitions: i32,
    /// What an acknowledgement promises; absent where the broker does not say.
    pub(super) durability: Option<String>,
    /// Nothing on this file system outlives the machine.
    pub(super) is_on_tmpfs: bool,
    pub(super) codecs: Vec<CodecRow>,
    /// Each of them compared twice: by the tail and by the cold consumer.
    pub(super) records_verified: u64,
}

/// One codec.
#[derive(Serialize)]
pub(super) struct CodecRow {
    pub(super) codec: &'static str,
    pub(super) produce_bytes_per_second: f64,
    pub(super) tail_bytes_per_second: f64,
    pub(super) cold_bytes_per_second: f64,
    pub(super) ack_p50_us: u64,
    pub(super) ack_p99_us: u64,
    pub(super) disk_bytes: Option<u64>,
    /// Of the broker, per 10⁹ payload bytes that went in while the tail consumer read them.
    pub(super) broker_cpu_seconds_per_gb: Option<f64>,
}

impl Demo {
    /// The level of durability in words.
    pub(super) fn durability_text(&self) -> String {
        let level = match self.durability.as_deref() {
            Some("fsync") => "fsync: acknowledged records survive power loss",
            Some("written") => "written: acknowledged records survive a crash, not power loss",
            Some("memory") => "memory: acknowledged records may be lost",
            Some(other) => other,
            None => "the broker does not say",
        };
        let tmpfs = if self.is_on_tmpfs {
            "   (on tmpfs: nothing is durable)"
        } else {
            ""
        };
        format!("{level}{tmpfs}")
    }
}

impl Report for Demo {
    const SCHEMA: &'static str = "corelane.demo/1";

    fn text(&self) -> String {
        let mut table = Table::new([
            ("CODEC", Align::Left),
            ("RECORDS", Align::Right),
            ("IN MB/s", Align::Right),
            ("TAIL MB/s", Align::Right),
            ("COLD MB/s", Align::Right),
            ("ACK p50", Align::Right),
            ("ACK p99", Align::Right),
            ("ON DISK", Align::Right),
            ("RATIO", Align::Right),
            ("BROKER CPU s/GB", Align::Right),
        ]);
        for row in &self.codecs {
            let rate = |bytes_per_second: f64| format!("{:.0}", bytes_per_second / 1e6);
            let milliseconds = |us: u64| format!("{:.1} ms", us as f64 / 1e3);
            let ratio = |size: u64| format!("{:.2}", self.payload_bytes as f64 / size as f64);
            table.row([
                row.codec.to_owned(),
                count(self.records_per_codec),
                rate(row.produce_bytes_per_second),
                rate(row.tail_bytes_per_second),
                rate(row.cold_bytes_per_second),
                milliseconds(row.ack_p50_us),
                milliseconds(row.ack_p99_us),
                row.disk_bytes.map_or("-".into(), bytes),
                row.disk_bytes.map_or("-".into(), ratio),
                row.broker_cpu_seconds_per_gb
                    .map_or("-".into(), |cpu| format!("{cpu:.2}")),
            ]);
        }
        format!(
            "input       {}, {} in {}, {}\ndurability  {}\n{}",
            self.input,
            bytes(self.payload_bytes),
            counted(self.records_per_codec, "line"),
            counted(self.partitions, "partition"),
            self.durability_text(),
            table.text()
        )
    }
}
