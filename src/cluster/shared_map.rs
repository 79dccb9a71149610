//! An ordered map whose copies share what they have in common.
//!
//! A tree: entries lie in sorted leaves, above them stand nodes of at most [`WIDTH`] children. A copy
//! is one reference count. A change copies the way from the root to its leaf, O(log n): among 100,000
//! entries that is four nodes, of which none is longer than [`WIDTH`].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Entries of a leaf and children of a node, at most.
const WIDTH: usize = 32;

/// The map. Keys rise through the leaves, and only the root can be empty.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// Each child with a key that none of its own lies below, except for the first child, which has
    /// everything below the second one's.
    Inner(Vec<(K, Arc<Node<K, V>>)>),
}

/// What an insertion leaves to be done one floor above.
struct Inserted<K, V> {
    former: Option<V>,
    /// The upper half of a node that was full, with its lowest key.
    split: Option<(K, Arc<Node<K, V>>)>,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = position(entries, key).ok()?;
                    return entries.get(at).map(|(_, value)| value);
                }
                Node::Inner(children) => node = &children.get(child_of(children, key))?.1,
            }
        }
    }

    /// All entries, keys rising.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            way: vec![(&*self.root, 0)],
        }
    }

    /// The entries from a key on, whether or not it is there, keys rising.
    pub fn iter_from<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut way = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let (Ok(at) | Err(at)) = position(entries, key);
                    way.push((node, at));
                    return Iter { way };
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    way.push((node, at + 1));
                    let Some((_, child)) = children.get(at) else {
                        return Iter { way };
                    };
                    node = child;
                }
            }
        }
    }

    /// All values, keys rising.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Sets a key; the value that it had comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Inserted { former, split } = insert_below(&mut self.root, key, value);
        if let Some((low, upper)) = split {
            // The first child's own key is never looked at: any will do.
            let lower = (low.clone(), self.root.clone());
            self.root = Arc::new(Node::Inner(vec![lower, (low, upper)]));
        }
        self.len += usize::from(former.is_none());
        former
    }

    /// Takes a key out; the value that it had comes back.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looked up first: what is not there must not cost a copy.
        self.get(key)?;
        let value = remove_below(&mut self.root, key)?;
        self.len -= 1;
        loop {
            self.root = match &*self.root {
                Node::Inner(children) => match children.as_slice() {
                    [] => Arc::new(Node::Leaf(Vec::new())),
                    [(_, only)] => only.clone(),
                    _ => break,
                },
                Node::Leaf(_) => break,
            };
        }
        Some(value)
    }
}

impl<K: Clone, V> SharedMap<K, V> {
    /// Keys that rise fill one leaf after the other, without a search for any.
    fn from_rising(entries: Vec<(K, V)>) -> Self {
        let len = entries.len();
        let mut nodes = grouped(entries, Node::Leaf);
        while nodes.len() > 1 {
            nodes = grouped(nodes, Node::Inner);
        }
        match nodes.pop() {
            Some((_, root)) => Self { root, len },
            None => Self::default(),
        }
    }
}

/// Nodes over a list, each with its lowest key.
fn grouped<K: Clone, V, T>(
    list: Vec<(K, T)>,
    node: impl Fn(Vec<(K, T)>) -> Node<K, V>,
) -> Vec<(K, Arc<Node<K, V>>)> {
    let mut nodes = Vec::with_capacity(list.len().div_ceil(WIDTH));
    let mut list = list.into_iter();
    loop {
        let mut of_node = Vec::with_capacity(WIDTH);
        of_node.extend(list.by_ref().take(WIDTH));
        let Some((low, _)) = of_node.first() else {
            return nodes;
        };
        nodes.push((low.clone(), Arc::new(node(of_node))));
    }
}

/// The child that has the key if any has.
fn child_of<K: Borrow<Q>, T, Q: Ord + ?Sized>(children: &[(K, T)], key: &Q) -> usize {
    let above_first = children.get(1..).unwrap_or_default();
    above_first.partition_point(|(low, _)| low.borrow() <= key)
}

fn position<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

fn insert_below<K: Ord + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    key: K,
    value: V,
) -> Inserted<K, V> {
    let none = |former| Inserted {
        former,
        split: None,
    };
    match Arc::make_mut(node) {
        Node::Leaf(entries) => match position(entries, &key) {
            Ok(at) => none(
                entries
                    .get_mut(at)
                    .map(|entry| std::mem::replace(&mut entry.1, value)),
            ),
            Err(at) => {
                entries.insert(at, (key, value));
                let upper = upper_half(entries, at);
                Inserted {
                    former: None,
                    split: upper.map(|(low, upper)| (low, Arc::new(Node::Leaf(upper)))),
                }
            }
        },
        Node::Inner(children) => {
            let at = child_of(children, &key);
            let Some((_, child)) = children.get_mut(at) else {
                return none(None);
            };
            let below = insert_below(child, key, value);
            let Some(split) = below.split else {
                return none(below.former);
            };
            children.insert(at + 1, split);
            let upper = upper_half(children, at + 1);
            Inserted {
                former: below.former,
                split: upper.map(|(low, upper)| (low, Arc::new(Node::Inner(upper)))),
            }
        }
    }
}

/// What is above half of a list that has become too long. Where keys only rise, as partitions do, the
/// lower list stays nearly full.
fn upper_half<K: Clone, T>(list: &mut Vec<(K, T)>, inserted_at: usize) -> Option<(K, Vec<(K, T)>)> {
    if list.len() <= WIDTH {
        return None;
    }
    let at = if inserted_at == list.len() - 1 {
        WIDTH - 1
    } else {
        WIDTH / 2
    };
    let upper = list.split_off(at);
    let (low, _) = upper.first()?;
    Some((low.clone(), upper))
}

fn remove_below<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(
    node: &mut Arc<Node<K, V>>,
    key: &Q,
) -> Option<V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = position(entries, key).ok()?;
            Some(entries.remove(at).1)
        }
        Node::Inner(children) => {
            let at = child_of(children, key);
            let (_, child) = children.get_mut(at)?;
            let value = remove_below(child, key)?;
            if child.is_empty() {
                children.remove(at);
            }
            Some(value)
        }
    }
}

impl<K, V> Node<K, V> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(entries) => entries.is_empty(),
            Self::Inner(children) => children.is_empty(),
        }
    }
}

/// Entries in order; the way from the root to the next one, with the next place in each node.
pub struct Iter<'m, K, V> {
    way: Vec<(&'m Node<K, V>, usize)>,
}

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, next) = self.way.last_mut()?;
            let at = *next;
            *next += 1;
            match *node {
                Node::Leaf(entries) => match entries.get(at) {
                    Some((key, value)) => return Some((key, value)),
                    None => self.way.pop(),
                },
                Node::Inner(children) => match children.get(at) {
                    Some((_, child)) => {
                        self.way.push((child, 0));
                        continue;
                    }
                    None => self.way.pop(),
                },
            };
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Self::from_rising(entries);
        }
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Vec::new())),
            len: 0,
        }
    }
}

/// Equal when the entries are, however they lie in nodes.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && (Arc::ptr_eq(&self.root, &other.root) || self.iter().eq(other.iter()))
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Nodes of a map, root first.
    fn nodes<'m, K, V>(node: &'m Arc<Node<K, V>>, found: &mut Vec<&'m Arc<Node<K, V>>>) {
        found.push(node);
        if let Node::Inner(children) = &**node {
            children.iter().for_each(|(_, child)| nodes(child, found));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn behaves_as_a_btree_map(
            steps in proptest::collection::vec((0..5u8, 0..1500u16, any::<u8>()), 0..4000),
        ) {
            let mut map = SharedMap::default();
            let mut model = BTreeMap::new();
            let mut before = (map.clone(), model.clone());
            for (at, (kind, key, value)) in steps.into_iter().enumerate() {
                if at % 100 == 0 {
                    prop_assert!(before.0.iter().eq(before.1.iter()), "a copy stays as it was");
                    before = (map.clone(), model.clone());
                }
                if kind > 1 {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert!(map.iter_from(&key).take(3).eq(model.range(key..).take(3)));
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
            let mut found = Vec::new();
            nodes(&map.root, &mut found);
            prop_assert!(found.iter().skip(1).all(|node| !node.is_empty()));
            for key in model.keys() {
                map.remove(key);
            }
            prop_assert!(map.is_empty() && map.iter().next().is_none());
        }
    }

    #[test]
    fn a_change_copies_the_way_to_its_leaf_alone() {
        let mut map: SharedMap<_, _> = (0..100_000).map(|key| (key, ())).collect();
        let before = map.clone();
        map.insert(54_321, ());
        map.insert(100_000, ());
        let (mut old, mut new) = (Vec::new(), Vec::new());
        nodes(&before.root, &mut old);
        nodes(&map.root, &mut new);
        let old: std::collections::BTreeSet<_> = old.into_iter().map(Arc::as_ptr).collect();
        let copied = new.iter().filter(|node| !old.contains(&Arc::as_ptr(node)));
        assert!(copied.count() <= 8, "two ways of four nodes");
        assert!(new.len() < 100_000 / 16, "rising keys fill their leaves");
        let mut one_by_one = SharedMap::default();
        for key in 0..100_000 {
            one_by_one.insert(key, ());
        }
        assert_eq!(one_by_one, before);
        let mut new = Vec::new();
        nodes(&one_by_one.root, &mut new);
        assert!(new.len() < 100_000 / 16, "one by one as well");
    }
}
