//! How long the steps of a shard's tasks take.
//!
//! Two readings of the clock for each poll of each task would cost 50 ns and more; the processor's
//! own counter costs 10 each. What its ticks are is known from how many there were in the time that
//! the clock says, over the runtime's whole life. Processors of x86-64 have counted at one rate, and
//! the same on all cores, since about 2010; where one does not, the figures are off, and nothing
//! else.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::metrics::{Histogram, Quantiles, StepFigures};

const LONG_NS: f64 = 1e6;
/// A step of fewer ticks is shorter than 1 ms on any processor: none counts slower than 0.5 GHz.
const PERHAPS_LONG_TICKS: u64 = 500_000;

/// The steps of a runtime's tasks.
#[derive(Debug)]
pub(super) struct Steps {
    ticks: Histogram,
    above_1ms: Cell<u64>,
    start: Instant,
    start_ticks: u64,
}

impl Steps {
    /// None yet.
    pub fn new(start: Instant) -> Rc<Self> {
        Rc::new(Self {
            ticks: Histogram::default(),
            above_1ms: Cell::default(),
            start,
            start_ticks: ticks(),
        })
    }

    /// The task, its steps measured.
    pub fn measured<F>(self: &Rc<Self>, task: F) -> Measured<F> {
        let steps = self.clone();
        Measured { task, steps }
    }

    fn record(&self, ticks: u64) {
        self.ticks.record(ticks);
        if ticks >= PERHAPS_LONG_TICKS && ticks as f64 * self.ns_per_tick() > LONG_NS {
            self.above_1ms.set(self.above_1ms.get() + 1);
        }
    }

    fn ns_per_tick(&self) -> f64 {
        let passed = ticks().saturating_sub(self.start_ticks).max(1);
        self.start.elapsed().as_nanos() as f64 / passed as f64
    }

    /// What there was since the last call.
    pub fn take(&self) -> StepFigures {
        let ns_per_tick = self.ns_per_tick();
        let ns = |ticks: u64| (ticks as f64 * ns_per_tick) as u64;
        let Quantiles {
            count,
            p50,
            p99,
            p999,
            longest,
        } = self.ticks.take();
        StepFigures {
            times: Quantiles {
                count,
                p50: ns(p50),
                p99: ns(p99),
                p999: ns(p999),
                longest: ns(longest),
            },
            above_1ms: self.above_1ms.take(),
        }
    }
}

/// A task whose steps are measured. (An async function that awaits the task would hold it twice.)
pub(super) struct Measured<F> {
    task: F,
    steps: Rc<Steps>,
}

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `task` is pinned with the whole: nothing moves it out, and there is no `Drop`
        // nor `Unpin` of our own.
        let task = unsafe {
            self.as_mut()
                .map_unchecked_mut(|measured| &mut measured.task)
        };
        let before = ticks();
        let poll = task.poll(context);
        self.steps.record(ticks().saturating_sub(before));
        poll
    }
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Elsewhere the clock's nanoseconds must do.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::rt::{Runtime, TaskClass, run_one};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a step that takes its time")]
    fn a_step_that_is_too_long_is_told() {
        let (before, after) = run_one(1 << 20, |rt| async move {
            let steps = || rt.take_steps().expect("measured here");
            let before = steps();
            for ms in [0, 20] {
                let long = async move { std::thread::sleep(Duration::from_millis(ms)) };
                rt.spawn(TaskClass::Foreground, long);
            }
            rt.sleep(Duration::from_millis(1)).await;
            (before, steps())
        })
        .unwrap();
        assert!(after.above_1ms > 0, "{after:?}");
        assert!(
            before.times.count > 0 && after.times.count >= 2,
            "{after:?}"
        );
        // The sleep is no shorter; how much longer is the machine's.
        assert!(after.times.longest >= 19_000_000, "{after:?}");
        assert!(after.times.p50 < 1_000_000, "{after:?}");
    }
}
