//! Values by key, the least recently used of which goes first.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

const NONE: usize = usize::MAX;

/// A map that knows which of its entries was used longest ago. Finding one takes a lookup in a tree;
/// using, adding and letting go of one moves links and looks at no others.
#[derive(Debug)]
pub struct Recent<K, V> {
    slots: Vec<Slot<K, V>>,
    by_key: BTreeMap<K, usize>,
    free: Vec<usize>,
    oldest: usize,
    newest: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: Option<V>,
    older: usize,
    newer: usize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            by_key: BTreeMap::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl<K: Copy + Ord, V> Recent<K, V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The value of a key, which is the most recently used one from now on.
    pub fn get(&mut self, key: K) -> Option<&V> {
        let at = *self.by_key.get(&key)?;
        self.unlink(at);
        self.link_newest(at);
        self.slots[at].value.as_ref()
    }

    /// Adds the most recently used one; gives the value that the key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.remove(key);
        let slot = Slot {
            key,
            value: Some(value),
            older: NONE,
            newer: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.by_key.insert(key, at);
        self.link_newest(at);
        before
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let at = self.by_key.remove(&key)?;
        self.unlink(at);
        self.free.push(at);
        self.slots[at].value.take()
    }

    /// Takes out the one that was used longest ago.
    pub fn remove_oldest(&mut self) -> Option<V> {
        let key = self.slots.get(self.oldest)?.key;
        self.remove(key)
    }

    /// Takes out all whose keys are in a range.
    pub fn remove_range(&mut self, range: impl RangeBounds<K>) -> Vec<V> {
        let keys: Vec<K> = self.by_key.range(range).map(|(key, _)| *key).collect();
        keys.into_iter()
            .filter_map(|key| self.remove(key))
            .collect()
    }

    fn link_newest(&mut self, at: usize) {
        let before = std::mem::replace(&mut self.newest, at);
        self.slots[at].older = before;
        self.slots[at].newer = NONE;
        match before {
            NONE => self.oldest = at,
            before => self.slots[before].newer = at,
        }
    }

    fn unlink(&mut self, at: usize) {
        let (older, newer) = (self.slots[at].older, self.slots[at].newer);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Get(u8),
        Insert(u8),
        Remove(u8),
        RemoveOldest,
        RemoveRange(u8, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || 0..8u8;
        let step = prop_oneof![
            key().prop_map(Step::Get),
            key().prop_map(Step::Insert),
            key().prop_map(Step::Remove),
            Just(Step::RemoveOldest),
            (key(), key()).prop_map(|(from, to)| Step::RemoveRange(from, to.max(from))),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn behaves_as_a_list_in_the_order_of_use(steps in steps()) {
            let mut recent = Recent::default();
            // Oldest first.
            let mut list: Vec<(u8, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Get(key) => {
                        let at = list.iter().position(|entry| entry.0 == key);
                        let entry = at.map(|at| list.remove(at));
                        list.extend(entry);
                        prop_assert_eq!(recent.get(key), entry.as_ref().map(|entry| &entry.1));
                    }
                    Step::Insert(key) => {
                        let at = list.iter().position(|entry| entry.0 == key);
                        let before = at.map(|at| list.remove(at).1);
                        list.push((key, number));
                        prop_assert_eq!(recent.insert(key, number), before);
                    }
                    Step::Remove(key) => {
                        let at = list.iter().position(|entry| entry.0 == key);
                        let before = at.map(|at| list.remove(at).1);
                        prop_assert_eq!(recent.remove(key), before);
                    }
                    Step::RemoveOldest => {
                        let oldest = (!list.is_empty()).then(|| list.remove(0).1);
                        prop_assert_eq!(recent.remove_oldest(), oldest);
                    }
                    Step::RemoveRange(from, to) => {
                        recent.remove_range(from..to);
                        list.retain(|entry| !(from..to).contains(&entry.0));
                    }
                }
                prop_assert_eq!(recent.len(), list.len());
            }
            let left: Vec<usize> = std::iter::from_fn(|| recent.remove_oldest()).collect();
            prop_assert_eq!(left, list.into_iter().map(|entry| entry.1).collect::<Vec<_>>());
            prop_assert!(recent.slots.len() <= 8, "slots are used again");
        }
    }
}
