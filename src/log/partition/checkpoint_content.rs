//! What a checkpoint says: for each partition of a shard where it stood at one moment.
//!
//! ```text
//! version u16, journal start (64 bytes, its own encoding), count u32, then per partition, big-endian:
//!     topic id u128, index i32, topic name (u16 length), flags u8 (1: offline reason follows)
//!     [offline reason (u16 length)]
//!     log start i64
//!     segment-durable boundary: offset i64, segment i64, byte u64; moved: segment i64, byte u64
//!     end boundary: offset i64, segment i64, byte u64     what follows describes all below it
//!     epochs: count u32, then epoch i32, start offset i64 each
//!     segments, oldest first, the active one last: count u32, then base, end, size, first timestamp,
//!         max timestamp, its offset, created: 8 bytes each
//!     producers: length u32, then `ProducerStates::encode_full`
//! ```
//!
//! Everything is as of the end boundary; recovery replays from exactly there.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::{Buf, BufMut, TryGetError};

use crate::log::journal::JournalStart;
use crate::log::partition::epochs::EpochCache;
use crate::log::partition::producers::{DEFAULT_MAX_PRODUCERS, ProducerStates};
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::position::{Boundary, Position};
use crate::model::{LeaderEpoch, Offset, PartitionId, PartitionIndex, TopicId};

const VERSION: u16 = 2;
const SEGMENT_BYTES: usize = 56;
const EPOCH_BYTES: usize = 12;

/// Why bytes are not a checkpoint's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The bytes end too early.
    #[error("checkpoint is cut short")]
    Truncated,
    /// Written by something newer.
    #[error("checkpoint has version {0}, only {VERSION} is known")]
    Version(u16),
    /// The checksum holds and the content makes no sense.
    #[error("checkpoint is malformed: {0}")]
    Malformed(&'static str),
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
    /// Its partitions.
    pub partitions: Vec<PartitionContent>,
}

/// One partition, as of `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionContent {
    pub id: PartitionId,
    pub topic: String,
    /// Why it cannot be used, until it is repaired.
    pub offline: Option<String>,
    pub log_start: Offset,
    /// End of the last whole batch in segment files.
    pub segment_durable: Boundary,
    /// First byte that is not in a segment file.
    pub moved: Position,
    pub end: Boundary,
    pub epochs: EpochCache,
    /// Complete segments, then the active one.
    pub segments: Vec<SegmentFacts>,
    pub producers: ProducerStates,
}

impl Content {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + 256 * self.partitions.len());
        out.put_u16(VERSION);
        out.put_slice(&self.journal_start.encode());
        out.put_u32(self.partitions.len() as u32);
        for partition in &self.partitions {
            partition.encode(&mut out);
        }
        out
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
            partitions.push(PartitionContent::decode(&mut rest)?);
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

impl PartitionContent {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u128(self.id.topic.0.as_u128());
        out.put_i32(self.id.index.0);
        put_text(out, &self.topic);
        out.put_u8(u8::from(self.offline.is_some()));
        if let Some(reason) = &self.offline {
            put_text(out, reason);
        }
        out.put_i64(self.log_start.0);
        put_boundary(out, self.segment_durable);
        out.put_i64(self.moved.segment.0);
        out.put_u64(self.moved.byte);
        put_boundary(out, self.end);
        out.put_u32(self.epochs.entries().len() as u32);
        for entry in self.epochs.entries() {
            out.put_i32(entry.epoch.0);
            out.put_i64(entry.start_offset.0);
        }
        out.put_u32(self.segments.len() as u32);
        for segment in &self.segments {
            put_segment(out, segment);
        }
        let producers = self.producers.encode_full(self.end.offset);
        out.put_u32(producers.len() as u32);
        out.put_slice(&producers);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, ContentError> {
        let id = PartitionId {
            topic: TopicId(uuid::Uuid::from_u128(bytes.try_get_u128()?)),
            index: PartitionIndex(bytes.try_get_i32()?),
        };
        let topic = get_text(bytes)?;
        let offline = match bytes.try_get_u8()? {
            0 => None,
            _ => Some(get_text(bytes)?),
        };
        let log_start = Offset(bytes.try_get_i64()?);
        let segment_durable = get_boundary(bytes)?;
        let moved = Position::new(Offset(bytes.try_get_i64()?), bytes.try_get_u64()?);
        let end = get_boundary(bytes)?;
        let epochs = get_epochs(bytes)?;
        let segments = get_segments(bytes)?;
        let producers = get_producers(bytes, end.offset)?;
        Ok(Self {
            id,
            topic,
            offline,
            log_start,
            segment_durable,
            moved,
            end,
            epochs,
            segments,
            producers,
        })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = text
        .get(..text.floor_char_boundary(usize::from(u16::MAX)))
        .unwrap_or_default();
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn get_text(bytes: &mut &[u8]) -> Result<String, ContentError> {
    let length = usize::from(bytes.try_get_u16()?);
    let (text, rest) = bytes
        .split_at_checked(length)
        .ok_or(ContentError::Truncated)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| ContentError::Malformed("text"))
}

fn put_boundary(out: &mut Vec<u8>, boundary: Boundary) {
    out.put_i64(boundary.offset.0);
    out.put_i64(boundary.at.segment.0);
    out.put_u64(boundary.at.byte);
}

fn get_boundary(bytes: &mut &[u8]) -> Result<Boundary, ContentError> {
    Ok(Boundary {
        offset: Offset(bytes.try_get_i64()?),
        at: Position::new(Offset(bytes.try_get_i64()?), bytes.try_get_u64()?),
    })
}

fn put_segment(out: &mut Vec<u8>, segment: &SegmentFacts) {
    out.put_i64(segment.base_offset.0);
    out.put_i64(segment.end_offset.0);
    out.put_u64(segment.size_bytes);
    out.put_i64(segment.first_timestamp_ms);
    out.put_i64(segment.max_timestamp_ms);
    out.put_i64(segment.max_timestamp_offset.0);
    out.put_i64(segment.created_ms);
}

fn get_segment(bytes: &mut &[u8]) -> Result<SegmentFacts, ContentError> {
    Ok(SegmentFacts {
        base_offset: Offset(bytes.try_get_i64()?),
        end_offset: Offset(bytes.try_get_i64()?),
        size_bytes: bytes.try_get_u64()?,
        first_timestamp_ms: bytes.try_get_i64()?,
        max_timestamp_ms: bytes.try_get_i64()?,
        max_timestamp_offset: Offset(bytes.try_get_i64()?),
        created_ms: bytes.try_get_i64()?,
    })
}

fn get_segments(bytes: &mut &[u8]) -> Result<Vec<SegmentFacts>, ContentError> {
    let count = counted(bytes, SEGMENT_BYTES)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(get_segment(bytes)?);
    }
    match segments.is_empty() {
        true => Err(ContentError::Malformed("no segment")),
        false => Ok(segments),
    }
}

fn get_epochs(bytes: &mut &[u8]) -> Result<EpochCache, ContentError> {
    let mut epochs = EpochCache::default();
    for _ in 0..counted(bytes, EPOCH_BYTES)? {
        epochs.assign(
            LeaderEpoch(bytes.try_get_i32()?),
            Offset(bytes.try_get_i64()?),
        );
    }
    Ok(epochs)
}

fn get_producers(bytes: &mut &[u8], end: Offset) -> Result<ProducerStates, ContentError> {
    let length = counted(bytes, 1)?;
    let (full, rest) = bytes
        .split_at_checked(length)
        .ok_or(ContentError::Truncated)?;
    *bytes = rest;
    match ProducerStates::decode_full(full, DEFAULT_MAX_PRODUCERS) {
        Ok((offset, producers)) if offset == end => Ok(producers),
        _ => Err(ContentError::Malformed("producers")),
    }
}

/// A count of things that take at least `each` bytes.
fn counted(bytes: &mut &[u8], each: usize) -> Result<usize, ContentError> {
    let count = bytes.try_get_u32()? as usize;
    match count <= bytes.remaining() / each {
        true => Ok(count),
        false => Err(ContentError::Truncated),
    }
}
