//! `corelane topic create`

use clap::Args;
use serde::Serialize;

use super::key_value;
use crate::cli::connect::with_client;
use crate::cli::{CliError, Context, Exit, Report, counted};
use crate::client::{ClientError, NewTopic};
use crate::wire::ErrorCode;

/// Create topics
#[derive(Args)]
#[command(after_help = "Examples:\n  corelane topic create logs\n  \
                        corelane topic create logs -p 8 -c retention.ms=3600000")]
pub(super) struct CreateArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Number of replicas [default: the broker's default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A topic config
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// It is no error when the topic exists
    #[arg(long)]
    if_not_exists: bool,
    /// Let the broker check, but create nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Created {
    dry_run: bool,
    topics: Vec<Topic>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    /// Null when nothing was created.
    id: Option<String>,
    partitions: i32,
    replication_factor: i16,
}

impl CreateArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let dry_run = self.dry_run;
        let topics = with_client(context, |client| async move {
            let mut created = Vec::new();
            for name in self.topics {
                let new = NewTopic {
                    name,
                    partitions: self.partitions.unwrap_or(-1),
                    replication_factor: self.replication_factor.unwrap_or(-1),
                    configs: self.configs.clone(),
                };
                match client.create_topic(&new, dry_run).await {
                    Ok(topic) => created.push(Topic {
                        name: new.name,
                        id: (!dry_run).then(|| topic.id.to_string()),
                        partitions: topic.partitions,
                        replication_factor: topic.replication_factor,
                    }),
                    Err(ClientError::Refused {
                        code: ErrorCode::TopicAlreadyExists,
                        ..
                    }) if self.if_not_exists => {}
                    Err(ClientError::Refused {
                        code: ErrorCode::TopicAlreadyExists,
                        ..
                    }) => {
                        let what = format!("topic '{}' exists already", new.name);
                        return Err(CliError::new(Exit::Failure, what));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(created)
        })?;
        context.print(&Created { dry_run, topics })
    }
}

impl Report for Created {
    const SCHEMA: &'static str = "corelane.topic.create/2";

    fn text(&self) -> String {
        let verb = if self.dry_run {
            "would create"
        } else {
            "created"
        };
        let line = |topic: &Topic| match topic.partitions {
            partitions if partitions < 0 => format!("{verb} {}\n", topic.name),
            known => format!(
                "{verb} {} with {}\n",
                topic.name,
                counted(known, "partition")
            ),
        };
        self.topics.iter().map(line).collect()
    }
}
