//! Buffers that the kernel knows: pages of the arena, pinned and looked up once.

use std::cell::{Cell, RefCell};

use io_uring::IoUring;

use super::Ring;
use crate::rt::region::Registrar;

/// Pages that can be registered at a time (2 MiB each); the rest goes unregistered.
const SLOTS: u16 = 2048;

/// The ring's table of registered pages.
pub(super) struct Slots {
    free: RefCell<Vec<u16>>,
    /// The kernel has no such table, or refused a page; nothing is tried any more.
    is_off: Cell<bool>,
}

impl Slots {
    pub(super) fn new(uring: &IoUring) -> Self {
        let made = uring.submitter().register_buffers_sparse(u32::from(SLOTS));
        if let Err(error) = &made {
            tracing::warn!(%error, "no registered buffers: disk operations cost more CPU");
        }
        Self {
            free: RefCell::new((0..SLOTS).rev().collect()),
            is_off: Cell::new(made.is_err()),
        }
    }
}

impl Registrar for Ring {
    fn register(&self, start: *mut u8, bytes: usize) -> Option<u16> {
        let slots = &self.inner.registered;
        if slots.is_off.get() || self.is_closed() {
            return None;
        }
        let slot = slots.free.borrow_mut().pop()?;
        let Err(error) = update(self, slot, start, bytes) else {
            return Some(slot);
        };
        slots.is_off.set(true);
        tracing::warn!(
            %error,
            "memory cannot be registered with io_uring (memlock limit?): disk operations cost more CPU"
        );
        None
    }

    fn unregister(&self, slot: u16) {
        match update(self, slot, std::ptr::null_mut(), 0) {
            Ok(()) => self.inner.registered.free.borrow_mut().push(slot),
            // The slot keeps the old memory, and is never used again.
            Err(error) => tracing::warn!(%error, "memory cannot be unregistered from io_uring"),
        }
    }
}

/// Has the kernel know a page under a slot's number, or nothing there.
fn update(ring: &Ring, slot: u16, start: *mut u8, bytes: usize) -> std::io::Result<()> {
    let page = libc::iovec {
        iov_base: start.cast(),
        iov_len: bytes,
    };
    let uring = ring.inner.uring.borrow();
    // SAFETY: the page stays mapped at least as long as its arena's blocks, and no operation
    // uses a slot without a block; the kernel holds the memory itself.
    unsafe {
        uring
            .submitter()
            .register_buffers_update(u32::from(slot), &[page], None)
    }
}
