//! A value that counts its changes: whoever wrote down what it was can tell whether it still is that.

use std::ops::{Deref, DerefMut};

/// Every access that may change the value counts as a change; none that only looks does.
///
/// An example. A checkpoint has a partition as of change 7. A batch is appended, and written back: changes
/// 8 and 9, so the next checkpoint says it again. Nothing more happens: the one after that leaves it out.
#[derive(Debug)]
pub struct Tracked<T> {
    value: T,
    changes: u64,
}

impl<T> Tracked<T> {
    /// A value, which has come into being by change 1.
    pub fn new(value: T) -> Self {
        Self { value, changes: 1 }
    }

    /// The number of the last change.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changes += 1;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_it_is_counted() {
        let mut list = Tracked::new(vec![1]);
        assert_eq!((list.len(), list.first(), list.changes()), (1, Some(&1), 1));
        list.push(2);
        assert_eq!((list.changes(), list.as_slice()), (2, &[1, 2][..]));
    }
}
