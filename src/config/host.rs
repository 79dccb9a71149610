//! What the machine gives: processors, memory, and who we are on it.

use super::keys::BrokerConfig;
use super::keys::{Memory, Shards};

/// What the machine has for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Processors that the process may run on.
    pub cpus: usize,
    /// Memory in bytes: the machine's, or its control group's limit where that is lower.
    pub memory_bytes: u64,
    /// Whether it runs as root.
    pub is_root: bool,
}

/// How a node divides the machine among its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourcePlan {
    /// Number of shards.
    pub shards: u16,
    /// Memory of each shard, in bytes.
    pub shard_memory_bytes: u64,
}

impl Host {
    /// Looks at this machine. What cannot be read counts as one processor and 1 GiB.
    pub fn probe() -> Self {
        let cpus = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize);
        let machine = meminfo_bytes().unwrap_or(1 << 30);
        Self {
            cpus: cpus.max(1),
            memory_bytes: cgroup_bytes().map_or(machine, |limit| limit.min(machine)),
            is_root: rustix::process::geteuid().is_root(),
        }
    }
}

impl ResourcePlan {
    /// Divides the machine as configured. A shard works best with 256 MiB or more: `auto` rather
    /// makes fewer shards than smaller ones; a number that was asked for is kept.
    pub fn of(config: &BrokerConfig, host: &Host) -> Self {
        const SHARD_BYTES_WANTED: u64 = 256 << 20;
        let memory_bytes = match config.corelane_memory {
            Memory::Bytes(bytes) => bytes,
            Memory::Auto => host.memory_bytes / 5 * 3,
        };
        let shards = match config.corelane_shards {
            Shards::Count(count) => count,
            Shards::Auto => {
                let with_memory = u16::try_from(memory_bytes / SHARD_BYTES_WANTED);
                default_shards(host.cpus)
                    .min(with_memory.unwrap_or(Shards::MAX))
                    .max(1)
            }
        };
        let share = memory_bytes / u64::from(shards);
        Self {
            shards,
            shard_memory_bytes: share.max(Memory::SHARD_BYTES_MIN),
        }
    }
}

/// One shard per processor, and with 8 or more one processor left for interrupts.
pub fn default_shards(cpus: usize) -> u16 {
    let shards = if cpus >= 8 { cpus - 1 } else { cpus.max(1) };
    u16::try_from(shards)
        .unwrap_or(Shards::MAX)
        .min(Shards::MAX)
}

/// Where the data is when nobody says where.
pub fn default_log_dir(is_root: bool) -> &'static str {
    if is_root {
        "/var/lib/corelane"
    } else {
        "./corelane-data"
    }
}

fn meminfo_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limit of the process's own control group (version 2); a container sees its own at the root.
fn cgroup_bytes() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit = |group: &str| {
        let file = format!("/sys/fs/cgroup{group}/memory.max");
        std::fs::read_to_string(file)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let ancestors = std::path::Path::new(path)
        .ancestors()
        .filter_map(|group| group.to_str());
    ancestors
        .filter_map(|group| limit(group.trim_end_matches('/')))
        .min()
}

#[cfg(test)]
mod tests {
    use super::super::{DynamicConfigs, Sources};
    use super::*;

    fn plan(assignments: &[&str], cpus: usize, memory_bytes: u64) -> ResourcePlan {
        let host = Host {
            cpus,
            memory_bytes,
            is_root: false,
        };
        let mut sources = Sources::default();
        for assignment in assignments {
            sources.set(assignment).expect("KEY=VALUE");
        }
        let (settings, _) = sources.load(&host).expect("valid");
        let config = settings.resolve(&DynamicConfigs::default()).expect("valid");
        ResourcePlan::of(&config, &host)
    }

    #[test]
    fn from_eight_processors_on_one_is_left_out() {
        assert_eq!([0, 1, 2, 7, 8, 64].map(default_shards), [1, 1, 2, 7, 7, 63]);
    }

    #[test]
    fn small_machines_have_fewer_shards() {
        let of = |shards, mib: u64| ResourcePlan {
            shards,
            shard_memory_bytes: mib << 20,
        };
        assert_eq!(plan(&[], 4, 5 << 30), of(4, 768));
        assert_eq!(plan(&["corelane.memory=512M"], 4, 5 << 30), of(2, 256));
        assert_eq!(
            plan(&["corelane.memory=512M", "corelane.shards=4"], 4, 5 << 30),
            of(4, 128)
        );
        assert_eq!(plan(&["corelane.memory=64M"], 4, 5 << 30), of(1, 64));
    }

    #[test]
    fn this_machine_has_something() {
        let host = Host::probe();
        assert!(host.cpus >= 1 && host.memory_bytes > 1 << 20);
    }
}
