//! The partitions of a shard, found by topic and index.

use std::collections::BTreeMap;

use crate::model::{PartitionId, PartitionIndex, TopicId};

/// A map from partition to value in two steps: a search among topics, then a place in a list. A
/// consumer of a topic with a thousand partitions looks up each of them for every request (one
/// search among all took a tenth of a shard's time).
#[derive(Debug)]
pub(super) struct PartitionTable<T> {
    topics: BTreeMap<TopicId, Vec<Option<T>>>,
}

impl<T> PartitionTable<T> {
    /// No partition.
    pub fn new() -> Self {
        Self {
            topics: BTreeMap::new(),
        }
    }

    pub fn get(&self, id: PartitionId) -> Option<&T> {
        let index = usize::try_from(id.index.0).ok()?;
        self.topics.get(&id.topic)?.get(index)?.as_ref()
    }

    /// Sets a value. Nothing happens for a negative index, which no partition has.
    pub fn insert(&mut self, id: PartitionId, value: T) {
        let Ok(index) = usize::try_from(id.index.0) else {
            return;
        };
        let list = self.topics.entry(id.topic).or_default();
        if list.len() <= index {
            list.resize_with(index + 1, || None);
        }
        if let Some(place) = list.get_mut(index) {
            *place = Some(value);
        }
    }

    /// Takes all partitions of a topic out.
    pub fn remove_topic(&mut self, topic: TopicId) {
        self.topics.remove(&topic);
    }

    /// The partitions of a topic, by index.
    pub fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = (PartitionId, &T)> {
        let list = self
            .topics
            .get(&topic)
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter().enumerate().filter_map(move |(index, value)| {
            let index = PartitionIndex(i32::try_from(index).ok()?);
            Some((PartitionId { topic, index }, value.as_ref()?))
        })
    }

    /// All values, by topic id and index.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.topics.values().flatten().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(topic: u128, index: i32) -> PartitionId {
        PartitionId {
            topic: TopicId(uuid::Uuid::from_u128(topic)),
            index: PartitionIndex(index),
        }
    }

    #[test]
    fn values_are_found_where_they_were_put() {
        let mut table = PartitionTable::new();
        for (topic, index) in [(2, 7), (1, 0), (2, 0)] {
            table.insert(id(topic, index), (topic, index));
        }
        table.insert(id(1, -1), (1, -1));
        assert_eq!(table.get(id(2, 7)), Some(&(2, 7)));
        for missing in [id(2, 1), id(2, 8), id(3, 0), id(1, -1)] {
            assert_eq!(table.get(missing), None);
        }
        assert!(table.values().eq(&[(1, 0), (2, 0), (2, 7)]));
        let second = TopicId(uuid::Uuid::from_u128(2));
        assert!(
            table
                .of_topic(second)
                .map(|(id, _)| id)
                .eq([id(2, 0), id(2, 7)])
        );
        table.remove_topic(second);
        assert_eq!(table.get(id(2, 7)), None);
        assert_eq!(table.values().count(), 1);
    }
}
