//! How often something happened, or how much of it there was.

use std::cell::Cell;

/// A number that only rises, from 0. It belongs to one shard, which alone adds to it.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

/// The requests of one API.
#[derive(Debug, Default)]
pub struct ApiCounts {
    /// Those that were read.
    pub requests: Counter,
    /// Those of them that could not be answered, so that their connection was closed.
    pub refused: Counter,
    /// Error codes other than 0 in their responses: one of 3 partitions, 2 of which failed, is 2.
    pub errors: Counter,
    /// Bytes of their frames, length prefixes included.
    pub bytes_in: Counter,
    /// Bytes of their responses that were written, length prefixes included.
    pub bytes_out: Counter,
}

impl ApiCounts {
    /// Every counter with its name.
    pub fn all(&self) -> [(&'static str, u64); 5] {
        [
            ("requests", self.requests.count()),
            ("refused", self.refused.count()),
            ("errors", self.errors.count()),
            ("bytes_in", self.bytes_in.count()),
            ("bytes_out", self.bytes_out.count()),
        ]
    }
}

/// What is counted for each API of a shard.
#[derive(Debug)]
pub struct ApiCounters(Vec<(&'static str, ApiCounts)>);

impl ApiCounters {
    /// Nothing yet, for APIs of these names.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let counts = |name| (name, ApiCounts::default());
        Self(names.into_iter().map(counts).collect())
    }

    /// Those of an API, by its place among the names.
    ///
    /// # Panics
    /// When there is no such name.
    pub fn of(&self, place: usize) -> &ApiCounts {
        &self.0[place].1
    }

    /// Those of which there was a request.
    pub fn used(&self) -> impl Iterator<Item = (&'static str, &ApiCounts)> {
        let all = self.0.iter().map(|(name, counts)| (*name, counts));
        all.filter(|(_, counts)| counts.requests.count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_has_counters_of_its_own() {
        let counters = ApiCounters::new(["Produce", "Fetch", "Metadata"]);
        for bytes in [100, 50] {
            counters.of(1).requests.add(1);
            counters.of(1).bytes_in.add(bytes);
        }
        counters.of(2).errors.add(1);
        let used = Vec::from_iter(counters.used().map(|(name, counts)| (name, counts.all())));
        let expected = [
            ("requests", 2),
            ("refused", 0),
            ("errors", 0),
            ("bytes_in", 150),
            ("bytes_out", 0),
        ];
        assert_eq!(used, [("Fetch", expected)]);
    }
}
