//! What Linux says of a process (proc(5)), and cores to run on.

use std::fs;

use anyhow::{Context, Result};
use corelane::cli::child;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// User and system time of a process, all threads, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(child::cpu_time(pid)?.as_secs_f64())
}

/// Bytes that a process has caused to be written to disk.
pub fn written_bytes(pid: u32) -> Result<u64> {
    Ok(child::proc_field(pid, "io", "write_bytes:")?)
}

/// Bytes that a process has caused to be read from disk.
pub fn read_bytes(pid: u32) -> Result<u64> {
    Ok(child::proc_field(pid, "io", "read_bytes:")?)
}

/// Memory that a process has in use, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(child::resident_bytes(pid)?)
}

/// Processes that wanted to run, over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}

/// The cores of broker and generator: the first and the last that this process may use.
pub fn two_cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = cores.next().context("no core may be used")?;
    Ok((first, cores.next_back().unwrap_or(first)))
}

/// Pins the calling thread; threads and processes that it starts from now on are pinned too.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_can_be_read() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_ok());
        assert!(written_bytes(own).is_ok());
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(load_average() >= 0.0);
    }

    #[test]
    fn a_pinned_thread_has_one_core() {
        let (first, last) = two_cores().unwrap();
        assert!(first <= last);
        pin(last).unwrap();
        assert_eq!(two_cores().unwrap(), (last, last));
    }
}
