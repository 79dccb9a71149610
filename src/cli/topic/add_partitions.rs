//! `corelane topic add-partitions`

use clap::Args;
use serde::Serialize;

use crate::cli::connect::{existing_topic, with_client};
use crate::cli::{CliError, Context, Report, counted};

/// Add partitions to a topic; keys may then go to other partitions than before
#[derive(Args)]
pub(super) struct AddPartitionsArgs {
    /// Name of the topic
    topic: String,
    /// How many to add
    #[arg(value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    count: i32,
    /// Let the broker check, but change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Added {
    name: String,
    dry_run: bool,
    partitions_before: i32,
    partitions: i32,
}

impl AddPartitionsArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let added = with_client(context, |client| async move {
            let before = existing_topic(&client, &self.topic).await?.partitions.len() as i32;
            let partitions = before.saturating_add(self.count);
            client
                .add_partitions(&self.topic, partitions, self.dry_run)
                .await?;
            Ok(Added {
                name: self.topic,
                dry_run: self.dry_run,
                partitions_before: before,
                partitions,
            })
        })?;
        context.print(&added)
    }
}

impl Report for Added {
    const SCHEMA: &'static str = "corelane.topic.add_partitions/1";

    fn text(&self) -> String {
        let verb = if self.dry_run { "would have" } else { "has" };
        format!(
            "{} {verb} {}, {} before\n",
            self.name,
            counted(self.partitions, "partition"),
            self.partitions_before
        )
    }
}
