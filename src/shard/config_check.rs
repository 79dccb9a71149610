//! Configuration as the controller checks it, and as the metadata keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::controller::{ConfigRules, ConfigTarget};
use crate::cluster::{ConfigChanges, Image};
use crate::config::{
    BROKER_KEYS, BrokerConfig, ConfigType, DynamicConfigs, DynamicScope, Key, Settings, TOPIC_KEYS,
    TopicConfig,
};
use crate::model::NodeId;

/// The rules of [`crate::config`] behind the controller's trait, as of one moment.
#[derive(Clone, Debug)]
pub struct ConfigCheck {
    settings: Arc<Settings>,
    dynamic: DynamicConfigs,
    broker: Arc<BrokerConfig>,
}

impl ConfigCheck {
    /// Rules over the settings of the start, those of run time, and what they add up to.
    pub fn new(
        settings: Arc<Settings>,
        dynamic: DynamicConfigs,
        broker: Arc<BrokerConfig>,
    ) -> Self {
        Self {
            settings,
            dynamic,
            broker,
        }
    }
}

impl ConfigRules for ConfigCheck {
    fn check_topic(&self, configs: &BTreeMap<String, String>) -> Result<(), String> {
        TopicConfig::resolve(&self.broker, configs)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn check_broker(&self, node: Option<NodeId>, changes: &ConfigChanges) -> Result<(), String> {
        let scope = match node {
            Some(_) => DynamicScope::Node,
            None => DynamicScope::Cluster,
        };
        let checked = self.settings.check_dynamic(&self.dynamic, scope, changes);
        checked.map_err(|error| error.to_string())
    }

    fn inherited_list(&self, target: ConfigTarget<'_>, key: &str) -> Option<String> {
        let table: &[Key] = match target {
            ConfigTarget::Topic(_) => TOPIC_KEYS,
            ConfigTarget::Broker(_) => BROKER_KEYS,
        };
        let key = table.iter().find(|known| known.name == key)?;
        if key.config_type != ConfigType::List {
            return None;
        }
        match target {
            ConfigTarget::Topic(_) => {
                let defaults = TopicConfig::resolve(&self.broker, &BTreeMap::new()).ok()?;
                defaults.text(key.name)
            }
            ConfigTarget::Broker(_) => self.broker.text(key.name),
        }
    }
}

/// The settings of run time for one node.
pub(super) fn dynamic_configs(image: &Image, node: NodeId) -> DynamicConfigs {
    DynamicConfigs {
        cluster: image.broker_configs(None).as_ref().clone(),
        node: image.broker_configs(Some(node)).as_ref().clone(),
    }
}
