//! Values of partitions, found by topic and index, or by slot.

use std::ops::Range;

use super::{LookupMap, PartitionId, TopicId};

/// Where a partition stands in a shard's table. One that was deleted leaves its slot to another,
/// which has a generation of its own: a slot that was kept finds its partition or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSlot {
    at: u32,
    generation: u32,
}

/// A map from partition to value. Whoever comes back to a partition keeps its slot, and finds it in
/// one step; a name costs a hash and two steps. Neither grows with the number of partitions.
#[derive(Debug)]
pub struct PartitionTable<T> {
    /// By index, where in `slots`; [`NOWHERE`] where there is none.
    topics: LookupMap<TopicId, Vec<u32>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<(PartitionId, T)>,
}

const NOWHERE: u32 = u32::MAX;

impl<T> Default for PartitionTable<T> {
    fn default() -> Self {
        Self {
            topics: LookupMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> PartitionTable<T> {
    /// A value, and where it is, to be found again with [`PartitionTable::at`].
    pub fn get(&self, id: PartitionId) -> Option<(PartitionSlot, &T)> {
        let index = usize::try_from(id.index.0).ok()?;
        let at = *self.topics.get(&id.topic)?.get(index)?;
        let found = self.slots.get(at as usize)?;
        let generation = found.generation;
        let (_, value) = found.value.as_ref()?;
        Some((PartitionSlot { at, generation }, value))
    }

    /// What stood at a slot, if it is still there.
    pub fn at(&self, slot: PartitionSlot) -> Option<&T> {
        let found = self.slots.get(slot.at as usize)?;
        let value = found.value.as_ref().map(|(_, value)| value);
        value.filter(|_| found.generation == slot.generation)
    }

    /// Sets a value. Nothing happens for a negative index, which no partition has.
    pub fn insert(&mut self, id: PartitionId, value: T) {
        self.insert_with(id, |_| value);
    }

    /// Sets a value that is made from the slot where it will be; gives it. None, and nothing happens, for a
    /// negative index.
    pub fn insert_with(
        &mut self,
        id: PartitionId,
        make: impl FnOnce(PartitionSlot) -> T,
    ) -> Option<&T> {
        let index = usize::try_from(id.index.0).ok()?;
        let list = self.topics.get_or_insert_with(id.topic, Vec::new);
        if list.len() <= index {
            list.resize(index + 1, NOWHERE);
        }
        let place = &mut list[index];
        if *place == NOWHERE {
            *place = self.free.pop().unwrap_or_else(|| {
                self.slots.push(Slot {
                    generation: 0,
                    value: None,
                });
                (self.slots.len() - 1) as u32
            });
        }
        let (at, slot) = (*place, &mut self.slots[*place as usize]);
        let generation = slot.generation;
        let (_, value) = slot
            .value
            .insert((id, make(PartitionSlot { at, generation })));
        Some(value)
    }

    /// Takes a partition out.
    pub fn remove(&mut self, id: PartitionId) -> Option<T> {
        let list = self.topics.get_mut(&id.topic)?;
        let place = list.get_mut(usize::try_from(id.index.0).ok()?)?;
        let at = std::mem::replace(place, NOWHERE);
        while list.pop_if(|last| *last == NOWHERE).is_some() {}
        if list.is_empty() {
            self.topics.remove(&id.topic);
        }
        self.vacate(at)
    }

    fn vacate(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        let (_, value) = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at);
        Some(value)
    }

    /// Takes all partitions of a topic out.
    pub fn remove_topic(&mut self, topic: TopicId) {
        for place in self.topics.remove(&topic).unwrap_or_default() {
            self.vacate(place);
        }
    }

    /// The partitions of a topic, by index.
    pub fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = (PartitionId, &T)> {
        let list = self.topics.get(&topic).map(Vec::as_slice);
        let slots = list.unwrap_or_default().iter();
        slots.filter_map(|place| {
            let (id, value) = self.slots.get(*place as usize)?.value.as_ref()?;
            Some((*id, value))
        })
    }

    /// All values, in the order of their slots.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.values_in(0..self.slots.len())
    }

    /// The values of a range of slots: to look at all of them, some at a time. What is put in meanwhile may
    /// be missed.
    pub fn values_in(&self, slots: Range<usize>) -> impl Iterator<Item = &T> {
        let end = slots.end.min(self.slots.len());
        let slots = self.slots.get(slots.start..end).unwrap_or_default();
        let values = slots.iter().filter_map(|slot| slot.value.as_ref());
        values.map(|(_, value)| value)
    }

    /// Slots, of which some may be empty.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
impl PartitionSlot {
    /// One for tests of whoever keeps slots.
    pub fn of_test(at: u32) -> Self {
        Self { at, generation: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartitionIndex;

    fn id(topic: u128, index: i32) -> PartitionId {
        PartitionId {
            topic: TopicId(uuid::Uuid::from_u128(topic)),
            index: PartitionIndex(index),
        }
    }

    #[test]
    fn values_are_found_where_they_were_put() {
        let mut table = PartitionTable::default();
        for (topic, index) in [(2, 7), (1, 0), (2, 0)] {
            table.insert(id(topic, index), (topic, index));
        }
        table.insert(id(1, -1), (1, -1));
        let value = |table: &PartitionTable<_>, id| table.get(id).map(|(_, value)| *value);
        assert_eq!(value(&table, id(2, 7)), Some((2, 7)));
        for missing in [id(2, 1), id(2, 8), id(3, 0), id(1, -1)] {
            assert_eq!(value(&table, missing), None);
        }
        assert!(table.values().eq(&[(2, 7), (1, 0), (2, 0)]));
        let second = id(2, 0).topic;
        let of_second = table.of_topic(second).map(|(id, _)| id);
        assert!(of_second.eq([id(2, 0), id(2, 7)]));
        table.insert(id(2, 0), (2, 99));
        assert_eq!(value(&table, id(2, 0)), Some((2, 99)), "replaced in place");
        table.remove_topic(second);
        assert_eq!(value(&table, id(2, 7)), None);
        assert_eq!(table.values().count(), 1);
    }

    #[test]
    fn a_slot_finds_its_partition_or_nothing() {
        let mut table = PartitionTable::default();
        table.insert(id(1, 0), 'a');
        let (slot, _) = table.get(id(1, 0)).unwrap();
        assert_eq!(table.at(slot), Some(&'a'));
        table.remove_topic(id(1, 0).topic);
        assert_eq!(table.at(slot), None);
        table.insert(id(2, 0), 'b');
        assert_eq!(table.at(slot), None, "the place is another's");
        let (other, _) = table.get(id(2, 0)).unwrap();
        assert_eq!(table.at(other), Some(&'b'));
        assert_eq!(table.slots.len(), 1, "places are used again");
    }

    #[test]
    fn partitions_go_one_by_one() {
        let mut table = PartitionTable::default();
        let slots = [0, 1, 2].map(|index| {
            let mut slot = None;
            table.insert_with(id(1, index), |at| {
                slot = Some(at);
                index
            });
            slot.unwrap()
        });
        assert_eq!(
            slots.map(|slot| table.at(slot).copied()),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(table.remove(id(1, 1)), Some(1));
        assert_eq!(table.remove(id(1, 1)), None);
        assert_eq!(
            slots.map(|slot| table.at(slot).copied()),
            [Some(0), None, Some(2)]
        );
        assert!(
            table.values_in(1..9).eq(&[2]),
            "an empty slot and one that is not"
        );
        assert_eq!(table.values_in(3..9).count(), 0);
        assert_eq!(
            (table.remove(id(1, 2)), table.remove(id(1, 0))),
            (Some(2), Some(0))
        );
        assert!(
            table.topics.is_empty(),
            "a topic without partitions takes no memory"
        );
        table.insert(id(1, 1), 7);
        assert_eq!((table.slot_count(), table.values().count()), (3, 1));
    }
}
