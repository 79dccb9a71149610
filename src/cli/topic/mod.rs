//! `corelane topic`: topics of any Kafka broker.

mod add_partitions;
mod alter;
mod create;
mod delete;
mod describe;
mod list;

use clap::{Args, Subcommand};

use super::{CliError, Context};

/// List, create, describe, alter and delete topics
#[derive(Args)]
#[command(
    after_help = "Examples:\n  corelane topic create logs -p 8 -c retention.ms=3600000\n  \
                        corelane topic describe logs"
)]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(list::ListArgs),
    Create(create::CreateArgs),
    Describe(describe::DescribeArgs),
    Alter(alter::AlterArgs),
    Delete(delete::DeleteArgs),
    AddPartitions(add_partitions::AddPartitionsArgs),
}

impl TopicArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::List(command) => command.run(context),
            Verb::Create(command) => command.run(context),
            Verb::Describe(command) => command.run(context),
            Verb::Alter(command) => command.run(context),
            Verb::Delete(command) => command.run(context),
            Verb::AddPartitions(command) => command.run(context),
        }
    }
}

/// Reads `key=value`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}
