//! What a shard measures of itself: counts and times, with a single writer.
//!
//! Each shard has a set of its own, and nobody else writes it: plain cells, no atomics, a fixed
//! size. Other modules take the readings of the clock, where a stage ends, and hand them over.
//!
//! | file | what |
//! |---|---|
//! | `counter` | how often, and how much; for each API of the protocol |
//! | `histogram` | how often each value came, within 1/16 |
//! | `requests` | how long the stages of requests took, by kind of request |
//! | `report` | the figures of a shard, as it tells them when it stops |

mod counter;
mod histogram;
mod report;
mod requests;

pub use counter::{ApiCounters, ApiCounts, Counter};
pub use histogram::{Histogram, Quantiles};
pub use report::{StepFigures, tell};
pub use requests::{RequestKind, RequestMetrics, RequestTimes, Stage, StageTimes};
