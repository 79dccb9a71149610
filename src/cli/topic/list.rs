//! `corelane topic list`

use clap::Args;
use serde::Serialize;

use crate::cli::connect::with_client;
use crate::cli::{Align, CliError, Context, Report, Table, count};

/// List topics
#[derive(Args)]
pub(super) struct ListArgs {
    /// Show the broker's internal topics too
    #[arg(long)]
    internal: bool,
}

#[derive(Serialize)]
struct Topics {
    topics: Vec<Topic>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
}

impl ListArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let metadata = with_client(context, |client| async move {
            Ok(client.retry("list topics", || client.refresh(None)).await?)
        })?;
        let topics = metadata
            .topics
            .into_values()
            .filter(|topic| self.internal || !topic.is_internal)
            .map(|topic| Topic {
                id: topic.id.to_string(),
                partitions: topic.partitions.len(),
                replication_factor: topic.partitions.first().map_or(0, |p| p.replicas.len()),
                name: topic.name,
            })
            .collect();
        context.print(&Topics { topics })
    }
}

impl Report for Topics {
    const SCHEMA: &'static str = "corelane.topic.list/1";

    fn text(&self) -> String {
        let mut table = Table::new([
            ("TOPIC", Align::Left),
            ("PARTITIONS", Align::Right),
            ("REPLICAS", Align::Right),
        ]);
        for topic in &self.topics {
            table.row([
                topic.name.clone(),
                count(topic.partitions as u64),
                topic.replication_factor.to_string(),
            ]);
        }
        table.text()
    }
}
