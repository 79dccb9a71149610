//! Changing settings at run time.

use std::collections::BTreeMap;

use super::Draft;
use super::change::{AlterOp, Alteration, ConfigAlteration, ConfigEdit, ConfigTarget, Made};
use super::error::ControllerError::{self, *};
use super::rules::Rules;
use super::topics::named;
use crate::cluster::apply::change;
use crate::cluster::image::Image;
use crate::cluster::records::{ConfigChanges, Record};

/// Decides on new settings of one target. No record when nothing changes.
pub(super) fn alter(
    draft: &mut Draft,
    rules: &impl Rules,
    asked: &ConfigAlteration,
) -> Result<Made, ControllerError> {
    let (image, target) = (&draft.image, &asked.target);
    let current = current(image, target)?;
    let mut changes = match &asked.edit {
        ConfigEdit::Replace(configs) => replaced(&current, configs)?,
        ConfigEdit::Steps(steps) => altered(image, rules, target, &current, steps)?,
    };
    match target {
        ConfigTarget::Topic(_) => {
            let mut changed = current.clone();
            change(&mut changed, &changes);
            rules.check_topic(image, &changed).map_err(InvalidConfig)?;
        }
        ConfigTarget::Broker(node) => {
            let checked = rules.check_broker(image, *node, &changes);
            checked.map_err(InvalidConfig)?;
        }
    }
    changes.retain(|key, value| current.get(key) != value.as_ref());
    if changes.is_empty() {
        return Ok(Made::Configured);
    }
    draft.add(match target {
        ConfigTarget::Topic(name) => Record::TopicConfigChanged {
            id: named(image, name)?.id,
            changes,
        },
        ConfigTarget::Broker(node) => Record::BrokerConfigChanged {
            node: *node,
            changes,
        },
    })?;
    Ok(Made::Configured)
}

/// The given settings, and no others.
fn replaced(
    current: &BTreeMap<String, String>,
    configs: &[(String, Option<String>)],
) -> Result<ConfigChanges, ControllerError> {
    let mut changes: ConfigChanges = current.keys().map(|key| (key.clone(), None)).collect();
    let mut seen = BTreeMap::new();
    for (key, value) in configs {
        let value = value.as_ref().ok_or_else(|| without_value(key))?;
        if seen.insert(key, ()).is_some() {
            return Err(twice(key));
        }
        changes.insert(key.clone(), Some(value.clone()));
    }
    Ok(changes)
}

fn altered(
    image: &Image,
    rules: &impl Rules,
    target: &ConfigTarget,
    current: &BTreeMap<String, String>,
    steps: &[Alteration],
) -> Result<ConfigChanges, ControllerError> {
    let mut changes = ConfigChanges::new();
    for Alteration { key, op, value } in steps {
        let given = value.as_ref().ok_or_else(|| without_value(key));
        let value = match op {
            AlterOp::Set => Some(given?.clone()),
            AlterOp::Delete => None,
            AlterOp::Append | AlterOp::Subtract => {
                let inherited = rules.inherited_list(image, target, key);
                let inherited = inherited.ok_or_else(|| no_list(key))?;
                let list = current.get(key).unwrap_or(&inherited);
                Some(altered_list(list, *op, given?))
            }
        };
        if changes.insert(key.clone(), value).is_some() {
            return Err(twice(key));
        }
    }
    Ok(changes)
}

fn current(
    image: &Image,
    target: &ConfigTarget,
) -> Result<BTreeMap<String, String>, ControllerError> {
    match target {
        ConfigTarget::Topic(name) => Ok(named(image, name)?.configs.as_ref().clone()),
        ConfigTarget::Broker(Some(node)) if image.node(*node).is_none() => Err(UnknownNode(*node)),
        ConfigTarget::Broker(node) => Ok(image.broker_configs(*node).as_ref().clone()),
    }
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
