//! `corelane api`

use clap::Args;
use serde::Serialize;

use super::{Align, CliError, Context, Report, Table};
use crate::wire::ApiKey;

/// List the Kafka APIs and versions that this program speaks
#[derive(Args)]
pub(super) struct Command {}

#[derive(Serialize)]
struct Apis {
    apis: Vec<Api>,
}

#[derive(Serialize)]
struct Api {
    key: i16,
    name: &'static str,
    min_version: i16,
    max_version: i16,
    first_flexible_version: i16,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if context.named_brokers().is_some() {
            return Err(CliError::usage("'corelane api' asks no broker: --brokers means nothing"));
        }
        let apis = ApiKey::ALL.iter().copied().map(Api::from).collect();
        context.print(&Apis { apis })
    }
}

impl From<ApiKey> for Api {
    fn from(api: ApiKey) -> Self {
        Self {
            key: api.key(),
            name: api.name(),
            min_version: *api.versions().start(),
            max_version: *api.versions().end(),
            first_flexible_version: api.first_flexible_version(),
        }
    }
}

impl Report for Apis {
    const SCHEMA: &'static str = "corelane.api/1";

    fn text(&self) -> String {
        let mut table = Table::new([
            ("KEY", Align::Right),
            ("API", Align::Left),
            ("VERSIONS", Align::Left),
            ("FLEXIBLE FROM", Align::Right),
        ]);
        for api in &self.apis {
            let versions = match (api.min_version, api.max_version) {
                (min, max) if min == max => min.to_string(),
                (min, max) => format!("{min}-{max}"),
            };
            let flexible = api.first_flexible_version.to_string();
            table.row([api.key.to_string(), api.name.to_string(), versions, flexible]);
        }
        table.text()
    }
}
