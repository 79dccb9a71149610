//! Scripts of decisions: text files with commands, and below each what is decided.
//!
//! A block is a command, `----`, and the records and outcomes that it leads to, up to an empty line.
//! All blocks of a file follow each other on one image. `UPDATE_SCRIPTS=1` writes the lower halves.
//!
//! | command | change |
//! |---|---|
//! | `start node=0 shards=2 [unclean]` | `StartNode` |
//! | `create NAME id=1 [partitions=4] [replicas=1] [assign=0:0,1:1000] [k=v]` | `CreateTopics` |
//! | `grow NAME to=5 [brokers=0,1000]` | `CreatePartitions` |
//! | `delete NAME` or `delete id=1` | `DeleteTopics` |
//! | `purge id=1` | `PurgeTopics` |
//! | `replace TARGET k=v` and `alter TARGET k=v -k k+=w k-=w` | `AlterConfigs` |
//! | `allocate` | `AllocateProducerIds` |
//!
//! Several items of a change are parted by ` & `; `TARGET` is `topic:NAME`, `node:0` or `cluster`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use uuid::Uuid;

use super::*;
use crate::cluster::{ConfigChanges, Image, Placement, Record};
use crate::model::{BrokerId, NodeId, PartitionIndex, TopicId};

/// Takes every key but `bad`; `list` is a list; what is called `forbid` forbids deletion.
pub(in crate::cluster) struct TestRules;

impl Rules for TestRules {
    fn default_partition_count(&self, _: &Image) -> i32 {
        2
    }

    fn can_delete_topics(&self, image: &Image) -> bool {
        !image.broker_configs(None).contains_key("forbid")
    }

    fn check_topic(&self, _: &Image, configs: &BTreeMap<String, String>) -> Result<(), String> {
        if configs.contains_key("bad") {
            return Err("bad is bad".into());
        }
        Ok(())
    }

    fn check_broker(
        &self,
        _: &Image,
        _: Option<NodeId>,
        changes: &ConfigChanges,
    ) -> Result<(), String> {
        if changes.contains_key("bad") {
            return Err("bad is bad".into());
        }
        Ok(())
    }

    fn inherited_list(&self, _: &Image, _: &ConfigTarget, key: &str) -> Option<String> {
        (key == "list").then(|| "a".to_string())
    }
}

#[test]
fn scripts_of_decisions_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster/controller/testdata");
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    let mut scripts = 0;
    for entry in std::fs::read_dir(&dir).expect("there is a directory") {
        let path = entry.expect("can be listed").path();
        let script = std::fs::read_to_string(&path).expect("can be read");
        let played = play(&script);
        if update {
            std::fs::write(&path, &played).expect("can be written");
        } else {
            assert_eq!(script, played, "{}", path.display());
        }
        scripts += 1;
    }
    assert!(scripts >= 5, "the scripts are found");
}

/// The script with what its commands lead to.
fn play(script: &str) -> String {
    let mut image = Image::default();
    let mut played = String::new();
    for block in script.split("\n\n") {
        let upper = block.trim().split("\n----").next().unwrap_or_default();
        let command = upper.lines().filter(|line| !line.starts_with('#'));
        let command = command.collect::<Vec<_>>().join(" ");
        if !played.is_empty() {
            played.push('\n');
        }
        played.push_str(upper);
        played.push('\n');
        if command.trim().is_empty() {
            continue;
        }
        let decision = decide(&image, &TestRules, &change(&command));
        played.push_str("----\n");
        for record in &decision.records {
            writeln!(played, "{}", shown_record(record)).expect("strings take all");
        }
        for item in &decision.outcome {
            match item {
                Ok(made) => writeln!(played, "=> {}", shown_made(made)),
                Err(error) => writeln!(played, "=> {}: {error}", variant(error)),
            }
            .expect("strings take all");
        }
        let applied = image
            .apply_all(&decision.records)
            .expect("what is decided applies");
        assert_eq!(applied, decision.image, "after {command}");
        image = applied;
    }
    played
}

fn change(command: &str) -> Change {
    let (verb, rest) = command
        .trim()
        .split_once(' ')
        .unwrap_or((command.trim(), ""));
    let items = || rest.split(" & ").map(Item::parse);
    match verb {
        "start" => {
            let item = Item::parse(rest);
            Change::StartNode(NodeStart {
                cluster_id: "cluster".into(),
                node: NodeId(item.number("node").expect("node")),
                shards: item.number("shards").expect("shards") as u16,
                after_clean_stop: !item.words.contains(&"unclean"),
            })
        }
        "create" => Change::CreateTopics(items().map(|item| item.new_topic()).collect()),
        "grow" => Change::CreatePartitions(items().map(|item| item.new_partitions()).collect()),
        "delete" => Change::DeleteTopics(items().map(|item| item.topic()).collect()),
        "purge" => Change::PurgeTopics(items().map(|item| item.id()).collect()),
        "replace" | "alter" => {
            let alteration = |item: Item<'_>| ConfigAlteration {
                target: item.target(),
                edit: match verb {
                    "replace" => ConfigEdit::Replace(item.replacements()),
                    _ => ConfigEdit::Steps(item.steps()),
                },
            };
            Change::AlterConfigs(items().map(alteration).collect())
        }
        "allocate" => Change::AllocateProducerIds,
        other => panic!("no command {other:?}"),
    }
}

struct Item<'a> {
    words: Vec<&'a str>,
}

impl<'a> Item<'a> {
    fn parse(text: &'a str) -> Self {
        Self {
            words: text.split_whitespace().collect(),
        }
    }

    fn name(&self) -> String {
        self.words
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let mut pairs = self.words.iter().filter_map(|word| word.split_once('='));
        pairs.find_map(|(found, value)| (found == key).then_some(value))
    }

    fn number(&self, key: &str) -> Option<i32> {
        self.get(key).map(|value| value.parse().expect("a number"))
    }

    fn id(&self) -> TopicId {
        TopicId(Uuid::from_u128(self.number("id").expect("an id") as u128))
    }

    fn brokers(text: &str) -> Vec<BrokerId> {
        let ids = text.split('|').filter(|id| !id.is_empty());
        ids.map(|id| BrokerId(id.parse().expect("a broker id")))
            .collect()
    }

    fn new_topic(&self) -> NewTopic {
        let assignments = self.get("assign").unwrap_or_default().split(',');
        let assignments = assignments.filter_map(|pair| pair.split_once(':'));
        let own = ["id", "partitions", "replicas", "assign"];
        let pairs = self.words.iter().filter_map(|word| word.split_once('='));
        let configs = pairs.filter(|(key, _)| !own.contains(key));
        NewTopic {
            name: self
                .name()
                .replace("%249", &"x".repeat(249))
                .replace("%250", &"x".repeat(250)),
            id: self.id(),
            partition_count: self.number("partitions").unwrap_or(-1),
            replication_factor: self.number("replicas").unwrap_or(-1) as i16,
            assignments: assignments
                .map(|(index, brokers)| Assignment {
                    index: PartitionIndex(index.parse().expect("an index")),
                    brokers: Self::brokers(brokers),
                })
                .collect(),
            configs: configs
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        }
    }

    fn new_partitions(&self) -> NewPartitions {
        let brokers = self.get("brokers");
        NewPartitions {
            name: self.name(),
            total_count: self.number("to").expect("a number"),
            assignments: brokers.map(|list| {
                let each = list.split(',').filter(|brokers| !brokers.is_empty());
                each.map(Self::brokers).collect()
            }),
        }
    }

    fn topic(&self) -> TopicKey {
        match self.get("id") {
            Some(_) => TopicKey::Id(self.id()),
            None => TopicKey::Name(self.name()),
        }
    }

    fn target(&self) -> ConfigTarget {
        match self.name().split_once(':') {
            Some(("topic", name)) => ConfigTarget::Topic(name.into()),
            Some((_, node)) => ConfigTarget::Broker(Some(NodeId(node.parse().expect("an id")))),
            None => ConfigTarget::Broker(None),
        }
    }

    fn replacements(&self) -> Vec<(String, Option<String>)> {
        let pair = |word: &&str| match word.split_once('=') {
            Some((key, value)) => (key.to_string(), Some(value.to_string())),
            None => (word.to_string(), None),
        };
        self.words.iter().skip(1).map(pair).collect()
    }

    fn steps(&self) -> Vec<Alteration> {
        let step = |word: &&str| {
            let (key, op, value) = match word.split_once('=') {
                Some((key, value)) => match (key.strip_suffix('+'), key.strip_suffix('-')) {
                    (Some(key), _) => (key, AlterOp::Append, Some(value)),
                    (_, Some(key)) => (key, AlterOp::Subtract, Some(value)),
                    _ => (key, AlterOp::Set, Some(value)),
                },
                None => match word.strip_prefix('-') {
                    Some(key) => (key, AlterOp::Delete, None),
                    None => (*word, AlterOp::Set, None),
                },
            };
            Alteration {
                key: key.into(),
                op,
                value: value.map(Into::into),
            }
        };
        self.words.iter().skip(1).map(step).collect()
    }
}

fn number(id: TopicId) -> u128 {
    id.0.as_u128()
}

fn shards(places: impl Iterator<Item = Option<Placement>>) -> String {
    let shown = places.map(|place| match place {
        Some(place) => place.broker().0.to_string(),
        None => "-".into(),
    });
    let shown: Vec<_> = shown.collect();
    match shown.len() {
        0..=20 => shown.join(" "),
        many => format!("({many} of them)"),
    }
}

fn shown_record(record: &Record) -> String {
    match record {
        Record::TopicCreated {
            name,
            id,
            partitions,
            configs,
        } => {
            let leaders = shards(partitions.iter().map(|state| state.leader));
            let name = if name.len() > 20 { "(long)" } else { name };
            format!(
                "TopicCreated {name} id={} leaders={leaders} {configs:?}",
                number(*id)
            )
        }
        Record::PartitionsAdded {
            id,
            first,
            partitions,
        } => {
            let leaders = shards(partitions.iter().map(|state| state.leader));
            format!(
                "PartitionsAdded id={} from={first} leaders={leaders}",
                number(*id)
            )
        }
        Record::PartitionsMoved { moves } => {
            let one = |moved: &crate::cluster::Move| {
                let (id, to) = (number(moved.topic), moved.placement.broker().0);
                let (index, epoch, owner) = (moved.index, moved.leader_epoch, moved.owner_epoch);
                format!("\n  {id}/{index} to={to} leader_epoch={epoch} owner_epoch={owner}")
            };
            format!(
                "PartitionsMoved{}",
                moves.iter().map(one).collect::<String>()
            )
        }
        Record::TopicDeleted { id } => format!("TopicDeleted id={}", number(*id)),
        Record::TopicPurged { id } => format!("TopicPurged id={}", number(*id)),
        Record::TopicConfigChanged { id, changes } => {
            format!("TopicConfigChanged id={} {changes:?}", number(*id))
        }
        other => format!("{other:?}"),
    }
}

fn shown_made(made: &Made) -> String {
    match made {
        Made::Topic {
            id,
            partition_count,
            replication_factor,
        } => {
            let id = number(*id);
            format!("Topic id={id} partitions={partition_count} replicas={replication_factor}")
        }
        Made::Deleted { id, name } => format!("Deleted {name} id={}", number(*id)),
        Made::Partitions {
            id,
            partition_count,
        } => format!("Partitions id={} partitions={partition_count}", number(*id)),
        Made::ProducerIds(block) => format!("ProducerIds from={} to={}", block.first, block.end),
        other => format!("{other:?}"),
    }
}

fn variant(error: &ControllerError) -> String {
    let shown = format!("{error:?}");
    shown.split('(').next().unwrap_or_default().to_owned()
}
