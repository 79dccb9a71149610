//! What Linux says of a process (proc(5)), and cores to run on.

use std::fs;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// User and system time of a process, all threads, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).context("/proc/PID/stat has another shape")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes that a process has caused to be written to disk.
pub fn written_bytes(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// Bytes that a process has caused to be read from disk.
pub fn read_bytes(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/io"), "read_bytes:")
}

/// Memory that a process has in use, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(field(&format!("/proc/{pid}/status"), "VmRSS:")? * 1024)
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

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{path} has no {name}"))
}

/// Fields 14 and 15. The command's name may hold blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 3 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("42"), None);
    }

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
