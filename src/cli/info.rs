//! `corelane info`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::connect::{Rt, with_client};
use super::{Align, CliError, Context, Report, Table, count, counted};
use crate::client::{Client, Resource};
use crate::wire::ApiKey;

/// Show a cluster: id, brokers, topics, versions, durability
#[derive(Args)]
pub(super) struct InfoArgs {}

#[derive(Serialize)]
struct Info {
    cluster_id: Option<String>,
    controller: i32,
    brokers: Vec<Broker>,
    topics: usize,
    partitions: usize,
    /// What corelane promises with an acknowledgement; absent for other brokers.
    durability: Option<String>,
    /// How a corelane broker makes its writes durable.
    durable_writes: Option<String>,
    apis: usize,
    newest_produce: Option<i16>,
    newest_fetch: Option<i16>,
    features: BTreeMap<String, i16>,
}

#[derive(Serialize)]
struct Broker {
    id: i32,
    address: String,
    rack: Option<String>,
    leads_partitions: usize,
}

impl InfoArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let info = with_client(context, look)?;
        context.print(&info)
    }
}

async fn look(client: Client<Rt>) -> Result<Info, CliError> {
    let metadata = client.retry("metadata", || client.refresh(None)).await?;
    let abilities = client.any().await?.abilities().await?;
    let partitions = || metadata.topics.values().flat_map(|topic| &topic.partitions);
    let newest = |api: ApiKey| {
        let found = abilities.apis.iter().find(|(key, _)| *key == api.key());
        found.map(|(_, versions)| *versions.end())
    };
    let broker = |broker: &crate::client::Broker| Broker {
        id: broker.id,
        address: format!("{}:{}", broker.host, broker.port),
        rack: broker.rack.clone(),
        leads_partitions: partitions().filter(|one| one.leader == broker.id).count(),
    };
    let first = metadata.brokers.keys().next().copied();
    Ok(Info {
        controller: metadata.controller,
        brokers: metadata.brokers.values().map(broker).collect(),
        topics: metadata.topics.len(),
        partitions: partitions().count(),
        durability: durability(&client, first).await,
        durable_writes: config_of(&client, first, "corelane.durable.writes").await,
        apis: abilities.apis.len(),
        newest_produce: newest(ApiKey::Produce),
        newest_fetch: newest(ApiKey::Fetch),
        features: abilities.features.into_iter().collect(),
        cluster_id: metadata.cluster_id,
    })
}

/// The level that a corelane broker runs with; nothing from other brokers.
pub(super) async fn durability(client: &Client<Rt>, broker: Option<i32>) -> Option<String> {
    config_of(client, broker, "corelane.durability").await
}

/// What a broker says of a key; nothing where it does not know it.
async fn config_of(client: &Client<Rt>, broker: Option<i32>, key: &str) -> Option<String> {
    let resource = Resource::Broker(broker?);
    let configs = client.configs(&resource, Some(&[key])).await.ok()?;
    configs.into_iter().find(|config| config.name == key)?.value
}

impl Report for Info {
    const SCHEMA: &'static str = "corelane.info/1";

    fn text(&self) -> String {
        let version = |version: Option<i16>| version.map_or("-".into(), |v| v.to_string());
        let mut text = format!(
            "cluster     {}   controller {}\ntopics      {}, {}\n",
            self.cluster_id.as_deref().unwrap_or("-"),
            self.controller,
            count(self.topics as u64),
            counted(self.partitions as u64, "partition"),
        );
        if let Some(durability) = &self.durability {
            text.push_str(&format!("durability  {durability}\n"));
        }
        if let Some(way) = &self.durable_writes {
            text.push_str(&format!("writes      made durable with {way}\n"));
        }
        text.push_str(&format!(
            "protocol    {} APIs, Produce to {}, Fetch to {}\n",
            self.apis,
            version(self.newest_produce),
            version(self.newest_fetch)
        ));
        for (name, level) in &self.features {
            text.push_str(&format!("feature     {name} {level}\n"));
        }
        let mut table = Table::new([
            ("BROKER", Align::Right),
            ("ADDRESS", Align::Left),
            ("RACK", Align::Left),
            ("LEADS", Align::Right),
        ]);
        for broker in &self.brokers {
            table.row([
                broker.id.to_string(),
                broker.address.clone(),
                broker.rack.clone().unwrap_or_else(|| "-".into()),
                count(broker.leads_partitions as u64),
            ]);
        }
        text + &table.text()
    }
}
