//! Benchmarks of corelane, each but `check` against `corelane serve` as a process of its own.
//!
//! ```text
//! cargo build --release --bin corelane
//! cargo run --release -p corelane-bench -- loop [--workload large|16k|many] [--json]
//! cargo run --release -p corelane-bench -- restart [--partitions 1000] [--bytes 5GiB]
//! cargo run --release -p corelane-bench -- cold [--bytes 1GiB]
//! cargo run --release -p corelane-bench -- idle
//! cargo run --release -p corelane-bench -- topics [--partitions 10000]
//! cargo run --release -p corelane-bench -- check [--record-bytes 200]
//! ```
//!
//! The broker that is measured is the binary `corelane` beside this one; it is not built by the
//! commands above that run a benchmark.
//!
//! # What is measured, and how
//!
//! - **`loop`**: one shard pinned to the first allowed core, the load generator pinned to the last.
//!   Real sockets over loopback, durability `fsync` unless `--durability` says otherwise, and a
//!   consumer at the tail of every partition all the time. A *closed loop*: each connection keeps
//!   a fixed number of requests under way, so latency describes saturation. It counts from the
//!   moment a request is queued for its socket: waiting behind its predecessors is part of it.
//!   Each partition gets a first record before the warm-up: that makes its directory. At the end the
//!   broker is stopped, and says how long its core stayed with one task at a time since it served;
//!   on a busy machine what others took of the core is part of it.
//! - **`restart`**: fills a data directory, kills the broker with SIGKILL under load, starts it
//!   again, and takes the time from the start of the process to the first acknowledged batch.
//! - **`cold`**: fills one partition, kills the broker with SIGKILL under load, starts it again, and
//!   reads everything back from disk: the rate, and how much more is read than was asked for.
//! - **`idle`**: the time from the start of the process on an empty data directory to the first
//!   answered ApiVersions; then processor time and memory with a thousand silent connections.
//! - **`topics`**: creates topics of many partitions one after the other, while new producers write
//!   their first batch to another topic; then many topics with one request; then, on a directory of
//!   its own, a start after SIGKILL with empty partitions, a first record into each, and a start again.
//! - **`check`**: batches through the gateway of Produce within this process, with and without a look at
//!   every record, per codec and size; and how long one step of each level of compression takes.
//!
//! Payload bytes are the records' values; GB is 10⁹ of them. Processor time, written bytes and
//! memory of the broker come from `/proc/PID`. Warm-up is not counted.
//!
//! The generator must be cheaper than the broker: batches are built and checksummed once and sent
//! again and again without a copy, under correlation ids that count up. Every answer is checked
//! all the same: each batch must get the offset behind its predecessor's, and the consumer walks
//! the batch headers and must see every offset once, in order, to the last acknowledged one. A run
//! in which that fails is an error, not a figure. When the generator's own core was busier than
//! 90 %, the report says that the generator was the bottleneck.
//!
//! On a shared machine take medians of several runs, and trust processor seconds per GB more than
//! throughput.
//!
//! | file | what |
//! |---|---|
//! | `args` | sizes on the command line, and the directory of a run |
//! | `broker`, `process` | the broker as a process, and what `/proc` says of one |
//! | `control` | one request, one answer: topics are created so |
//! | `workload` | what is sent: sizes, partitions, requests under way |
//! | `load/` | the generator: producers and a consumer on one thread around poll(2) |
//! | `throughput`, `restart`, `cold`, `idle`, `topics`, `check` | the benchmarks |

mod args;
mod broker;
mod check;
mod clock;
mod cold;
mod control;
mod idle;
mod load;
mod process;
mod restart;
mod throughput;
mod topics;
mod workload;

use clap::{Parser, Subcommand};

/// Benchmarks of corelane, against the `corelane` binary beside this one
#[derive(Parser)]
struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produce and consume at the same time, as fast as it goes
    Loop(throughput::Command),
    /// Time from a start after kill -9 to the first acknowledged batch
    Restart(restart::Command),
    /// Reads after kill -9 what is no longer in memory
    Cold(cold::Command),
    /// Time to the first answer, and the cost of a thousand silent connections
    Idle(idle::Command),
    /// Creating many partitions, their first records, and a start with them after kill -9
    Topics(topics::TopicsArgs),
    /// What a look at every record costs, per codec and size
    Check(check::CheckArgs),
}

fn main() -> anyhow::Result<()> {
    match Bench::parse().command {
        Command::Loop(command) => command.run(),
        Command::Restart(command) => command.run(),
        Command::Cold(command) => command.run(),
        Command::Idle(command) => command.run(),
        Command::Topics(command) => command.run(),
        Command::Check(command) => command.run(),
    }
}
