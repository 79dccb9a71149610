//! The bytes of one file: what the medium holds, and what has not reached it for certain.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cut::Fates;
use crate::rt::BLOCK_BYTES;

/// Unit that is written whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
const ALL_SECTORS: u8 = u8::MAX;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A block's bytes; `None` is zeros, so that holes and zeroed files cost nothing.
type Page = Option<Rc<[u8]>>;

/// Blocks by number. A block that is in neither map is zeros.
#[derive(Debug, Default)]
pub(super) struct Content {
    medium: BTreeMap<u64, Rc<[u8]>>,
    pending: BTreeMap<u64, Vec<Change>>,
    /// Blocks with a [`Change::Cut`] among their changes.
    has_cut: BTreeSet<u64>,
}

/// Something that happened to a block and is not durable, oldest first in its list.
#[derive(Clone, Debug)]
enum Change {
    Write(Version),
    /// The file was cut so that this block keeps its first bytes only.
    Cut {
        keep_bytes: usize,
        seq: u64,
    },
}

#[derive(Clone, Debug)]
struct Version {
    seq: u64,
    page: Page,
    /// Bit per sector that was written; the rest of the page is what stood there.
    sectors: u8,
    place: Place,
}

/// Where a completed write waits for the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The kernel's page cache: only a sync of the file brings it further.
    PageCache,
    /// The device's volatile cache: any flush of the device brings it to the medium.
    DeviceCache,
    /// A sync of it failed; no later sync can be trusted with it.
    Abandoned,
}

impl Content {
    /// Copies out what a reader of the running system sees.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) {
        for_blocks(offset, into.len(), |block, within, range| {
            let page = self.current(block);
            into[range.clone()].copy_from_slice(&bytes_of(&page)[within..within + range.len()]);
        });
    }

    /// Puts a completed write in: visible, not durable.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], seq: u64, place: Place) {
        for_blocks(offset, bytes.len(), |block, within, range| {
            self.write_block(block, within, &bytes[range], seq, place);
        });
    }

    fn write_block(&mut self, block: u64, within: usize, bytes: &[u8], seq: u64, place: Place) {
        let page = if bytes.len() == BLOCK_BYTES {
            page_from(bytes)
        } else {
            let mut whole = bytes_of(&self.current(block)).to_vec();
            whole[within..within + bytes.len()].copy_from_slice(bytes);
            page_from(&whole)
        };
        let is_new = !self.medium.contains_key(&block) && !self.pending.contains_key(&block);
        if page.is_none() && is_new {
            return;
        }
        let version = Version {
            seq,
            page,
            sectors: sector_mask(within, bytes.len()),
            place,
        };
        let changes = self.pending.entry(block).or_default();
        changes.push(Change::Write(version));
    }

    /// A write of whole blocks that was in flight when the power went: one more possible state,
    /// somewhere between the others.
    pub(super) fn write_in_flight(
        &mut self,
        offset: u64,
        bytes: &[u8],
        seq: u64,
        fates: &mut Fates,
    ) {
        self.write(offset, bytes, seq, Place::DeviceCache);
        for_blocks(offset, bytes.len(), |block, _, _| {
            if let Some(changes) = self.pending.get_mut(&block) {
                let place = fates.rng().index(changes.len());
                let last = changes.len() - 1;
                if !changes[place..]
                    .iter()
                    .any(|change| matches!(change, Change::Cut { .. }))
                {
                    changes.swap(place, last);
                }
            }
        });
    }

    /// Cuts the visible content to `size` bytes.
    pub(super) fn cut(&mut self, size: u64, seq: u64) {
        let first = size / BLOCK_BYTES as u64;
        let medium = self.medium.range(first..).map(|(block, _)| *block);
        let pending = self.pending.range(first..).map(|(block, _)| *block);
        let blocks: BTreeSet<u64> = medium.chain(pending).collect();
        for block in blocks {
            let keep_bytes = size.saturating_sub(block * BLOCK_BYTES as u64) as usize;
            let changes = self.pending.entry(block).or_default();
            changes.push(Change::Cut { keep_bytes, seq });
            self.has_cut.insert(block);
        }
    }

    /// The cuts up to `seq` are durable.
    pub(super) fn settle_cuts(&mut self, seq: u64) {
        for block in std::mem::take(&mut self.has_cut) {
            self.apply_cuts(block, seq);
            let left = self.pending.get(&block);
            if left.is_some_and(|left| left.iter().any(|c| matches!(c, Change::Cut { .. }))) {
                self.has_cut.insert(block);
            }
        }
    }

    fn apply_cuts(&mut self, block: u64, up_to_seq: u64) {
        let Some(mut changes) = self.pending.remove(&block) else {
            return;
        };
        let is_cut =
            |change: &Change| matches!(change, Change::Cut { seq, .. } if *seq <= up_to_seq);
        while let Some(at) = changes.iter().position(is_cut) {
            let Change::Cut { keep_bytes, .. } = changes.remove(at) else {
                continue;
            };
            if keep_bytes == 0 {
                changes.drain(..at);
                self.medium.remove(&block);
                continue;
            }
            let medium = cut_page(&self.medium.get(&block).cloned(), keep_bytes);
            self.set_medium(block, medium);
            for change in &mut changes[..at] {
                if let Change::Write(version) = change {
                    version.page = cut_page(&version.page, keep_bytes);
                }
            }
        }
        if !changes.is_empty() {
            self.pending.insert(block, changes);
        }
    }

    /// What completed up to `seq` in the blocks that hold this range is durable.
    pub(super) fn settle_range(&mut self, offset: u64, len: usize, seq: u64) {
        for_blocks(offset, len, |block, _, _| {
            self.settle(block, seq, |_| true);
        });
    }

    /// What completed up to `seq` is durable: all of it, or with `device_only` what had left the
    /// page cache.
    pub(super) fn settle_all(&mut self, seq: u64, device_only: bool) {
        let blocks: Vec<u64> = self.pending.keys().copied().collect();
        for block in blocks {
            self.settle(block, seq, |place| {
                place == Place::DeviceCache || (!device_only && place == Place::PageCache)
            });
        }
    }

    /// Moves the changes up to the last one that `counts` to the medium. Stops at a cut: what was
    /// written behind it needs the cut first.
    fn settle(&mut self, block: u64, seq: u64, counts: impl Fn(Place) -> bool) {
        let Some(changes) = self.pending.get(&block) else {
            return;
        };
        let versions = changes.iter().map_while(|change| match change {
            Change::Write(version) => Some(version),
            Change::Cut { .. } => None,
        });
        let settled = versions
            .enumerate()
            .filter(|(_, version)| version.seq <= seq && counts(version.place))
            .last();
        let Some((last, _)) = settled else {
            return;
        };
        let mut changes = self.pending.remove(&block).unwrap_or_default();
        let mut page = self.medium.get(&block).cloned();
        for change in changes.drain(..=last) {
            page = applied(page, &change);
        }
        self.set_medium(block, page);
        if !changes.is_empty() {
            self.pending.insert(block, changes);
        }
    }

    /// After a failed sync: what it should have made durable never will be by another sync.
    pub(super) fn abandon(&mut self, up_to_seq: u64) {
        for change in self.pending.values_mut().flatten() {
            if let Change::Write(version) = change
                && version.seq <= up_to_seq
            {
                version.place = Place::Abandoned;
            }
        }
    }

    /// The power goes: of what is pending, each sector keeps or loses it as the fates decide.
    /// Cuts up to `shape_seq` survived, and the file has `size` bytes then.
    pub(super) fn power_cut(&mut self, size: u64, shape_seq: u64, fates: &mut Fates) {
        self.settle_cuts(shape_seq);
        self.has_cut.clear();
        for (block, changes) in std::mem::take(&mut self.pending) {
            let mut bytes = bytes_of(&self.medium.get(&block).cloned()).to_vec();
            for change in changes {
                match change {
                    // The cut did not survive: nor did blocks that were allocated behind it.
                    Change::Cut { keep_bytes: 0, .. } => break,
                    Change::Cut { .. } => {}
                    Change::Write(version) => survive(&mut bytes, &version, fates),
                }
            }
            self.set_medium(block, page_from(&bytes));
        }
        self.cut(size, 0);
        self.settle_cuts(0);
    }

    /// Whether something is pending.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Blocks that take memory.
    #[cfg(test)]
    pub(super) fn page_count(&self) -> usize {
        self.medium.len() + self.pending.len()
    }

    fn current(&self, block: u64) -> Page {
        let medium = self.medium.get(&block).cloned();
        let Some(changes) = self.pending.get(&block) else {
            return medium;
        };
        changes.iter().fold(medium, applied)
    }

    fn set_medium(&mut self, block: u64, page: Page) {
        match page {
            Some(page) => self.medium.insert(block, page),
            None => self.medium.remove(&block),
        };
    }
}

/// Calls `visit` with each block of a range: number, first byte within it, range of the bytes.
fn for_blocks(offset: u64, len: usize, mut visit: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES as u64) as usize;
        let count = (BLOCK_BYTES - within).min(len - done);
        visit(at / BLOCK_BYTES as u64, within, done..done + count);
        done += count;
    }
}

fn applied(page: Page, change: &Change) -> Page {
    match change {
        Change::Cut { keep_bytes, .. } => cut_page(&page, *keep_bytes),
        Change::Write(version) if version.sectors == ALL_SECTORS => version.page.clone(),
        Change::Write(version) => {
            let mut bytes = bytes_of(&page).to_vec();
            copy_sectors(&mut bytes, bytes_of(&version.page), version.sectors);
            page_from(&bytes)
        }
    }
}

fn survive(bytes: &mut [u8], version: &Version, fates: &mut Fates) {
    let fate = fates.of_block(version.seq);
    copy_sectors(
        bytes,
        bytes_of(&version.page),
        version.sectors & fate.sectors,
    );
    if fate.is_shredded {
        for (sector, part) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
            if version.sectors & (1 << sector) != 0 {
                fates.rng().fill(part);
            }
        }
    }
}

fn copy_sectors(into: &mut [u8], from: &[u8], sectors: u8) {
    for sector in (0..8).filter(|sector| sectors & (1 << sector) != 0) {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        into[range.clone()].copy_from_slice(&from[range]);
    }
}

fn sector_mask(within: usize, len: usize) -> u8 {
    let first = within / SECTOR_BYTES;
    let end = (within + len).div_ceil(SECTOR_BYTES);
    (first..end).fold(0, |mask, sector| mask | 1 << sector)
}

fn cut_page(page: &Page, keep_bytes: usize) -> Page {
    let mut bytes = page.as_ref()?.to_vec();
    bytes[keep_bytes..].fill(0);
    page_from(&bytes)
}

fn bytes_of(page: &Page) -> &[u8] {
    page.as_deref().unwrap_or(&ZEROS)
}

fn page_from(bytes: &[u8]) -> Page {
    (bytes != ZEROS).then(|| Rc::from(bytes))
}
