//! What the end-to-end suites share: the broker as a child process, and a plain client that is
//! none of the broker's own.

#![allow(dead_code, unused_imports, reason = "each suite uses a part")]
#![expect(clippy::disallowed_methods, reason = "real processes and real time")]

mod broker;
mod connection;
mod files;

pub use broker::{Broker, Options};
pub use connection::{Batch, Connection, Read, compress, read_all};
pub use files::{repository, skip, tool_exists};

use std::time::Duration;

/// Whether the long versions of the suites were asked for (`scripts/full`).
pub fn is_full() -> bool {
    std::env::var_os("CORELANE_FULL").is_some()
}

/// A size of a suite: of the gate, of the long version, or what a variable says.
pub fn scale(variable: &str, gate: usize, full: usize) -> usize {
    let set = std::env::var(variable).ok();
    let set = set.map(|text| text.parse().expect("a whole number"));
    set.unwrap_or(if is_full() { full } else { gate })
}

/// The value at a percentile, 0 to 100.
pub fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

/// A repeatable source of numbers (xorshift64*).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From CORELANE_SEED, else from the clock; prints it, so that a failure can be repeated.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("CORELANE_SEED") {
            Ok(text) => text.parse().expect("CORELANE_SEED is a whole number"),
            Err(_) => now_ms() as u64,
        };
        println!("CORELANE_SEED={seed}");
        Self::new(seed)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.u64() >> 16) as usize % end.max(1)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u64() as u8).collect()
    }
}

/// Wall clock in Unix milliseconds.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}
