//! Gathering entries into writes: pure bookkeeping of what fits together.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::format::{BlockSplit, ChangeHead, ENTRY_BYTES, EntryHead, HEADER_BYTES};
use super::{Entry, EventChange, PartitionEvent, Pieces};
use crate::model::{OwnerEpoch, PartitionId};
use crate::rt::{BLOCK_BYTES, Buf};

/// From this length on, an entry's whole blocks are written from where they lie.
const REFERENCE_FROM_BYTES: usize = 64 << 10;

/// An entry, or a part of one, within a group.
#[derive(Debug)]
pub(super) struct Piece {
    pub head: EntryHead,
    pub payload: Pieces,
}

/// What goes out as one write.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub pieces: Vec<Piece>,
    pub tokens: Vec<T>,
    pub inline_bytes: usize,
    pub block_bytes: usize,
    /// Journal space that its entries were promised.
    pub promised_bytes: u64,
}

impl<T> Group<T> {
    fn new(pieces: Vec<Piece>, tokens: Vec<T>) -> Self {
        Self {
            pieces,
            tokens,
            inline_bytes: 0,
            block_bytes: 0,
            promised_bytes: 0,
        }
    }

    /// Length of the write, in blocks.
    pub fn write_bytes(&self) -> usize {
        write_bytes(self.inline_bytes, self.pieces.len(), self.block_bytes)
    }

    fn add(&mut self, piece: Piece, inline_bytes: usize, block_bytes: usize) {
        self.pieces.push(piece);
        self.inline_bytes += inline_bytes;
        self.block_bytes += block_bytes;
    }

    fn fits(&self, inline_bytes: usize, block_bytes: usize, max_write_bytes: usize) -> bool {
        let inline = self.inline_bytes + inline_bytes;
        let blocks = self.block_bytes + block_bytes;
        write_bytes(inline, self.pieces.len() + 1, blocks) <= max_write_bytes
    }
}

fn write_bytes(inline_bytes: usize, entries: usize, block_bytes: usize) -> usize {
    let front = HEADER_BYTES + inline_bytes + entries * ENTRY_BYTES;
    front.next_multiple_of(BLOCK_BYTES) + block_bytes
}

/// What an entry of `payload_bytes` takes at worst: writes of its own, each with a header and a
/// last block that is not full. Its first piece fills up a group that is at most half full, its
/// last is what remains, those between have a write for themselves.
pub(super) fn worst_case_bytes(payload_bytes: usize, max_write_bytes: usize) -> u64 {
    let whole = write_bytes(payload_bytes, 1, 0) as u64;
    if payload_bytes <= max_write_bytes / 2 - 3 * BLOCK_BYTES {
        return whole;
    }
    let more_writes = 1 + payload_bytes / (max_write_bytes - 4 * BLOCK_BYTES);
    whole + (more_writes * 2 * BLOCK_BYTES) as u64
}

/// The groups that wait for their write, oldest first.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    groups: VecDeque<Group<T>>,
    first_sequence: u64,
    bytes: usize,
    max_write_bytes: usize,
    spare: Vec<Vec<Piece>>,
    spare_tokens: Vec<Vec<T>>,
}

impl<T> Gathering<T> {
    pub fn new(max_write_bytes: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            first_sequence: 0,
            bytes: 0,
            max_write_bytes,
            spare: Vec::new(),
            spare_tokens: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Payload bytes gathered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sequence of the write that takes the next entry, if it still fits.
    pub fn last_sequence(&self) -> u64 {
        self.end_sequence().saturating_sub(1)
    }

    /// Sequence after the last group.
    pub fn end_sequence(&self) -> u64 {
        self.first_sequence + self.groups.len() as u64
    }

    pub fn first(&self) -> Option<&Group<T>> {
        self.groups.front()
    }

    /// The oldest group; its write gets the next sequence.
    pub fn take_first(&mut self) -> Option<Group<T>> {
        let group = self.groups.pop_front()?;
        self.first_sequence += 1;
        self.bytes -= group.inline_bytes + group.block_bytes;
        Some(group)
    }

    /// A write without entries took the next sequence.
    pub fn skip_sequence(&mut self) {
        debug_assert!(self.groups.is_empty(), "it comes after what was gathered");
        self.first_sequence += 1;
    }

    /// Keeps the memory of a written group for a later one.
    pub fn recycle(&mut self, mut pieces: Vec<Piece>) {
        pieces.clear();
        self.spare.push(pieces);
    }

    /// The same of its tokens, which were handed back.
    pub fn recycle_tokens(&mut self, mut tokens: Vec<T>) {
        tokens.clear();
        if tokens.capacity() > 0 {
            self.spare_tokens.push(tokens);
        }
    }

    /// Adds `entry`, which was promised space; returns the sequence of its last piece.
    pub fn append(&mut self, entry: Entry<T>, promised_bytes: u64) -> u64 {
        let token = match entry {
            Entry::Event {
                partition,
                owner_epoch,
                event,
                token,
            } => {
                self.append_event((partition, owner_epoch), &event);
                token
            }
            Entry::Data {
                partition,
                owner_epoch,
                leader_epoch,
                segment_base,
                position,
                payload,
                token,
            } => {
                let head = |position, len, blocks| EntryHead::Data {
                    partition,
                    owner_epoch,
                    leader_epoch,
                    segment_base,
                    position,
                    len,
                    blocks,
                };
                self.append_data(position, payload, head);
                token
            }
        };
        if let Some(group) = self.groups.back_mut() {
            group.tokens.push(token);
            group.promised_bytes += promised_bytes;
        }
        self.last_sequence()
    }

    fn append_event(
        &mut self,
        (partition, owner_epoch): (PartitionId, OwnerEpoch),
        event: &PartitionEvent,
    ) {
        let mut payload = Pieces::new();
        let change = match &event.change {
            EventChange::LogStart(log_start) => ChangeHead::LogStart(*log_start),
            EventChange::SegmentsReplaced(bytes) => {
                payload.push(Buf::from_vec(bytes.to_vec()));
                let len = bytes.len() as u32;
                ChangeHead::SegmentsReplaced { len }
            }
        };
        let number = event.number;
        let head = EntryHead::Event {
            partition,
            owner_epoch,
            number,
            change,
        };
        self.append_whole(head, payload, event.payload_bytes(), 0);
    }

    fn append_whole(&mut self, head: EntryHead, payload: Pieces, inline: usize, blocks: usize) {
        let max = self.max_write_bytes;
        let fits = |group: &Group<T>| group.fits(inline, blocks, max);
        if !self.groups.back().is_some_and(fits) {
            self.open_group();
        }
        self.add(Piece { head, payload }, inline, blocks);
    }

    fn append_data(
        &mut self,
        mut position: u64,
        mut payload: Pieces,
        head: impl Fn(u64, u32, bool) -> EntryHead,
    ) {
        loop {
            let len = payload.iter().map(|buf| buf.len()).sum();
            let (inline, blocks) = self.division(position, len, &payload);
            let group_bytes = self.groups.back().map(Group::write_bytes);
            let left = self.max_write_bytes - group_bytes.unwrap_or(BLOCK_BYTES);
            let fits = match self.groups.back() {
                Some(group) => group.fits(inline, blocks, self.max_write_bytes),
                None => write_bytes(inline, 1, blocks) <= self.max_write_bytes,
            };
            if !fits && group_bytes.is_some() && left < self.max_write_bytes / 2 {
                self.open_group();
                continue;
            }
            if fits {
                let head = head(position, len as u32, blocks > 0);
                return self.append_whole(head, payload, inline, blocks);
            }
            let end = position + (left - 2 * BLOCK_BYTES) as u64;
            let cut = (end - end % BLOCK_BYTES as u64 - position) as usize;
            let rest = split_off(&mut payload, cut);
            let (inline, blocks) = self.division(position, cut, &payload);
            let head = head(position, cut as u32, blocks > 0);
            self.append_whole(head, payload, inline, blocks);
            (position, payload) = (position + cut as u64, rest);
        }
    }

    /// How much of an entry is copied and how much is written from where it lies.
    fn division(&self, position: u64, len: usize, payload: &Pieces) -> (usize, usize) {
        let split = BlockSplit::of(position, len);
        let threshold = REFERENCE_FROM_BYTES.min(self.max_write_bytes / 4);
        if split.blocks >= threshold && lies_like_the_segment(position, payload) {
            (split.head + split.tail, split.blocks)
        } else {
            (len, 0)
        }
    }

    fn open_group(&mut self) {
        let pieces = self.spare.pop().unwrap_or_default();
        let tokens = self.spare_tokens.pop().unwrap_or_default();
        self.groups.push_back(Group::new(pieces, tokens));
    }

    fn add(&mut self, piece: Piece, inline: usize, blocks: usize) {
        self.bytes += inline + blocks;
        if let Some(group) = self.groups.back_mut() {
            group.add(piece, inline, blocks);
        }
    }
}

/// Whether every byte's address lies in its block where its segment position does, and pieces meet
/// at block boundaries alone.
fn lies_like_the_segment(mut position: u64, payload: &Pieces) -> bool {
    let block = BLOCK_BYTES as u64;
    let last = payload.len().saturating_sub(1);
    payload.iter().enumerate().all(|(index, buf)| {
        let aligned = buf.as_ptr() as u64 % block == position % block;
        position += buf.len() as u64;
        aligned && (index == last || position.is_multiple_of(block))
    })
}

/// Cuts `payload` after `at` bytes and returns what follows.
fn split_off(payload: &mut Pieces, at: usize) -> Pieces {
    let mut kept = SmallVec::new();
    let mut rest = SmallVec::new();
    let mut left = at;
    for buf in payload.drain(..) {
        let taken = left.min(buf.len());
        left -= taken;
        if taken == buf.len() {
            kept.push(buf);
        } else {
            if taken > 0 {
                kept.push(buf.slice(0..taken));
            }
            rest.push(buf.slice(taken..buf.len()));
        }
    }
    *payload = kept;
    rest
}
