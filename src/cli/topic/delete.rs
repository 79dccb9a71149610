//! `corelane topic delete`

use clap::Args;
use serde::Serialize;

use crate::cli::connect::{existing_topic, with_client};
use crate::cli::{CliError, Context, Report, counted};

/// Delete topics and all their records
#[derive(Args)]
pub(super) struct DeleteArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Deleted {
    dry_run: bool,
    topics: Vec<String>,
}

impl DeleteArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let asking = context.clone();
        let deleted = with_client(context, |client| async move {
            let mut plan = Vec::new();
            for name in &self.topics {
                let topic = existing_topic(&client, name).await?;
                plan.push(format!(
                    "{name} ({})",
                    counted(topic.partitions.len() as u64, "partition")
                ));
            }
            if !self.dry_run {
                asking.confirm(&format!("delete {} with all records", plan.join(", ")))?;
                for name in &self.topics {
                    client.delete_topic(name).await?;
                }
            }
            Ok(Deleted {
                dry_run: self.dry_run,
                topics: self.topics,
            })
        })?;
        context.print(&deleted)
    }
}

impl Report for Deleted {
    const SCHEMA: &'static str = "corelane.topic.delete/1";

    fn text(&self) -> String {
        let verb = if self.dry_run {
            "would delete"
        } else {
            "deleted"
        };
        self.topics
            .iter()
            .map(|topic| format!("{verb} {topic}\n"))
            .collect()
    }
}
