//! What the benchmarks' command lines share.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process::{pin, two_cores};

/// Where and how the broker runs.
#[derive(clap::Args)]
pub struct BrokerArgs {
    /// Where the run makes its directory, removed afterwards [default: target/]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// When a batch is acknowledged: fsync, written or memory
    #[arg(long, value_name = "LEVEL", default_value = "fsync")]
    pub durability: String,
    /// A further setting of the broker; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl BrokerArgs {
    /// Keeps this thread on a core of its own and makes the run's directory; gives that, the broker's
    /// core and this thread's.
    pub fn set_up(&self) -> Result<(WorkDir, usize, usize)> {
        let (broker_core, own_core) = two_cores()?;
        pin(own_core)?;
        Ok((self.work_dir()?, broker_core, own_core))
    }

    /// A directory of this run alone.
    fn work_dir(&self) -> Result<WorkDir> {
        let parent = match &self.dir {
            Some(dir) => dir.clone(),
            None => target_dir()?,
        };
        let path = parent.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(WorkDir { path })
    }

    /// Prints a report as JSON, or as the table that `rows` makes of it.
    pub fn print<T: Serialize>(&self, report: &T, rows: &[(&str, String)]) -> Result<()> {
        print_report(self.json, report, rows)
    }
}

/// Prints a report as JSON, or as the table that `rows` makes of it.
pub fn print_report<T: Serialize>(json: bool, report: &T, rows: &[(&str, String)]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
        return Ok(());
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        writeln!(out, "{name:width$}  {value}")?;
    }
    Ok(())
}

/// The directory that this binary's profile directory (`target/release`) is in.
fn target_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe
        .ancestors()
        .nth(2)
        .context("the benchmark is in no target directory")?;
    Ok(target.to_owned())
}

/// A directory that goes with this value.
pub struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

/// Reads a size: a number with nothing, KiB, MiB or GiB.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(shift);
    bytes
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| "a size is a number with KiB, MiB or GiB, such as 5GiB".into())
}

/// The middle value; of an even number, the upper one of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("17"), Ok(17));
        assert_eq!(parse_bytes("5GiB"), Ok(5 << 30));
        assert_eq!(parse_bytes("16KiB"), Ok(16 << 10));
        for bad in ["", "GiB", "1GB", "1.5MiB", "99999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 4.0);
        assert!(median(&[]).is_nan());
    }
}
