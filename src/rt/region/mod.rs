//! Memory behind the arena: regions of 2 MiB huge pages, mapped when first touched, cut by a
//! [`Buddy`], registered with the ring page by page, and given back to the system when idle.
#![expect(unsafe_code, reason = "memory is mapped and given back by hand")]

mod buddy;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use self::buddy::{Buddy, REGION_BLOCKS};

/// Alignment, in bytes, of address, length and offset of every operation on a direct file.
pub const BLOCK_BYTES: usize = 4096;

/// A huge page: the unit of mapping, of registration, and of giving back.
const PAGE_BYTES: usize = 2 << 20;
const PAGE_BLOCKS: u32 = (PAGE_BYTES / BLOCK_BYTES) as u32;
const REGION_BYTES: usize = REGION_BLOCKS as usize * BLOCK_BYTES;
/// Idle pages kept for the next request. Touching a fresh one costs its zeroing, about 100 µs.
const RESERVE_PAGES: usize = 8;

/// Makes memory known to the kernel, so that operations on it need not look it up.
pub(super) trait Registrar {
    /// Registers a page for good or until [`Registrar::unregister`]; none when it cannot.
    fn register(&self, start: *mut u8, bytes: usize) -> Option<u16>;
    /// Ends a registration; no operation on the page is in flight.
    fn unregister(&self, slot: u16);
}

/// All memory of an arena.
#[derive(Default)]
pub(super) struct Pool {
    regions: Vec<Region>,
    idle_pages: usize,
    registrar: Option<Rc<dyn Registrar>>,
}

/// Memory given out: exclusively its holder's until [`Pool::put`].
#[derive(Debug)]
pub(super) struct Block {
    pub(super) start: NonNull<u8>,
    pub(super) bytes: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Region {
        region: usize,
        first: u32,
    },
    /// More than a region holds has a mapping of its own.
    Own,
}

struct Region {
    start: NonNull<u8>,
    buddy: Buddy,
    pages: Vec<Page>,
}

#[derive(Clone, Copy, Default)]
struct Page {
    used_blocks: u32,
    /// It may have memory behind it.
    is_touched: bool,
    slot: Option<u16>,
}

impl Pool {
    /// From now on, pages are registered when first used by [`Pool::slot`].
    pub(super) fn set_registrar(&mut self, registrar: Rc<dyn Registrar>) {
        self.registrar = Some(registrar);
    }

    /// Memory of `bytes`, a multiple of the block; none when the system has no address space left.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Block> {
        if bytes > REGION_BYTES {
            return Some(Block {
                start: map(bytes.checked_next_multiple_of(PAGE_BYTES)?)?,
                bytes,
                place: Place::Own,
            });
        }
        let blocks = (bytes / BLOCK_BYTES) as u32;
        let found = self
            .regions
            .iter_mut()
            .enumerate()
            .find_map(|(i, region)| Some((i, region.buddy.take(blocks)?)));
        let (region, first) = match found {
            Some(place) => place,
            None => {
                let mut region = Region::new()?;
                let first = region.buddy.take(blocks)?;
                self.regions.push(region);
                (self.regions.len() - 1, first)
            }
        };
        for (page, part) in parts(first, blocks) {
            let page = &mut self.regions[region].pages[page];
            self.idle_pages -= usize::from(page.is_idle());
            page.used_blocks += part;
            page.is_touched = true;
        }
        Some(Block {
            start: self.regions[region].at(first),
            bytes,
            place: Place::Region { region, first },
        })
    }

    /// Takes memory back.
    pub(super) fn put(&mut self, block: &Block) {
        let Place::Region { region, first } = block.place else {
            unmap(block.start, block.bytes.next_multiple_of(PAGE_BYTES));
            return;
        };
        let blocks = (block.bytes / BLOCK_BYTES) as u32;
        self.regions[region].buddy.put(first, blocks);
        for (number, part) in parts(first, blocks) {
            let page = &mut self.regions[region].pages[number];
            page.used_blocks -= part;
            if page.used_blocks > 0 {
                continue;
            }
            if self.idle_pages < RESERVE_PAGES {
                self.idle_pages += 1;
            } else {
                self.release(region, number);
            }
        }
    }

    /// The registration that covers a block, made now if it is missing; none for blocks beyond
    /// one page, or without a registrar.
    pub(super) fn slot(&mut self, block: &Block) -> Option<u16> {
        let registrar = self.registrar.as_ref()?;
        let Place::Region { region, first } = block.place else {
            return None;
        };
        let last = first + (block.bytes / BLOCK_BYTES) as u32 - 1;
        let number = first / PAGE_BLOCKS;
        if number != last / PAGE_BLOCKS {
            return None;
        }
        let region = &mut self.regions[region];
        let start = region.at(number * PAGE_BLOCKS);
        let page = &mut region.pages[number as usize];
        if page.slot.is_none() {
            page.slot = registrar.register(start.as_ptr(), PAGE_BYTES);
        }
        page.slot
    }

    /// Gives an unused page back to the system. A registration would keep the old memory alive
    /// beside the new, so it goes first.
    fn release(&mut self, region: usize, number: usize) {
        let start = self.regions[region].at(number as u32 * PAGE_BLOCKS);
        let page = std::mem::take(&mut self.regions[region].pages[number]);
        if let (Some(slot), Some(registrar)) = (page.slot, &self.registrar) {
            registrar.unregister(slot);
        }
        // SAFETY: no block covers the page, so nobody has a reference into it; it stays mapped
        // and reads as zeros.
        let released = unsafe {
            rustix::mm::madvise(start.as_ptr().cast(), PAGE_BYTES, Advice::LinuxDontNeed)
        };
        debug_assert!(released.is_ok(), "our own pages can be given back");
    }
}

impl Page {
    fn is_idle(&self) -> bool {
        self.is_touched && self.used_blocks == 0
    }
}

impl Region {
    fn new() -> Option<Self> {
        Some(Self {
            start: map(REGION_BYTES)?,
            buddy: Buddy::new(),
            pages: vec![Page::default(); REGION_BYTES / PAGE_BYTES],
        })
    }

    fn at(&self, block: u32) -> NonNull<u8> {
        debug_assert!(block < REGION_BLOCKS);
        // SAFETY: the block lies within the region.
        unsafe { self.start.add(block as usize * BLOCK_BYTES) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.start, REGION_BYTES);
    }
}

/// A range of blocks as (page, blocks within it).
fn parts(first: u32, blocks: u32) -> impl Iterator<Item = (usize, u32)> {
    let end = first + blocks;
    (first / PAGE_BLOCKS..end.div_ceil(PAGE_BLOCKS)).map(move |page| {
        let from = first.max(page * PAGE_BLOCKS);
        let to = end.min((page + 1) * PAGE_BLOCKS);
        (page as usize, to - from)
    })
}

/// Maps zeroed memory that starts at a huge page, without memory behind it yet.
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let with_margin = bytes.checked_add(PAGE_BYTES)?;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let mapped =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), with_margin, protection, flags) };
    let mapped = NonNull::new(mapped.ok()?.cast::<u8>())?;
    let before = mapped.align_offset(PAGE_BYTES);
    // SAFETY: the aligned part and what lies around it are within the mapping, whose length is
    // `bytes` and one page.
    let (start, rest) = unsafe { (mapped.add(before), mapped.add(before + bytes)) };
    unmap(mapped, before);
    unmap(rest, PAGE_BYTES - before);
    // SAFETY: the range is ours. Without huge pages it works as well, only slower.
    let _ = unsafe {
        rustix::mm::madvise(
            start.as_ptr().cast::<c_void>(),
            bytes,
            Advice::LinuxHugepage,
        )
    };
    Some(start)
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    // SAFETY: callers own the range and have no reference into it.
    let unmapped = unsafe { rustix::mm::munmap(start.as_ptr().cast::<c_void>(), bytes) };
    debug_assert!(unmapped.is_ok(), "our own mappings can be ended");
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn resident_pages(pool: &Pool) -> usize {
        let pages = pool.regions.iter().flat_map(|region| &region.pages);
        pages.filter(|page| page.is_touched).count()
    }

    #[test]
    fn idle_memory_beyond_the_reserve_goes_back() {
        let mut pool = Pool::default();
        let blocks: Vec<_> = (0..40).map(|_| pool.take(PAGE_BYTES).unwrap()).collect();
        assert_eq!((pool.regions.len(), resident_pages(&pool)), (3, 40));
        blocks.iter().for_each(|block| pool.put(block));
        assert_eq!(resident_pages(&pool), RESERVE_PAGES);
        assert_eq!(pool.idle_pages, RESERVE_PAGES);
        let again = pool.take(BLOCK_BYTES).unwrap();
        assert_eq!(pool.idle_pages, RESERVE_PAGES - 1);
        pool.put(&again);
        assert_eq!(pool.idle_pages, RESERVE_PAGES);
    }

    #[test]
    fn more_than_a_region_has_its_own_mapping() {
        let mut pool = Pool::default();
        let block = pool.take(100 << 20).unwrap();
        assert!(pool.regions.is_empty());
        assert_eq!(block.start.as_ptr() as usize % PAGE_BYTES, 0);
        pool.put(&block);
    }

    #[derive(Default)]
    struct Recorder(RefCell<Vec<(usize, bool)>>);

    impl Registrar for Recorder {
        fn register(&self, start: *mut u8, bytes: usize) -> Option<u16> {
            assert_eq!((start as usize % PAGE_BYTES, bytes), (0, PAGE_BYTES));
            self.0.borrow_mut().push((start as usize, true));
            Some(7)
        }

        fn unregister(&self, slot: u16) {
            self.0.borrow_mut().push((usize::from(slot), false));
        }
    }

    #[test]
    fn a_page_is_registered_once_and_no_longer_than_it_has_memory() {
        let mut pool = Pool::default();
        let recorder = Rc::new(Recorder::default());
        pool.set_registrar(recorder.clone());
        let small = [0; 3].map(|_| pool.take(BLOCK_BYTES).unwrap());
        let across = pool.take(2 * PAGE_BYTES).unwrap();
        assert_eq!(small.each_ref().map(|b| pool.slot(b)), [Some(7); 3]);
        assert_eq!(pool.slot(&across), None);
        assert_eq!(recorder.0.borrow().len(), 1);
        let others: Vec<_> = (0..RESERVE_PAGES)
            .map(|_| pool.take(PAGE_BYTES).unwrap())
            .collect();
        others.iter().for_each(|block| pool.put(block));
        small.iter().for_each(|block| pool.put(block));
        assert_eq!(recorder.0.borrow()[1], (7, false));
        pool.put(&across);
    }
}
