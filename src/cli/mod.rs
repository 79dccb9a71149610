//! The command line: one file per command, thin.
//!
//! | file | what |
//! |---|---|
//! | `terminal/` | global flags, results, errors, talk, signals: between a command and its user |
//! | `connect` | a client for a command |
//! | `input` | lines of files and of standard input |
//! | `child` | a broker as a process of its own, for the demo, the benchmarks and the tests |
//! | `consume/offsets`, `consume/record/` | offsets and records as users write and read them |
//!
//! A command is a file with a struct of its name (`ProduceArgs`: its arguments, `clap::Args`; the struct's
//! documentation is the help) and `fn run(self, &Context) -> Result<(), CliError>` on it, and a
//! line in the list below. Commands exist once they work.

mod api;
pub mod child;
mod connect;
mod consume;
mod demo;
mod info;
mod input;
mod produce;
mod serve;
mod terminal;
#[cfg(test)]
mod tests;
mod topic;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

pub use terminal::context::{Context, GlobalArgs};
pub use terminal::error::{CliError, Exit, suggest};
pub use terminal::output::{Align, Report, Table, bytes, count, counted, megabytes_per_second};

macro_rules! commands {
    ($($module:ident => $variant:ident($arguments:ident),)*) => {
        #[derive(clap::Subcommand)]
        enum Command {
            $($variant($module::$arguments),)*
        }

        impl Command {
            fn run(self, context: &Context) -> Result<(), CliError> {
                match self {
                    $(Self::$variant(command) => command.run(context),)*
                }
            }
        }
    };
}

commands! {
    demo => Demo(DemoArgs),
    topic => Topic(TopicArgs),
    produce => Produce(ProduceArgs),
    consume => Consume(ConsumeArgs),
    info => Info(InfoArgs),
    api => Api(ApiArgs),
    serve => Serve(ServeArgs),
    version => Version(VersionArgs),
}

const LONG_HELP: &str = "Exit codes:
  0    done
  1    failed on the way
  2    the command line or a setting makes no sense
  3    this host cannot run it: io_uring, a port or a directory is not to be had
  4    no broker answers, or not in time
  5    a threshold was crossed (no command has one yet)
  6    what was named does not exist: a topic, a partition, a file
  130  stopped by SIGINT, 143 by SIGTERM; produce writes what it has read before

Examples:
  corelane demo
  corelane topic create logs -p 8
  corelane produce logs access.log -z zstd
";

/// A log broker that speaks Kafka's protocol, one shard per core.
#[derive(Parser)]
#[command(
    name = "corelane",
    version,
    after_help = "Examples:\n  corelane demo\n  corelane topic create logs -p 8\n  corelane produce logs access.log -z zstd",
    after_long_help = LONG_HELP,
    max_term_width = 100
)]
struct Arguments {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os().collect()))
}

/// Runs a command line and gives its exit code.
fn run(words: Vec<OsString>) -> u8 {
    let json = terminal::usage::asks_for_json(&words);
    let color = terminal::usage::color_choice(&words);
    let parser = Arguments::command().color(color);
    let parsed = parser.try_get_matches_from(&words);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            return terminal::usage::report(&error, &Arguments::command(), &words, json, color);
        }
    };
    let Arguments { global, command } = arguments;
    let context = Context::new(global, |name| std::env::var(name).ok());
    terminal::logging::start(&context);
    match command.run(&context) {
        Ok(()) => Exit::OK,
        Err(error) => error.report(context.json(), context.color()),
    }
}
