//! `corelane api`

use std::ops::RangeInclusive;

use clap::Args;
use serde::Serialize;

use super::connect::with_client;
use super::{Align, CliError, Context, Report, Table};
use crate::client::Abilities;
use crate::wire::{ApiKey, api_name};

/// List the Kafka APIs and versions that this program speaks; with -b or CORELANE_BROKERS, next to
/// a broker's
#[derive(Args)]
pub(super) struct ApiArgs {}

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

#[derive(Serialize)]
struct Comparison {
    apis: Vec<Compared>,
}

#[derive(Serialize)]
struct Compared {
    key: i16,
    name: Option<&'static str>,
    broker_min_version: Option<i16>,
    broker_max_version: Option<i16>,
    min_version: Option<i16>,
    max_version: Option<i16>,
    /// What both would use.
    common_version: Option<i16>,
}

impl ApiArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if context.given_brokers().is_none() {
            let apis = ApiKey::ALL.iter().copied().map(Api::from).collect();
            return context.print(&Apis { apis });
        }
        let abilities = with_client(context, |client| async move {
            Ok(client.any().await?.abilities().await?)
        })?;
        context.print(&compare(&abilities))
    }
}

fn compare(abilities: &Abilities) -> Comparison {
    let theirs = abilities.apis.iter().map(|(key, _)| *key);
    let mut keys: Vec<i16> = theirs
        .chain(ApiKey::ALL.iter().map(|api| api.key()))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let compared = |key| {
        let theirs = abilities.apis.iter().find(|(found, _)| *found == key);
        let theirs = theirs.map(|(_, versions)| versions);
        let ours = ApiKey::from_key(key);
        Compared {
            key,
            name: api_name(key),
            broker_min_version: theirs.map(|versions| *versions.start()),
            broker_max_version: theirs.map(|versions| *versions.end()),
            min_version: ours.map(|api| *api.versions().start()),
            max_version: ours.map(|api| *api.versions().end()),
            common_version: ours
                .zip(theirs)
                .and_then(|(api, versions)| api.negotiate(versions.clone())),
        }
    };
    Comparison {
        apis: keys.into_iter().map(compared).collect(),
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
            let versions = shown(&(api.min_version..=api.max_version));
            let flexible = api.first_flexible_version.to_string();
            table.row([
                api.key.to_string(),
                api.name.to_string(),
                versions,
                flexible,
            ]);
        }
        table.text()
    }
}

impl Report for Comparison {
    const SCHEMA: &'static str = "corelane.api.compare/1";

    fn text(&self) -> String {
        let mut table = Table::new([
            ("KEY", Align::Right),
            ("API", Align::Left),
            ("BROKER", Align::Left),
            ("CORELANE", Align::Left),
            ("USED", Align::Right),
        ]);
        let versions = |min: Option<i16>, max: Option<i16>| {
            let range = min.zip(max).map(|(min, max)| min..=max);
            range.as_ref().map_or("-".into(), shown)
        };
        for api in &self.apis {
            table.row([
                api.key.to_string(),
                api.name.unwrap_or("?").to_string(),
                versions(api.broker_min_version, api.broker_max_version),
                versions(api.min_version, api.max_version),
                api.common_version
                    .map_or("-".into(), |version| version.to_string()),
            ]);
        }
        table.text()
    }
}

fn shown(versions: &RangeInclusive<i16>) -> String {
    match (versions.start(), versions.end()) {
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min}-{max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_listed() {
        let abilities = Abilities {
            apis: vec![(0, 0..=20), (11, 0..=9), (18, 9..=9)],
            features: Vec::new(),
        };
        let compared = compare(&abilities);
        let of = |key| compared.apis.iter().find(|api| api.key == key).unwrap();
        assert_eq!(
            of(0).common_version,
            Some(*ApiKey::Produce.versions().end())
        );
        assert_eq!((of(11).name, of(11).max_version), (Some("JoinGroup"), None));
        assert_eq!(of(18).common_version, None, "nothing in common");
        assert_eq!(of(1).broker_max_version, None);
        assert!(compared.apis.is_sorted_by_key(|api| api.key));
    }
}
