//! Changing settings at run time: AlterConfigs replaces all, IncrementalAlterConfigs changes some
//! (KIP-339).

use std::collections::BTreeMap;

use super::error::ControllerError::{self, *};
use super::topics::named;
use crate::cluster::apply::change;
use crate::cluster::image::Image;
use crate::cluster::records::{ConfigChanges, Record};
use crate::model::NodeId;

/// What the controller must know of keys and values. Errors are sentences for the user.
pub trait ConfigRules {
    /// Whether a topic can have these settings of its own, and no others.
    fn check_topic(&self, configs: &BTreeMap<String, String>) -> Result<(), String>;

    /// Whether these settings of a node (`None`: of the cluster) can change so at run time.
    fn check_broker(&self, node: Option<NodeId>, changes: &ConfigChanges) -> Result<(), String>;

    /// The value that a list has where the target does not set it; `None` when it is no list.
    fn inherited_list(&self, target: ConfigTarget<'_>, key: &str) -> Option<String>;
}

/// Whose settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigTarget<'a> {
    /// A topic's own.
    Topic(&'a str),
    /// A node's, or with `None` the cluster's default.
    Broker(Option<NodeId>),
}

/// One step of IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// The key.
    pub key: String,
    /// What is done to it.
    pub op: AlterOp,
    /// With what; nothing for [`AlterOp::Delete`].
    pub value: Option<String>,
}

/// Kafka's `AlterConfigOp.OpType`, in the order of its numbers from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// Sets the key.
    Set,
    /// Takes the key back to its default.
    Delete,
    /// Adds words to a list.
    Append,
    /// Takes words from a list.
    Subtract,
}

/// Decides on AlterConfigs: the given settings, and no others. No records when nothing changes.
pub fn alter_configs(
    image: &Image,
    rules: &impl ConfigRules,
    target: ConfigTarget<'_>,
    configs: &[(String, Option<String>)],
) -> Result<Vec<Record>, ControllerError> {
    let current = current(image, target)?;
    let mut changes: ConfigChanges = current.keys().map(|key| (key.clone(), None)).collect();
    let mut seen = BTreeMap::new();
    for (key, value) in configs {
        let value = value.as_ref().ok_or_else(|| without_value(key))?;
        if seen.insert(key, ()).is_some() {
            return Err(twice(key));
        }
        changes.insert(key.clone(), Some(value.clone()));
    }
    decide(image, rules, target, current, changes)
}

/// Decides on IncrementalAlterConfigs. No records when nothing changes.
pub fn incremental_alter_configs(
    image: &Image,
    rules: &impl ConfigRules,
    target: ConfigTarget<'_>,
    alterations: &[Alteration],
) -> Result<Vec<Record>, ControllerError> {
    let current = current(image, target)?;
    let mut changes = ConfigChanges::new();
    for Alteration { key, op, value } in alterations {
        let given = value.as_ref().ok_or_else(|| without_value(key));
        let value = match op {
            AlterOp::Set => Some(given?.clone()),
            AlterOp::Delete => None,
            AlterOp::Append | AlterOp::Subtract => {
                let inherited = rules
                    .inherited_list(target, key)
                    .ok_or_else(|| no_list(key))?;
                let list = current.get(key).unwrap_or(&inherited);
                Some(altered_list(list, *op, given?))
            }
        };
        if changes.insert(key.clone(), value).is_some() {
            return Err(twice(key));
        }
    }
    decide(image, rules, target, current, changes)
}

fn current(
    image: &Image,
    target: ConfigTarget<'_>,
) -> Result<BTreeMap<String, String>, ControllerError> {
    match target {
        ConfigTarget::Topic(name) => Ok(named(image, name)?.configs.as_ref().clone()),
        ConfigTarget::Broker(Some(node)) if image.nodes().all(|(id, _)| id != node) => {
            Err(UnknownNode(node))
        }
        ConfigTarget::Broker(node) => Ok(image.broker_configs(node).as_ref().clone()),
    }
}

fn decide(
    image: &Image,
    rules: &impl ConfigRules,
    target: ConfigTarget<'_>,
    current: BTreeMap<String, String>,
    mut changes: ConfigChanges,
) -> Result<Vec<Record>, ControllerError> {
    match target {
        ConfigTarget::Topic(_) => {
            let mut changed = current.clone();
            change(&mut changed, &changes);
            rules.check_topic(&changed).map_err(InvalidConfig)?;
        }
        ConfigTarget::Broker(node) => {
            rules.check_broker(node, &changes).map_err(InvalidConfig)?;
        }
    }
    changes.retain(|key, value| current.get(key) != value.as_ref());
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![match target {
        ConfigTarget::Topic(name) => Record::TopicConfigChanged {
            id: named(image, name)?.id,
            changes,
        },
        ConfigTarget::Broker(node) => Record::BrokerConfigChanged { node, changes },
    }])
}

/// A list with words added (each once) or taken out.
fn altered_list(list: &str, op: AlterOp, given: &str) -> String {
    let words = |text| {
        str::split(text, ',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
    };
    let mut all: Vec<&str> = words(list).collect();
    match op {
        AlterOp::Append => {
            for word in words(given) {
                if !all.contains(&word) {
                    all.push(word);
                }
            }
        }
        _ => all.retain(|kept| words(given).all(|word| word != *kept)),
    }
    all.join(",")
}

fn without_value(key: &str) -> ControllerError {
    InvalidRequest(format!("'{key}' needs a value."))
}

fn twice(key: &str) -> ControllerError {
    InvalidRequest(format!("'{key}' is named twice."))
}

fn no_list(key: &str) -> ControllerError {
    InvalidConfig(format!(
        "'{key}' is not a list: words can be neither added nor taken out."
    ))
}
