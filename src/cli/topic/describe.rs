//! `corelane topic describe`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::cli::connect::{Rt, existing_topic, with_client};
use crate::cli::{Align, CliError, Context, Report, Table, bytes, count, counted};
use crate::client::{Client, Config, ConfigSource, ListedOffset, Resource, When};
use crate::rt::Runtime;

/// Show a topic's partitions, sizes and changed configs
#[derive(Args)]
pub(super) struct DescribeArgs {
    /// Name of the topic
    topic: String,
    /// Show all configs, not only those that were changed
    #[arg(short, long)]
    all: bool,
}

#[derive(Serialize)]
struct Description {
    name: String,
    id: String,
    replication_factor: usize,
    /// Of all replicas; absent where brokers do not say.
    size_bytes: Option<u64>,
    partitions: Vec<Partition>,
    configs: BTreeMap<String, Option<String>>,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    leader: i32,
    /// It has no leader, or its leader cannot use its files.
    offline: bool,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    /// Of the leader's replica.
    size_bytes: Option<u64>,
}

impl DescribeArgs {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let description = with_client(context, |client| describe(client, self))?;
        context.print(&description)
    }
}

async fn describe(client: Client<Rt>, command: DescribeArgs) -> Result<Description, CliError> {
    let topic = existing_topic(&client, &command.topic).await?;
    let name = topic.name.as_str();
    // Partitions without a leader have no offsets to tell.
    let led: Vec<i32> = topic
        .partitions
        .iter()
        .filter(|partition| partition.leader >= 0)
        .map(|partition| partition.index)
        .collect();
    let starts = client.list_usable_offsets(name, &led, When::Start).await?;
    let ends = client.list_usable_offsets(name, &led, When::End).await?;
    let resource = Resource::Topic(topic.name.clone());
    let configs = client.configs(&resource, None).await?;
    let sizes = sizes(&client, name).await;
    let offset = |listed: &BTreeMap<i32, Option<ListedOffset>>, index| {
        let found: &Option<ListedOffset> = listed.get(&index)?;
        Some((*found)?.offset?.0)
    };
    let is_usable = |index| matches!(ends.get(&index), Some(Some(_)));
    let partition = |partition: &crate::client::Partition| Partition {
        partition: partition.index,
        leader: partition.leader,
        offline: !is_usable(partition.index),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.clone(),
        in_sync_replicas: partition.in_sync.clone(),
        start_offset: offset(&starts, partition.index),
        end_offset: offset(&ends, partition.index),
        size_bytes: sizes
            .as_ref()
            .and_then(|sizes| sizes.get(&(partition.leader, partition.index)).copied()),
    };
    Ok(Description {
        id: topic.id.to_string(),
        replication_factor: topic.partitions.first().map_or(0, |p| p.replicas.len()),
        size_bytes: sizes.as_ref().map(|sizes| sizes.values().sum()),
        partitions: topic.partitions.iter().map(partition).collect(),
        configs: configs
            .into_iter()
            .filter(|config| command.all || is_changed(config))
            .map(|config| (config.name, config.value))
            .collect(),
        name: topic.name,
    })
}

/// Bytes by broker and partition; nothing from brokers that do not know log directories, as some
/// that only speak Kafka's protocol.
async fn sizes<R: Runtime>(client: &Client<R>, topic: &str) -> Option<BTreeMap<(i32, i32), u64>> {
    let dirs = client.log_dirs().await.ok()?;
    let mut sizes = BTreeMap::new();
    for dir in dirs {
        for ((name, index), size) in dir.partitions {
            if name == topic {
                sizes.insert((dir.broker, index), u64::try_from(size).unwrap_or(0));
            }
        }
    }
    Some(sizes)
}

fn is_changed(config: &Config) -> bool {
    config.source == ConfigSource::Topic
}

impl Report for Description {
    const SCHEMA: &'static str = "corelane.topic.describe/1";

    fn text(&self) -> String {
        let size = self
            .size_bytes
            .map(|size| format!("   {} on disk", bytes(size)))
            .unwrap_or_default();
        let mut text = format!(
            "{}   {}   replication factor {}{size}   id {}\n",
            self.name,
            counted(self.partitions.len() as u64, "partition"),
            self.replication_factor,
            self.id
        );
        for (name, value) in &self.configs {
            let value = value.as_deref().unwrap_or("(hidden)");
            text.push_str(&format!("config   {name}={value}\n"));
        }
        let mut table = Table::new([
            ("PARTITION", Align::Right),
            ("LEADER", Align::Right),
            ("EPOCH", Align::Right),
            ("REPLICAS", Align::Left),
            ("START", Align::Right),
            ("END", Align::Right),
            ("SIZE", Align::Right),
            ("STATE", Align::Left),
        ]);
        let optional = |offset: Option<i64>| offset.map_or("-".into(), count);
        for partition in &self.partitions {
            table.row([
                partition.partition.to_string(),
                partition.leader.to_string(),
                partition.leader_epoch.to_string(),
                replicas(partition),
                optional(partition.start_offset),
                optional(partition.end_offset),
                partition.size_bytes.map_or("-".into(), bytes),
                if partition.offline {
                    "OFFLINE"
                } else {
                    "online"
                }
                .into(),
            ]);
        }
        text + &table.text()
    }
}

/// The replicas; those that are not in sync are marked.
fn replicas(partition: &Partition) -> String {
    let one = |id: &i32| {
        let mark = if partition.in_sync_replicas.contains(id) {
            ""
        } else {
            "!"
        };
        format!("{id}{mark}")
    };
    let all: Vec<String> = partition.replicas.iter().map(one).collect();
    all.join(",")
}
