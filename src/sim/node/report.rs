//! What seeds have gone through, in numbers.

use std::fmt;

/// What one seed, or several, have gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Seeds at level `fsync`, `written` and `memory`.
    pub levels: [u32; 3],
    /// Times the node was killed.
    pub kills: u32,
    /// Times its machine lost its power.
    pub power_cuts: u32,
    /// Of both, those before it served.
    pub cut_in_start: u32,
    /// Of both, those that a level below `fsync` allows to lose what was acknowledged.
    pub may_have_lost: u32,
    /// Clean stops.
    pub stops: u32,
    /// Times it was paused.
    pub pauses: u32,
    pub network_faults: u32,
    /// Times its disk had no room, or no inode, left.
    pub full_disks: u32,
    /// Starts and stops that failed on a full disk.
    pub failed_on_full: u32,
    /// Times its disk was slow.
    pub slow_disks: u32,
    /// Times its wall clock was set wrong, and right again.
    pub clock_jumps: u32,
    /// Lives with clocks that go too fast or too slow.
    pub wrong_rates: u32,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Batches refused in a way that says that they are not in the log.
    pub refused: u64,
    /// Batches of which nobody knows.
    pub unknown: u64,
    /// Acknowledged batches that are gone, as their level allows.
    pub allowed_losses: u64,
    /// Records read back at the end.
    pub records: u64,
    /// Changes of metadata answered with success.
    pub changes: u64,
    /// Those answered otherwise, or not.
    pub unknown_changes: u64,
    /// A number for everything that happened; differs when anything differed.
    pub trace_hash: u64,
}

impl NodeReport {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.levels.iter_mut().zip(other.levels) {
            *sum += more;
        }
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.cut_in_start += other.cut_in_start;
        self.may_have_lost += other.may_have_lost;
        self.stops += other.stops;
        self.pauses += other.pauses;
        self.network_faults += other.network_faults;
        self.full_disks += other.full_disks;
        self.failed_on_full += other.failed_on_full;
        self.slow_disks += other.slow_disks;
        self.clock_jumps += other.clock_jumps;
        self.wrong_rates += other.wrong_rates;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.allowed_losses += other.allowed_losses;
        self.records += other.records;
        self.changes += other.changes;
        self.unknown_changes += other.unknown_changes;
        self.trace_hash ^= other.trace_hash;
    }
}

/// As a table, a line for each number.
impl fmt::Display for NodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [fsync, written, memory] = self.levels.map(u64::from);
        let rows = [
            ("seeds at level fsync", fsync),
            ("seeds at level written", written),
            ("seeds at level memory", memory),
            ("kills", self.kills.into()),
            ("power cuts", self.power_cuts.into()),
            ("… of both, during a start", self.cut_in_start.into()),
            ("… of both, that may lose", self.may_have_lost.into()),
            ("clean stops", self.stops.into()),
            ("pauses", self.pauses.into()),
            ("network faults", self.network_faults.into()),
            ("full disks", self.full_disks.into()),
            (
                "starts and stops failed on them",
                self.failed_on_full.into(),
            ),
            ("slow disks", self.slow_disks.into()),
            ("clock jumps", self.clock_jumps.into()),
            ("lives with a wrong clock rate", self.wrong_rates.into()),
            ("batches acknowledged", self.acknowledged),
            ("batches refused for certain", self.refused),
            ("batches unknown", self.unknown),
            ("acknowledged and lost, as allowed", self.allowed_losses),
            ("records read back", self.records),
            ("metadata changes done", self.changes),
            ("metadata changes unknown", self.unknown_changes),
        ];
        for (what, count) in rows {
            writeln!(f, "{count:>12}  {what}")?;
        }
        Ok(())
    }
}
