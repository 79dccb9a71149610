//! How long the stages of requests took.

use std::cell::Cell;
use std::time::Duration;

use super::counter::{ApiCounters, Counter};
use super::histogram::Histogram;

/// A stage of a request, each from the end of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the first look at its frame until that was whole and memory for it was there. Nothing,
    /// where it was whole at the first look.
    Read,
    /// Produce: its records were checked, and rewritten where they had to be.
    Checked,
    /// Produce: its batches have their offsets; rooms were waited for. Else: the handler is done
    /// with what it does before the connection's next request is looked at. For Fetch, that is to
    /// fix what is asked for.
    Accepted,
    /// Produce: its batches are as safe as was asked, and it is its turn to be answered: of several
    /// requests of one connection, responses leave in their order.
    Journaled,
    /// Its response is written to the socket. For Fetch this holds the wait for records as well.
    Answered,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::Read,
        Self::Checked,
        Self::Accepted,
        Self::Journaled,
        Self::Answered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Checked => "checked",
            Self::Accepted => "accepted",
            Self::Journaled => "journaled",
            Self::Answered => "answered",
        }
    }
}

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Produce,
    Fetch,
    Other,
}

impl RequestKind {
    const ALL: [Self; 3] = [Self::Produce, Self::Fetch, Self::Other];

    fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::Other => "other",
        }
    }
}

/// One request's stages so far. Goes with it from its frame to its response.
///
/// A stage may come more than once; its parts add up. A Produce of two batches that is whole at
/// 100 µs, whose first batch is checked at 130 and accepted at 140, and whose second one at 165 and
/// 170, was checked in 30 + 25 = 55 µs and accepted in 10 + 5 = 15.
#[derive(Clone, Debug)]
pub struct RequestTimes {
    last: Cell<Duration>,
    spent_ns: [Cell<u64>; Stage::ALL.len()],
    /// A bit for each stage that there was.
    taken: Cell<u8>,
}

impl RequestTimes {
    /// Of a request whose frame was first looked at at `begun_at`, and whole at `now`.
    pub fn begin(begun_at: Duration, now: Duration) -> Self {
        let times = Self {
            last: Cell::new(begun_at),
            spent_ns: Default::default(),
            taken: Cell::new(0),
        };
        times.lap(Stage::Read, now);
        times
    }

    /// The time since the last reading was of `stage`.
    pub fn lap(&self, stage: Stage, now: Duration) {
        let spent = now.saturating_sub(self.last.replace(now));
        let cell = &self.spent_ns[stage as usize];
        cell.set(cell.get() + ns(spent));
        self.taken.set(self.taken.get() | 1 << stage as u8);
    }

    /// The last reading.
    pub fn last(&self) -> Duration {
        self.last.get()
    }

    fn spent(&self, stage: Stage) -> Option<u64> {
        let was = self.taken.get() & 1 << stage as u8 != 0;
        was.then(|| self.spent_ns[stage as usize].get())
    }
}

fn ns(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}

/// The stage times of a shard's requests, in nanoseconds. 85 KiB.
#[derive(Debug, Default)]
pub struct StageTimes {
    kinds: [KindTimes; RequestKind::ALL.len()],
}

/// What a shard measures of its clients' requests.
#[derive(Debug)]
pub struct RequestMetrics {
    /// How long they took.
    pub times: StageTimes,
    /// How many there were, and how large.
    pub apis: ApiCounters,
    /// Fetch sessions that clients asked for and did not get.
    pub sessions_refused: Counter,
}

#[derive(Debug, Default)]
struct KindTimes {
    stages: [Histogram; Stage::ALL.len()],
    whole: Histogram,
}

impl StageTimes {
    /// Counts a request that has been served.
    pub fn record(&self, kind: RequestKind, times: &RequestTimes) {
        let of_kind = &self.kinds[kind as usize];
        let mut whole_ns = 0;
        for stage in Stage::ALL {
            if let Some(spent_ns) = times.spent(stage) {
                of_kind.stages[stage as usize].record(spent_ns);
                whole_ns += spent_ns;
            }
        }
        of_kind.whole.record(whole_ns);
    }

    /// How long the requests of a kind took in a stage.
    pub fn of(&self, kind: RequestKind, stage: Stage) -> &Histogram {
        &self.kinds[kind as usize].stages[stage as usize]
    }

    /// Every histogram with the names of its kind and stage; "whole" is from the first stage's
    /// beginning to the last one's end.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, &Histogram)> {
        RequestKind::ALL.into_iter().flat_map(|kind| {
            let of_kind = &self.kinds[kind as usize];
            let stages = Stage::ALL.into_iter().zip(&of_kind.stages);
            let stages = stages.map(move |(stage, times)| (kind.name(), stage.name(), times));
            stages.chain([(kind.name(), "whole", &of_kind.whole)])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_stage_add_up() {
        let us = Duration::from_micros;
        let times = RequestTimes::begin(us(90), us(100));
        times.lap(Stage::Checked, us(130));
        times.lap(Stage::Accepted, us(140));
        times.lap(Stage::Checked, us(165));
        times.lap(Stage::Accepted, us(170));
        times.lap(Stage::Answered, us(300));
        let spent_ns = Stage::ALL.map(|stage| times.spent(stage));
        let expected = [
            Some(10_000),
            Some(55_000),
            Some(15_000),
            None,
            Some(130_000),
        ];
        assert_eq!(spent_ns, expected);
        let shard = StageTimes::default();
        shard.record(RequestKind::Produce, &times);
        let longest = |(kind, stage, times): (_, _, &Histogram)| {
            let longest = times.quantiles().longest;
            (times.count() > 0).then_some((kind, stage, longest))
        };
        let told = Vec::from_iter(shard.all().filter_map(longest));
        let expected = [
            ("produce", "read", 10_000),
            ("produce", "checked", 55_000),
            ("produce", "accepted", 15_000),
            ("produce", "answered", 130_000),
            ("produce", "whole", 210_000),
        ];
        assert_eq!(told, expected);
    }
}
