//! Time of the generator.

use std::time::Instant;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in milliseconds, for record timestamps.
#[expect(
    clippy::disallowed_methods,
    reason = "brokers refuse timestamps far from theirs"
)]
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Waits, on a thread that does nothing else.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark waits for other processes"
)]
pub fn sleep(duration: std::time::Duration) {
    std::thread::sleep(duration);
}
