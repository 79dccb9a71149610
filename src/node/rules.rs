//! The controller's rules and defaults: what [`crate::config`] says, for the settings that an image
//! has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::controller::{ConfigTarget, Rules};
use crate::cluster::{ConfigChanges, Configs, Image};
use crate::config::{
    BROKER_KEYS, BrokerConfig, ConfigType, DynamicScope, Key, Settings, TOPIC_KEYS, TopicConfig,
};
use crate::model::NodeId;
use crate::shard::dynamic_configs;

/// The rules of one node: its settings of the start, under those that were set at run time.
pub(super) struct NodeRules {
    node: NodeId,
    settings: Arc<Settings>,
    resolved: RefCell<Resolved>,
}

/// What the settings add up to, for these settings of run time.
struct Resolved {
    of_cluster: Configs,
    of_node: Configs,
    config: Arc<BrokerConfig>,
}

impl NodeRules {
    /// `config` is what the settings of the start add up to.
    pub(super) fn new(node: NodeId, settings: Arc<Settings>, config: Arc<BrokerConfig>) -> Self {
        let resolved = Resolved {
            of_cluster: Configs::default(),
            of_node: Configs::default(),
            config,
        };
        Self {
            node,
            settings,
            resolved: RefCell::new(resolved),
        }
    }

    /// The configuration of the node as this image has it. Resolved anew only where it differs from
    /// the last one that was asked for.
    fn broker(&self, image: &Image) -> Arc<BrokerConfig> {
        let of_cluster = image.broker_configs(None);
        let of_node = image.broker_configs(Some(self.node));
        let mut resolved = self.resolved.borrow_mut();
        if resolved.of_cluster != of_cluster || resolved.of_node != of_node {
            // What was set at run time was checked by these rules: an error there is none.
            if let Ok(config) = self.settings.resolve(&dynamic_configs(image, self.node)) {
                *resolved = Resolved {
                    of_cluster,
                    of_node,
                    config: Arc::new(config),
                };
            }
        }
        resolved.config.clone()
    }
}

impl Rules for NodeRules {
    fn default_partition_count(&self, image: &Image) -> i32 {
        self.broker(image).num_partitions
    }

    fn can_delete_topics(&self, image: &Image) -> bool {
        self.broker(image).delete_topic_enable
    }

    fn check_topic(&self, image: &Image, configs: &BTreeMap<String, String>) -> Result<(), String> {
        TopicConfig::resolve(&self.broker(image), configs)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn check_broker(
        &self,
        image: &Image,
        node: Option<NodeId>,
        changes: &ConfigChanges,
    ) -> Result<(), String> {
        let scope = match node {
            Some(_) => DynamicScope::Node,
            None => DynamicScope::Cluster,
        };
        let dynamic = dynamic_configs(image, self.node);
        let checked = self.settings.check_dynamic(&dynamic, scope, changes);
        checked.map_err(|error| error.to_string())
    }

    fn inherited_list(&self, image: &Image, target: &ConfigTarget, key: &str) -> Option<String> {
        let table: &[Key] = match target {
            ConfigTarget::Topic(_) => TOPIC_KEYS,
            ConfigTarget::Broker(_) => BROKER_KEYS,
        };
        let key = table.iter().find(|known| known.name == key)?;
        if key.config_type != ConfigType::List {
            return None;
        }
        let broker = self.broker(image);
        match target {
            ConfigTarget::Topic(_) => {
                let defaults = TopicConfig::resolve(&broker, &BTreeMap::new()).ok()?;
                defaults.text(key.name)
            }
            ConfigTarget::Broker(_) => broker.text(key.name),
        }
    }
}
