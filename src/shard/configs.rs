//! What settings mean on a shard: a topic's for its partitions, those of run time for the broker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::{Configs, Image, Topic};
use crate::config::{BrokerConfig, DynamicConfigs, TopicConfig};
use crate::model::NodeId;
use crate::partition::PartitionConfig;

/// The settings of run time for one node.
pub fn dynamic_configs(image: &Image, node: NodeId) -> DynamicConfigs {
    DynamicConfigs {
        cluster: image.broker_configs(None).as_ref().clone(),
        node: image.broker_configs(Some(node)).as_ref().clone(),
    }
}

/// What the settings of the last topic that was looked at add up to. Topics that are created together
/// mostly have the same ones.
#[derive(Default)]
pub(super) struct ConfigCache(RefCell<Option<LastConfig>>);

struct LastConfig {
    broker: Arc<BrokerConfig>,
    own: Configs,
    config: Rc<PartitionConfig>,
}

impl ConfigCache {
    /// What a topic's settings mean for its partitions.
    pub fn config_of(&self, topic: &Topic, broker: &Arc<BrokerConfig>) -> Rc<PartitionConfig> {
        let mut last = self.0.borrow_mut();
        let is_same =
            |last: &&LastConfig| Arc::ptr_eq(&last.broker, broker) && last.own == topic.configs;
        if let Some(same) = last.as_ref().filter(is_same) {
            return same.config.clone();
        }
        let config = partition_config(topic, broker);
        *last = Some(LastConfig {
            broker: broker.clone(),
            own: topic.configs.clone(),
            config: config.clone(),
        });
        config
    }
}

/// What a topic's settings mean for its partitions. One that does not hold any more, as a batch size
/// under a smaller journal, is told and left out: the others hold.
fn partition_config(topic: &Topic, broker: &BrokerConfig) -> Rc<PartitionConfig> {
    let (config, invalid) = TopicConfig::resolve_valid(broker, &topic.configs);
    for error in invalid.into_values() {
        tracing::error!(topic = %topic.name, %error, "a setting of a topic does not hold");
    }
    Rc::new(PartitionConfig::new(&config, broker))
}
