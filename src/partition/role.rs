//! What this shard is to a partition, and who waits for what of it. The log calls in here whenever a
//! mark has moved, in the same step.

use std::cell::Cell;
use std::rc::Rc;

use super::watermarks::Watermarks;
use crate::log::LogWatcher;
use crate::log::Marks;
use crate::model::Offset;
use crate::rt::{MarkQueue, Watchers};

/// What this shard is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes produce and fetch requests.
    Leader,
    /// Nothing: its log is offline or deleted, or its directory is.
    None,
}

/// The state of a partition above its log.
#[derive(Debug)]
pub(super) struct RoleState {
    pub role: Cell<Role>,
    pub watermarks: Cell<Watermarks>,
    /// Acknowledgements with acks=all. Those with acks=1 wait in the log, for the durable offset.
    pub high_watermark: MarkQueue<Offset>,
    /// Readers, who are told of more to read, another start, a failure.
    pub readers: Rc<Watchers>,
}

impl RoleState {
    /// Of a partition whose log stands at `marks`.
    pub fn new(role: Role, marks: &Marks) -> Result<Self, String> {
        Ok(Self {
            role: Cell::new(role),
            watermarks: Cell::new(Watermarks::default().follow(marks)?),
            high_watermark: MarkQueue::default(),
            readers: Rc::default(),
        })
    }
}

impl LogWatcher for RoleState {
    fn marks_moved(&self, marks: &Marks) -> Result<(), String> {
        let before = self.watermarks.get();
        let now = before.follow(marks)?;
        self.watermarks.set(now);
        if now.high_watermark != before.high_watermark {
            self.high_watermark.reach(now.high_watermark);
        }
        let seen = |at: &Watermarks| (at.log_start, at.last_stable, at.high_watermark);
        if seen(&now) != seen(&before) {
            self.readers.tell();
        }
        Ok(())
    }

    fn failed(&self) {
        self.role.set(Role::None);
        self.high_watermark.release_all();
        self.readers.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::Latch;

    fn marks(durable: i64, log_end: i64) -> Marks {
        Marks {
            durable: Offset(durable),
            log_end: Offset(log_end),
            ..Marks::default()
        }
    }

    fn waiting_for(state: &RoleState, end: i64) -> Latch {
        let latch = Latch::default();
        state.high_watermark.join(Offset(end), &latch);
        latch
    }

    #[test]
    fn an_acknowledgement_waits_for_its_offset_alone() {
        let state = RoleState::new(Role::Leader, &marks(0, 0)).unwrap();
        let latches = [5, 3, 9].map(|end| waiting_for(&state, end));
        state.marks_moved(&marks(4, 10)).unwrap();
        assert_eq!(latches.each_ref().map(Latch::is_held), [true, false, true]);
        state.marks_moved(&marks(5, 10)).unwrap();
        assert_eq!(latches.each_ref().map(Latch::is_held), [false, false, true]);
        assert_eq!(state.watermarks.get().high_watermark, Offset(5));
    }

    #[test]
    fn a_partition_that_goes_lets_its_waiters_go_at_once() {
        let state = RoleState::new(Role::Leader, &marks(0, 0)).unwrap();
        let latch = waiting_for(&state, 5);
        state.failed();
        assert!(!latch.is_held());
        assert_eq!(state.role.get(), Role::None);
    }

    #[test]
    fn marks_out_of_order_are_not_shown() {
        let state = RoleState::new(Role::Leader, &marks(4, 4)).unwrap();
        assert!(state.marks_moved(&marks(3, 4)).is_err());
        assert!(state.marks_moved(&marks(6, 5)).is_err());
        assert_eq!(state.watermarks.get().high_watermark, Offset(4));
    }
}
