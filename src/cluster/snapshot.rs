//! An image as the records that make it from nothing.

use super::image::Image;
use super::records::{ConfigChanges, PARTITIONS_PER_RECORD, Record};
use super::topic::Topic;
use crate::model::PartitionIndex;

impl Image {
    /// Records that, applied to an empty image, give this one. Each is made when it is asked for: none
    /// is long, and whoever stores them can let others run in between.
    pub fn to_records(&self) -> impl Iterator<Item = Record> + '_ {
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
            .flat_map(|topic| created(topic).chain([Record::TopicDeleted { id: topic.id }]));
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
        let records = records.chain(self.topics().flat_map(|topic| created(topic)));
        records.chain(brokers).chain(producers)
    }
}

fn created(topic: &Topic) -> impl Iterator<Item = Record> + '_ {
    let states = topic.partitions.values();
    let first: Vec<_> = states.take(PARTITIONS_PER_RECORD).cloned().collect();
    let chunk = PARTITIONS_PER_RECORD as i32;
    let created = Record::TopicCreated {
        name: topic.name.clone(),
        id: topic.id,
        partitions: first,
        configs: topic.configs.as_ref().clone(),
    };
    let further = (1..).map(move |number| PartitionIndex(number * chunk));
    let further = further.take_while(|first| first.0 < topic.partition_count());
    let added = further.map(|first| {
        let states = topic.indexed_from(first).map(|(_, state)| state);
        Record::PartitionsAdded {
            id: topic.id,
            first,
            partitions: states.take(PARTITIONS_PER_RECORD).cloned().collect(),
        }
    });
    [created].into_iter().chain(added)
}
