//! The settings of this start, the ones changed at run time over them, and what results.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::keys::{BROKER_KEYS, BrokerConfig};
use super::keys::{Key, find, suggest};
use super::keys::{Verdict, verdict};
use super::origin::Origin;

/// A value that somebody set, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value in its canonical form.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

/// The values that hold until the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    fixed: BTreeMap<&'static str, Setting>,
}

/// The values that were set at run time (KIP-226), as the cluster's metadata keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicConfigs {
    /// For every node that has no value of its own.
    pub cluster: BTreeMap<String, String>,
    /// For this node.
    pub node: BTreeMap<String, String>,
}

/// Which of the two a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicScope {
    /// The cluster's default (broker resource with an empty name).
    Cluster,
    /// One node (broker resource with a broker id).
    Node,
}

impl Settings {
    pub(super) fn new(fixed: BTreeMap<&'static str, Setting>) -> Self {
        Self { fixed }
    }

    /// Gives a key that nobody has set, and that has no default of its own, the one of this machine.
    pub fn set_default(&mut self, name: &'static str, value: &str) {
        self.fixed.entry(name).or_insert_with(|| Setting {
            value: value.to_owned(),
            origin: Origin::Default,
        });
    }

    /// What was set for a key before the start.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.fixed.get(name)
    }

    /// The configuration that results from these settings and the ones of run time.
    pub fn resolve(&self, dynamic: &DynamicConfigs) -> Result<BrokerConfig, ConfigError> {
        let lookup = |name: &'static str| {
            let key = find(BROKER_KEYS, name)?;
            self.effective(key, dynamic)
        };
        BrokerConfig::resolve(lookup).map_err(|error| self.located(error))
    }

    /// Checks a change at run time: the key exists, can change without a restart, takes the value
    /// (`None` takes the key back), and goes together with all others.
    pub fn check_dynamic(
        &self,
        dynamic: &DynamicConfigs,
        scope: DynamicScope,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ConfigError> {
        let mut changed = dynamic.clone();
        let values = match scope {
            DynamicScope::Cluster => &mut changed.cluster,
            DynamicScope::Node => &mut changed.node,
        };
        for (name, value) in changes {
            check_one(name, value.as_deref())?;
            match value {
                Some(value) => values.insert(name.clone(), value.clone()),
                None => values.remove(name),
            };
        }
        self.resolve(&changed).map(drop)
    }

    /// A value set at run time for a key that cannot change then counts for nothing: it would mean
    /// that the key was dynamic in another version.
    fn effective(&self, key: &'static Key, dynamic: &DynamicConfigs) -> Option<String> {
        let at_run_time = || {
            dynamic
                .node
                .get(key.name)
                .or_else(|| dynamic.cluster.get(key.name))
        };
        let at_start = || self.fixed.get(key.name).map(|setting| &setting.value);
        let chosen = if key.is_read_only() {
            at_start()
        } else {
            at_run_time().or_else(at_start)
        };
        chosen.cloned().or_else(|| key.default.map(str::to_string))
    }

    /// Adds to an error where the offending value was set.
    fn located(&self, error: ConfigError) -> ConfigError {
        match &error {
            ConfigError::Invalid {
                key, origin: None, ..
            } => match self.fixed.get(key.as_str()) {
                Some(setting) => error.clone().located_at(&setting.origin),
                None => error,
            },
            _ => error,
        }
    }
}

fn check_one(name: &str, value: Option<&str>) -> Result<(), ConfigError> {
    let Some(key) = find(BROKER_KEYS, name) else {
        return Err(match verdict(name, value.unwrap_or_default()) {
            Some(Verdict::Refused(why) | Verdict::Ignored(why)) => ConfigError::Refused {
                key: name.to_string(),
                why,
                origin: None,
            },
            None => ConfigError::Unknown {
                key: name.to_string(),
                suggestion: suggest(BROKER_KEYS, name),
                origin: None,
            },
        });
    };
    if key.is_read_only() {
        return Err(ConfigError::ReadOnly {
            key: name.to_string(),
        });
    }
    match value.map(|value| (value, key.check(value))) {
        None | Some((_, Ok(Some(_)))) => Ok(()),
        Some((value, Ok(None))) => Err(ConfigError::invalid(name, value, "needs a value")),
        Some((value, Err(why))) => Err(ConfigError::invalid(name, value, why)),
    }
}
