//! What DescribeConfigs shows of a key: value, where it comes from, and what it would be otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::keys::{BROKER_KEYS, BrokerConfig};
use super::keys::{ConfigType, Key, find};
use super::keys::{TOPIC_KEYS, TopicConfig};
use super::origin::Origin;
use super::settings::{DynamicConfigs, Settings};

/// Kafka's `ConfigSource`, with the numbers that DescribeConfigs uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic = 1,
    /// Set at run time for this node.
    DynamicBroker = 2,
    /// Set at run time for the cluster.
    DynamicDefaultBroker = 3,
    /// Set before the start.
    StaticBroker = 4,
    /// Set by nobody.
    Default = 5,
}

/// One value that a key could take its value from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key that holds it.
    pub name: &'static str,
    /// The value there.
    pub value: String,
    /// Where it is from.
    pub source: ConfigSource,
}

/// One key as DescribeConfigs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConfig {
    /// The key. One that this version does not know is a topic's own that another version set.
    pub name: Cow<'static, str>,
    /// Its value; `None` is null.
    pub value: Option<String>,
    /// The value it has when nobody sets it; `None` is null.
    pub default: Option<&'static str>,
    /// Where the value is from.
    pub source: ConfigSource,
    pub config_type: ConfigType,
    /// Whether it changes only with a restart.
    pub read_only: bool,
    /// Whether the value must not be shown. No key is a secret so far.
    pub sensitive: bool,
    /// The values it could take, the strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it does.
    pub documentation: &'static str,
    /// Why the topic's own value does not hold, where that is so; then it is not among the synonyms.
    pub invalid: Option<String>,
}

impl Settings {
    /// Every broker key, in the table's order.
    pub fn describe(&self, dynamic: &DynamicConfigs) -> Vec<DescribedConfig> {
        let describe = |key: &'static Key| {
            let synonyms = self.synonyms(key, dynamic);
            let value = synonyms.first().map(|strongest| strongest.value.clone());
            described(key, value, synonyms)
        };
        BROKER_KEYS.iter().map(describe).collect()
    }

    /// The values of one broker key, the strongest first.
    fn synonyms(&self, key: &'static Key, dynamic: &DynamicConfigs) -> Vec<ConfigSynonym> {
        let at_run_time = |values: &BTreeMap<String, String>| {
            values
                .get(key.name)
                .filter(|_| !key.is_read_only())
                .map(|text| canonical(key, text))
        };
        let fixed = self.get(key.name);
        let at_start = fixed.filter(|setting| setting.origin != Origin::Default);
        let by_default = fixed.map(|setting| setting.value.clone());
        let values = [
            (at_run_time(&dynamic.node), ConfigSource::DynamicBroker),
            (
                at_run_time(&dynamic.cluster),
                ConfigSource::DynamicDefaultBroker,
            ),
            (
                at_start.map(|setting| setting.value.clone()),
                ConfigSource::StaticBroker,
            ),
            (
                key.default
                    .map(str::to_string)
                    .or(by_default.filter(|_| at_start.is_none())),
                ConfigSource::Default,
            ),
        ];
        let synonym = |(value, source): (Option<String>, _)| {
            Some(ConfigSynonym {
                name: key.name,
                value: value?,
                source,
            })
        };
        values.into_iter().filter_map(synonym).collect()
    }
}

/// Every key of a topic that has these settings of its own, in the table's order.
pub fn describe_topic(
    settings: &Settings,
    dynamic: &DynamicConfigs,
    broker: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
) -> Vec<DescribedConfig> {
    let (config, invalid) = TopicConfig::resolve_valid(broker, overrides);
    let unknown = invalid
        .iter()
        .filter(|(name, _)| find(TOPIC_KEYS, name).is_none());
    let unknown = unknown.map(|(name, why)| DescribedConfig {
        name: name.clone().into(),
        value: overrides.get(name).cloned(),
        default: None,
        source: ConfigSource::Topic,
        config_type: ConfigType::String,
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        documentation: "",
        invalid: Some(why.to_string()),
    });
    let describe = |key: &'static Key| {
        let own = overrides.get(key.name);
        let own = own.filter(|_| !invalid.contains_key(key.name));
        let own = own.map(|value| ConfigSynonym {
            name: key.name,
            value: canonical(key, value),
            source: ConfigSource::Topic,
        });
        let inherited = key.synonyms.iter().flat_map(|synonym| {
            let broker_key = find(BROKER_KEYS, synonym.name);
            // As they were given: the hours of log.retention.hours are hours.
            broker_key
                .map(|key| settings.synonyms(key, dynamic))
                .unwrap_or_default()
        });
        let synonyms = own.into_iter().chain(inherited).collect();
        let invalid = invalid.get(key.name).map(ToString::to_string);
        DescribedConfig {
            invalid,
            ..described(key, config.text(key.name), synonyms)
        }
    };
    TOPIC_KEYS.iter().map(describe).chain(unknown).collect()
}

/// The value as every other source would write it.
fn canonical(key: &Key, text: &str) -> String {
    key.check(text)
        .ok()
        .flatten()
        .unwrap_or_else(|| text.to_string())
}

fn described(
    key: &'static Key,
    value: Option<String>,
    synonyms: Vec<ConfigSynonym>,
) -> DescribedConfig {
    DescribedConfig {
        name: key.name.into(),
        value,
        default: key.default,
        source: synonyms
            .first()
            .map_or(ConfigSource::Default, |strongest| strongest.source),
        config_type: key.config_type,
        read_only: key.is_read_only(),
        sensitive: false,
        synonyms,
        documentation: key.doc(),
        invalid: None,
    }
}
