//! An array whose usual length is one.

use std::fmt;
use std::iter::Chain;
use std::ops::{Deref, DerefMut};

/// An array that holds one element without an allocation, as most Produce and Fetch messages do.
///
/// Unlike `SmallVec` it is covariant: a value with borrowed strings fits wherever one with
/// shorter borrows is expected.
#[derive(Clone)]
pub enum List<T> {
    /// At most one element.
    Few(Option<T>),
    /// Any number of them.
    Many(Vec<T>),
}

impl<T> List<T> {
    /// No element, and room for `capacity`.
    #[inline]
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity <= 1 {
            Self::Few(None)
        } else {
            Self::Many(Vec::with_capacity(capacity))
        }
    }

    /// Appends an element.
    pub fn push(&mut self, item: T) {
        self.push_mut(item);
    }

    /// Appends an element and gives access to it.
    #[inline]
    pub fn push_mut(&mut self, item: T) -> &mut T {
        if let Self::Few(Some(_)) = self {
            let one = std::mem::take(self);
            *self = Self::Many(one.into_iter().collect());
        }
        match self {
            Self::Few(one) => one.insert(item),
            Self::Many(items) => items.push_mut(item),
        }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::Few(None)
    }
}

impl<T> From<T> for List<T> {
    fn from(item: T) -> Self {
        Self::Few(Some(item))
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Few(one) => one.as_slice(),
            Self::Many(items) => items,
        }
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Few(one) => one.as_mut_slice(),
            Self::Many(items) => items,
        }
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let mut list = Self::with_capacity(items.size_hint().0);
        items.for_each(|item| list.push(item));
        list
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::Few(one) => (one, Vec::new()),
            Self::Many(items) => (None, items),
        };
        one.into_iter().chain(many)
    }
}

impl<'l, T> IntoIterator for &'l List<T> {
    type Item = &'l T;
    type IntoIter = std::slice::Iter<'l, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for List<T> {}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_none_over_one_to_many() {
        let mut list = List::default();
        for count in 0..4 {
            assert_eq!(*list, *(0..count).collect::<Vec<_>>());
            assert!(list.clone().into_iter().eq(0..count));
            assert_eq!(list, (0..count).collect());
            list.push(count);
        }
    }

    #[test]
    fn equality_is_that_of_the_elements() {
        let mut many = List::with_capacity(2);
        many.push(7);
        assert_eq!(many, List::from(7));
        assert_ne!(many, List::default());
    }
}
