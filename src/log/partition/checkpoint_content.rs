//! What a checkpoint says: for each partition of a shard where it stood at one moment.
//!
//! ```text
//! version u16, journal start (64 bytes, its own encoding), count u32, then per partition, big-endian:
//!     length u32, then its snapshot
//! ```
//!
//! The moments need not be one: each partition's snapshot is as of its own end, and recovery replays
//! from exactly there. The journal start comes before everything that any of them lacks.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::{Buf, BufMut, TryGetError};

use crate::log::journal::JournalStart;
use crate::log::partition::snapshot::{Snapshot, SnapshotError};
use crate::model::PartitionId;

const VERSION: u16 = 4;
const COUNT_AT: usize = 2 + JournalStart::BYTES;
const LENGTH_BYTES: usize = 4;

/// Why bytes are not a checkpoint's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The bytes end too early.
    #[error("checkpoint is cut short")]
    Truncated,
    /// Written by another build.
    #[error("checkpoint has version {0}, only {VERSION} is known")]
    Version(u16),
    /// The checksum holds and the content makes no sense.
    #[error("checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// A partition's part makes no sense.
    #[error("checkpoint: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl From<TryGetError> for ContentError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// One shard's checkpoint.
#[derive(Clone, Debug)]
pub struct Content {
    /// The first journal write that is needed beyond it.
    pub journal_start: JournalStart,
    pub partitions: Vec<Snapshot>,
}

/// The bytes of a checkpoint, or of a change of one, partition by partition: they need not be encoded in one go.
pub struct ContentWriter {
    out: Vec<u8>,
    count: u32,
}

impl ContentWriter {
    /// What one of no partitions takes.
    pub const EMPTY_BYTES: usize = COUNT_AT + LENGTH_BYTES;

    /// Of no partitions yet; room for about so many bytes.
    pub fn new(journal_start: &JournalStart, capacity_bytes: usize) -> Self {
        let mut out = Vec::with_capacity(capacity_bytes);
        out.put_u16(VERSION);
        out.put_slice(&journal_start.encode());
        out.put_u32(0);
        Self { out, count: 0 }
    }

    /// Adds a partition; gives the length of its part.
    pub fn push(&mut self, snapshot: &Snapshot) -> usize {
        let before = self.out.len();
        self.out.put_u32(0);
        snapshot.encode(&mut self.out);
        let length = self.out.len() - before;
        self.put_at(before, (length - LENGTH_BYTES) as u32);
        self.count += 1;
        length
    }

    /// All of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.put_at(COUNT_AT, self.count);
        self.out
    }

    fn put_at(&mut self, at: usize, number: u32) {
        if let Some(field) = self.out.get_mut(at..at + LENGTH_BYTES) {
            field.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// Room for the checkpoints to come, counted before it is needed: whoever adds to what they hold takes it
/// first, so that a checkpoint can always be written, on a full disk as well. What may be added is held
/// first, and taken or let go later.
#[derive(Debug, Default)]
pub struct CheckpointRoom {
    room_bytes: Cell<usize>,
    /// What the next checkpoint says, at most.
    said_bytes: Cell<usize>,
    /// What was taken since the last checkpoint began.
    taken_bytes: Cell<usize>,
    held_bytes: Cell<usize>,
}

impl CheckpointRoom {
    /// Holds room for so many bytes more, if it is there, until they are taken or let go.
    pub fn hold(&self, bytes: usize) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.held_bytes.set(self.held_bytes.get() + bytes);
        }
        fits
    }

    /// Takes so many of the bytes that are held.
    pub fn take_held(&self, bytes: usize) {
        self.let_go(bytes);
        self.said_bytes.set(self.said_bytes.get() + bytes);
        self.taken_bytes.set(self.taken_bytes.get() + bytes);
    }

    /// So many of the bytes that are held will not be needed.
    pub fn let_go(&self, bytes: usize) {
        self.held_bytes
            .set(self.held_bytes.get().saturating_sub(bytes));
    }

    fn fits(&self, bytes: usize) -> bool {
        self.needed_bytes().saturating_add(bytes) <= self.room_bytes.get()
    }

    /// What the next checkpoint needs at most.
    pub fn needed_bytes(&self) -> usize {
        self.said_bytes.get() + self.held_bytes.get()
    }

    /// The slots have so much room, each.
    pub fn set_room(&self, bytes: usize) {
        self.room_bytes.set(bytes);
    }

    /// A checkpoint begins to be taken.
    pub fn begin(&self) {
        self.taken_bytes.set(0);
    }

    /// It was taken, and needs so much at most.
    pub fn end(&self, bytes: usize) {
        self.said_bytes.set(bytes + self.taken_bytes.get());
    }
}

impl Content {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ContentWriter::new(&self.journal_start, 256 + 256 * self.partitions.len());
        for partition in &self.partitions {
            writer.push(partition);
        }
        writer.finish()
    }

    /// What a checkpoint's base says, with the changes behind it, oldest first, which have the same form:
    /// their journal start counts, and their partitions are as they say.
    ///
    /// An example. The base says that the journal is needed from write 10 on, and has partitions 0, 1 and
    /// 2; a change says 40, and has partitions 1 and 3. Together: from 40 on, 0 and 2 as the base has them,
    /// 1 and 3 as the change does. Nothing that 0 and 2 lack comes before 40, as the base has all of them.
    pub fn decode_all<'a>(
        base: &[u8],
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, ContentError> {
        let mut all = Self::decode(base)?;
        let ids = all.partitions.iter().map(Snapshot::id);
        let mut places: BTreeMap<PartitionId, usize> = ids.zip(0..).collect();
        for change in changes {
            let changed = Self::decode(change)?;
            all.journal_start = changed.journal_start;
            for snapshot in changed.partitions {
                match places.get(&snapshot.id()).copied() {
                    Some(place) => all.put(place, snapshot),
                    None => {
                        places.insert(snapshot.id(), all.partitions.len());
                        all.partitions.push(snapshot);
                    }
                }
            }
        }
        Ok(all)
    }

    fn put(&mut self, place: usize, snapshot: Snapshot) {
        if let Some(known) = self.partitions.get_mut(place) {
            *known = snapshot;
        }
    }

    /// Reads what [`Content::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ContentError> {
        let version = bytes.try_get_u16()?;
        if version != VERSION {
            return Err(ContentError::Version(version));
        }
        let (start, mut rest) = bytes
            .split_at_checked(JournalStart::BYTES)
            .ok_or(ContentError::Truncated)?;
        let journal_start =
            JournalStart::decode(start).ok_or(ContentError::Malformed("journal start"))?;
        let count = rest.try_get_u32()?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let length = rest.try_get_u32()? as usize;
            let (snapshot, after) = rest
                .split_at_checked(length)
                .ok_or(ContentError::Truncated)?;
            partitions.push(Snapshot::decode(snapshot)?);
            rest = after;
        }
        match rest.is_empty() {
            true => Ok(Self {
                journal_start,
                partitions,
            }),
            false => Err(ContentError::Malformed("bytes behind the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::files::run::RunId;
    use crate::log::journal::JournalOptions;
    use crate::log::partition::snapshot::tests::example;
    use crate::model::PartitionIndex;

    /// What a run says of these partitions, each by its index and its log start.
    fn content(run: u64, partitions: &[(i32, i64)]) -> Content {
        let run = RunId { number: run, id: 1 };
        let snapshot = |(index, log_start)| {
            let snapshot = example(log_start);
            let index = PartitionIndex(index);
            let id = PartitionId {
                index,
                ..snapshot.id()
            };
            snapshot.renamed(id)
        };
        Content {
            journal_start: JournalOptions::default().first_start(run),
            partitions: partitions.iter().copied().map(snapshot).collect(),
        }
    }

    #[test]
    fn changes_take_the_place_of_what_was_said_before() {
        let base = content(1, &[(0, 1), (1, 1), (2, 1)]).encode();
        let changes = [&[(1, 5), (3, 5)][..], &[(3, 9)], &[]];
        let changes = changes.map(|partitions| content(2, partitions).encode());
        let parts = changes.iter().map(Vec::as_slice);
        let all = Content::decode_all(&base, parts).unwrap();
        let expected = content(2, &[(0, 1), (1, 5), (2, 1), (3, 9)]);
        assert_eq!(all.encode(), expected.encode());
        let cut = changes.iter().filter_map(|change| change.get(1..));
        assert!(Content::decode_all(&base, cut).is_err());
        assert_eq!(content(1, &[]).encode().len(), ContentWriter::EMPTY_BYTES);
    }

    #[test]
    fn room_is_taken_before_it_is_needed() {
        let room = CheckpointRoom::default();
        let take = |bytes| {
            let is_there = room.hold(bytes);
            room.take_held(if is_there { bytes } else { 0 });
            is_there
        };
        room.set_room(1_000);
        assert!(take(600) && take(400));
        assert!(!take(1), "and nothing was taken");
        room.begin();
        room.set_room(2_000);
        assert!(take(300));
        // What was taken while the checkpoint was may not be in it.
        room.end(900);
        assert_eq!(room.needed_bytes(), 1_200);
        assert!(take(800) && !take(1));
    }

    #[test]
    fn what_is_held_is_taken_or_let_go() {
        let room = CheckpointRoom::default();
        room.set_room(1_000);
        assert!(room.hold(600) && !room.hold(401));
        room.take_held(200);
        // The checkpoint says what was taken; what is held stays so.
        room.begin();
        room.end(250);
        assert_eq!(room.needed_bytes(), 650);
        room.let_go(400);
        assert_eq!(room.needed_bytes(), 250);
    }
}
