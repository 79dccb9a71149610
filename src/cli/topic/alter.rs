//! `corelane topic alter`

use clap::Args;
use serde::Serialize;

use super::key_value;
use crate::cli::connect::{Rt, existing_topic, with_client};
use crate::cli::{CliError, Context, Exit, Report, suggest};
use crate::client::{Client, ClientError, Resource};

/// Change a topic's configs
#[derive(Args)]
#[command(
    after_help = "Examples:\n  corelane topic alter logs --set retention.ms=3600000\n  \
                        corelane topic alter logs --unset retention.ms --dry-run"
)]
pub(super) struct AlterArgs {
    /// Name of the topic
    topic: String,
    /// Sets a config
    #[arg(short = 'c', long, visible_alias = "config", value_name = "KEY=VALUE", value_parser = key_value)]
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
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    key: String,
    /// Null where the broker's default holds again.
    value: Option<String>,
}

impl AlterArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let change = |(key, value)| Change { key, value };
        let set = self.set.into_iter().map(|(key, value)| (key, Some(value)));
        let unset = self.unset.into_iter().map(|key| (key, None));
        let altered = Altered {
            name: self.topic,
            dry_run: self.dry_run,
            changes: set.chain(unset).map(change).collect(),
        };
        if altered.changes.is_empty() {
            return Err(CliError::usage("nothing to change")
                .fix("--set KEY=VALUE or --unset KEY, as often as needed"));
        }
        let altered = with_client(context, |client| async move {
            existing_topic(&client, &altered.name).await?;
            check_unset(&client, &altered).await?;
            let changes = altered.changes.iter();
            let changes: Vec<_> = changes.map(|c| (c.key.clone(), c.value.clone())).collect();
            client
                .alter_topic_configs(&altered.name, &changes, altered.dry_run)
                .await?;
            Ok(altered)
        })?;
        context.print(&altered)
    }
}

/// Brokers take it without a word when a key is unset that they do not know.
async fn check_unset(client: &Client<Rt>, altered: &Altered) -> Result<(), CliError> {
    let mut unset = altered
        .changes
        .iter()
        .filter(|change| change.value.is_none());
    let Some(first) = unset.next() else {
        return Ok(());
    };
    let resource = Resource::Topic(altered.name.clone());
    let known = match client.configs(&resource, None).await {
        Ok(known) => known,
        // Who may change configs may not be allowed to see them.
        Err(ClientError::Refused { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let is_known = |key: &str| known.iter().any(|config| config.name == key);
    match [first]
        .into_iter()
        .chain(unset)
        .find(|change| !is_known(&change.key))
    {
        None => Ok(()),
        Some(Change { key, .. }) => {
            let what = format!("topic '{}' has no config '{key}'", altered.name);
            let names = known.iter().map(|config| config.name.as_str());
            Err(CliError::new(Exit::NotFound, what).did_you_mean(suggest(key, names)))
        }
    }
}

impl Report for Altered {
    const SCHEMA: &'static str = "corelane.topic.alter/2";

    fn text(&self) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let line = |Change { key, value }: &Change| match value {
            Some(value) => format!("{}: {would}{key}={value}\n", self.name),
            None => format!("{}: {would}{key} as on the broker\n", self.name),
        };
        self.changes.iter().map(line).collect()
    }
}
