//! `corelane topic alter`

use clap::Args;
use serde::Serialize;

use super::key_value;
use crate::cli::connect::{existing_topic, with_client};
use crate::cli::{CliError, Context, Report};

/// Change a topic's configs
#[derive(Args)]
#[command(
    after_help = "Examples:\n  corelane topic alter logs --set retention.ms=3600000\n  \
                        corelane topic alter logs --unset retention.ms --dry-run"
)]
pub(super) struct Command {
    /// Name of the topic
    topic: String,
    /// Sets a config
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Gives a config back to the broker's default
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Let the broker check, but change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Altered {
    name: String,
    dry_run: bool,
    /// New values; null where the broker's default holds again.
    changes: Vec<(String, Option<String>)>,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let set = self.set.into_iter().map(|(key, value)| (key, Some(value)));
        let unset = self.unset.into_iter().map(|key| (key, None));
        let altered = Altered {
            name: self.topic,
            dry_run: self.dry_run,
            changes: set.chain(unset).collect(),
        };
        if altered.changes.is_empty() {
            return Err(CliError::usage("nothing to change")
                .fix("--set KEY=VALUE or --unset KEY, as often as needed"));
        }
        let altered = with_client(context, |client| async move {
            existing_topic(&client, &altered.name).await?;
            client
                .alter_topic_configs(&altered.name, &altered.changes, altered.dry_run)
                .await?;
            Ok(altered)
        })?;
        context.print(&altered)
    }
}

impl Report for Altered {
    const SCHEMA: &'static str = "corelane.topic.alter/1";

    fn text(&self) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let line = |(key, value): &(String, Option<String>)| match value {
            Some(value) => format!("{}: {would}{key}={value}\n", self.name),
            None => format!("{}: {would}{key} as on the broker\n", self.name),
        };
        self.changes.iter().map(line).collect()
    }
}
