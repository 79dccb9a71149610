//! Time, and waiting: there is no runtime here whose clock could be asked.

use std::time::{Duration, Instant};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Processor time of the calling thread: what it takes by itself, whoever else wants the core.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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

/// Waits.
#[expect(
    clippy::disallowed_methods,
    reason = "the calling thread has nothing else to do"
)]
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
