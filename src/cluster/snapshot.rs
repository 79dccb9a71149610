//! An image as the records that make it from nothing.

use super::image::Image;
use super::records::{ConfigChanges, Record};
use super::topic::Topic;

impl Image {
    /// Records that, applied to an empty image, give this one.
    pub fn to_records(&self) -> Vec<Record> {
        let cluster = self
            .cluster_id
            .clone()
            .map(|cluster_id| Record::ClusterCreated { cluster_id });
        let nodes = self.nodes().map(|(node, state)| Record::RunStarted {
            node,
            shards: state.shards,
            after_clean_stop: true,
        });
        let leaving = self
            .leaving_topics()
            .flat_map(|topic| [created(topic), Record::TopicDeleted { id: topic.id }]);
        let brokers = self.broker_configs.iter().map(|(node, configs)| {
            let set = |(key, value): (&String, &String)| (key.clone(), Some(value.clone()));
            let changes: ConfigChanges = configs.iter().map(set).collect();
            Record::BrokerConfigChanged {
                node: *node,
                changes,
            }
        });
        let producers = (self.next_producer_id > 0).then(|| Record::ProducerIdsAllocated {
            next: self.next_producer_id(),
        });
        let records = cluster.into_iter().chain(nodes).chain(leaving);
        let records = records.chain(self.topics().map(|topic| created(topic)));
        records.chain(brokers).chain(producers).collect()
    }
}

fn created(topic: &Topic) -> Record {
    Record::TopicCreated {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.values().cloned().collect(),
        configs: topic.configs.as_ref().clone(),
    }
}
