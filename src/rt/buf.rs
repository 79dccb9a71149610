//! Block-aligned memory of one shard, and the buffers cut from it.
#![expect(
    unsafe_code,
    reason = "aligned memory that is appended to while its beginning is shared"
)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

use super::region::{BLOCK_BYTES, Block, Pool, Registrar};

/// The shard's memory for I/O: buffers are aligned to [`BLOCK_BYTES`] and bounded in sum. Behind
/// it are huge pages, mapped when first used and given back when idle.
#[derive(Clone)]
pub struct Arena {
    inner: Rc<ArenaInner>,
}

struct ArenaInner {
    limit_bytes: usize,
    aside_bytes: Cell<usize>,
    used_bytes: Cell<usize>,
    pool: RefCell<Pool>,
}

/// The arena has no room for a buffer of the asked size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard's memory is exhausted ({asked_bytes} bytes asked)")]
pub struct ArenaFull {
    /// What was asked for.
    pub asked_bytes: usize,
}

impl Arena {
    /// An arena that gives out at most `limit_bytes` at a time.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            inner: Rc::new(ArenaInner {
                limit_bytes,
                aside_bytes: Cell::new(0),
                used_bytes: Cell::new(0),
                pool: RefCell::default(),
            }),
        }
    }

    /// An empty buffer with room for at least `capacity` bytes, rounded up to whole blocks.
    pub fn alloc(&self, capacity: usize) -> Result<BufMut, ArenaFull> {
        let full = ArenaFull {
            asked_bytes: capacity,
        };
        let rounded = capacity
            .max(1)
            .checked_next_multiple_of(BLOCK_BYTES)
            .ok_or(full)?;
        let used = self.inner.used_bytes.get();
        let taken = used + self.inner.aside_bytes.get();
        if rounded > self.inner.limit_bytes.saturating_sub(taken) {
            return Err(full);
        }
        let block = self.inner.pool.borrow_mut().take(rounded).ok_or(full)?;
        self.inner.used_bytes.set(used + rounded);
        let arena = self.inner.clone();
        Ok(BufMut {
            storage: Rc::new(Storage::Block { block, arena }),
            len: 0,
        })
    }

    /// Leaves `bytes` of the memory to what its users keep elsewhere: buffers take what is left.
    pub fn set_aside(&self, bytes: usize) {
        self.inner.aside_bytes.set(bytes);
    }

    /// Registers memory through `registrar` from now on, as operations use it.
    pub(super) fn set_registrar(&self, registrar: Rc<dyn Registrar>) {
        self.inner.pool.borrow_mut().set_registrar(registrar);
    }

    /// Bytes given out now.
    pub fn used_bytes(&self) -> usize {
        self.inner.used_bytes.get()
    }

    /// Bytes that may be given out at a time, and those set aside.
    pub fn limit_bytes(&self) -> usize {
        self.inner.limit_bytes
    }
}

/// Memory behind buffers. Bytes are initialised from the start; which of them may still change is
/// decided by the single `BufMut` (everything from its length on) and nobody else.
enum Storage {
    Block { block: Block, arena: Rc<ArenaInner> },
    Heap(Vec<u8>),
}

impl Storage {
    fn start(&self) -> *const u8 {
        match self {
            Self::Block { block, .. } => block.start.as_ptr(),
            Self::Heap(bytes) => bytes.as_ptr(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Block { block, .. } => block.bytes,
            Self::Heap(bytes) => bytes.len(),
        }
    }

    fn registration(&self) -> Option<u16> {
        match self {
            Self::Block { block, arena } => arena.pool.borrow_mut().slot(block),
            Self::Heap(_) => None,
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Self::Block { block, arena } = self {
            let used_bytes = arena.used_bytes.get();
            arena.used_bytes.set(used_bytes - block.bytes);
            arena.pool.borrow_mut().put(block);
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (self.used_bytes(), self.limit_bytes());
        write!(f, "Arena({used} of {limit} bytes)")
    }
}

/// A buffer that grows at its end. What it already holds can be shared with [`BufMut::slice`] and
/// never changes again.
pub struct BufMut {
    storage: Rc<Storage>,
    len: usize,
}

impl BufMut {
    /// A buffer without room, where one is needed for a moment.
    pub fn empty() -> Self {
        Self {
            storage: Rc::new(Storage::Heap(Vec::new())),
            len: 0,
        }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it can hold in all.
    pub fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Bytes it can still take.
    pub fn room(&self) -> usize {
        self.capacity() - self.len
    }

    /// The unused rest; its content is unspecified. Count what was filled with [`BufMut::advance`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: bytes from `len` on are initialised, and no `Buf` covers them: slices are cut
        // below `len`, and there is one BufMut per storage.
        unsafe {
            let start = self.storage.start().cast_mut().add(self.len);
            std::slice::from_raw_parts_mut(start, self.room())
        }
    }

    /// Counts the first `count` bytes of the rest as held.
    ///
    /// # Panics
    /// When there is less room.
    pub fn advance(&mut self, count: usize) {
        assert!(
            count <= self.room(),
            "a buffer cannot hold more than its capacity"
        );
        self.len += count;
    }

    /// Appends a copy of `bytes`.
    ///
    /// # Panics
    /// When there is less room.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends zeros.
    ///
    /// # Panics
    /// When there is less room.
    pub fn extend_zeroed(&mut self, count: usize) {
        self.spare_mut()[..count].fill(0);
        self.len += count;
    }

    /// A share of bytes already held.
    ///
    /// # Panics
    /// When the range reaches beyond them.
    pub fn slice(&self, range: Range<usize>) -> Buf {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "only held bytes are shared"
        );
        Buf {
            storage: self.storage.clone(),
            start: range.start,
            end: range.end,
        }
    }

    /// Where the ring knows this memory, if it does.
    pub(super) fn registration(&self) -> Option<u16> {
        self.storage.registration()
    }

    /// All held bytes, for good.
    pub fn freeze(self) -> Buf {
        Buf {
            start: 0,
            end: self.len,
            storage: self.storage,
        }
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: bytes below `len` are initialised and never written again.
        unsafe { std::slice::from_raw_parts(self.storage.start(), self.len) }
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} of {} bytes)", self.len, self.capacity())
    }
}

/// An immutable share of a buffer's bytes. Clones cost a counter.
#[derive(Clone)]
pub struct Buf {
    storage: Rc<Storage>,
    start: usize,
    end: usize,
}

impl Buf {
    /// Ordinary heap bytes as a buffer: for sockets and buffered files (not aligned).
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self {
            start: 0,
            end: bytes.len(),
            storage: Rc::new(Storage::Heap(bytes)),
        }
    }

    /// Where the ring knows this memory, if it does.
    pub(super) fn registration(&self) -> Option<u16> {
        self.storage.registration()
    }

    /// Bytes of the memory that it keeps from being given back, its own among them.
    pub fn memory_bytes(&self) -> usize {
        self.storage.capacity()
    }

    /// Whether both keep the same memory.
    pub fn shares_memory_with(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.storage, &other.storage)
    }

    /// A share of a part, counted from this share's start.
    ///
    /// # Panics
    /// When the range reaches beyond it.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.end - self.start);
        Self {
            storage: self.storage.clone(),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a Buf covers bytes that were held when it was cut; they never change again.
        unsafe {
            std::slice::from_raw_parts(self.storage.start().add(self.start), self.end - self.start)
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_stays_while_the_buffer_grows() {
        let arena = Arena::new(1 << 20);
        let mut buf = arena.alloc(10).unwrap();
        assert_eq!(buf.capacity(), BLOCK_BYTES);
        buf.extend_from_slice(b"hello");
        let share = buf.slice(1..5);
        buf.extend_from_slice(b" world");
        assert_eq!(&*share, b"ello");
        assert_eq!(&*buf, b"hello world");
        assert_eq!(buf.freeze().as_ptr() as usize % BLOCK_BYTES, 0);
    }

    #[test]
    fn the_limit_holds_and_memory_returns() {
        let arena = Arena::new(2 * BLOCK_BYTES);
        let first = arena.alloc(BLOCK_BYTES + 1).unwrap();
        assert!(arena.alloc(1).is_err());
        let share = first.freeze();
        assert!(arena.alloc(1).is_err());
        drop(share);
        assert_eq!(arena.used_bytes(), 0);
        assert!(arena.alloc(usize::MAX).is_err());
        arena.set_aside(BLOCK_BYTES);
        let _first = arena.alloc(1).unwrap();
        assert!(arena.alloc(1).is_err());
    }
}
