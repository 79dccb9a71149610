//! The metadata log: the records of each change as one stored group, so that a change is durable as
//! a whole or not at all.

use std::borrow::Borrow;
use std::path::Path;

use crate::cluster::{ApplyError, Image, Record, RecordError};
use crate::log::files::record_log::{RecordLog, RecordLogError, Reserve};
use crate::rt::Runtime;

/// A snapshot replaces the log when that has grown to twice what a snapshot would be, and at least to
/// this. What counts is the image, not the log that a start finds: one that restarts often would
/// otherwise let the log double with every start.
const SNAPSHOT_BYTES_MIN: u64 = 4 << 20;
const LENGTH_BYTES: usize = 4;
/// What is encoded before other tasks have their turn.
const ENCODED_AT_ONCE_BYTES: usize = 16 << 10;

/// The stored metadata of a node.
pub(super) struct MetadataLog<R: Runtime> {
    rt: R,
    log: RecordLog<R>,
    snapshot_at_bytes: u64,
}

/// Why the metadata cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file cannot be read or is damaged.
    #[error(transparent)]
    Log(#[from] RecordLogError),
    /// A record that this version does not understand.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Records that contradict each other.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A group that is cut short.
    #[error("a group of metadata records is cut short")]
    Group,
}

impl<R: Runtime> MetadataLog<R> {
    /// Opens the log in `dir`, and the image that it adds up to.
    pub(super) async fn open(rt: &R, dir: &Path) -> Result<(Self, Image), MetadataError> {
        let (log, groups) = RecordLog::open(rt, dir).await?;
        let mut image = Image::default();
        for group in &groups {
            image = image.apply_all(&decode_group(group)?)?;
        }
        let snapshot_bytes: usize = image.to_records().map(|record| stored_len(&record)).sum();
        let snapshot_at_bytes = SNAPSHOT_BYTES_MIN.max(2 * snapshot_bytes as u64);
        Ok((
            Self {
                rt: rt.clone(),
                log,
                snapshot_at_bytes,
            },
            image,
        ))
    }

    /// Appends records as one group; durable, all of them, when this returns.
    pub(super) async fn append<'r>(
        &mut self,
        records: impl Iterator<Item = &'r Record>,
        reserve: Reserve,
    ) -> Result<(), RecordLogError> {
        let group = encode_group(&self.rt, records).await;
        self.log.append(&group, reserve).await
    }

    /// Replaces the log by the image that it adds up to, when it has become long.
    pub(super) async fn snapshot_when_due(&mut self, image: &Image) -> Result<(), RecordLogError> {
        if self.log.size_bytes() < self.snapshot_at_bytes {
            return Ok(());
        }
        // Whatever comes of it, the next attempt is not before the log has doubled.
        self.snapshot_at_bytes = 2 * self.log.size_bytes();
        let group = encode_group(&self.rt, image.to_records()).await;
        self.log.snapshot(&group).await?;
        self.snapshot_at_bytes = SNAPSHOT_BYTES_MIN.max(2 * self.log.size_bytes());
        Ok(())
    }
}

/// The stored form of a group. Others run between two records: many are long together.
async fn encode_group<R: Runtime>(
    rt: &R,
    records: impl Iterator<Item = impl Borrow<Record>>,
) -> Vec<u8> {
    let mut group = Vec::new();
    let mut paused_at = 0;
    for record in records {
        encode_into(&mut group, record.borrow());
        if group.len() - paused_at > ENCODED_AT_ONCE_BYTES {
            paused_at = group.len();
            rt.yield_now().await;
        }
    }
    group
}

fn encode_into(group: &mut Vec<u8>, record: &Record) {
    let bytes = record.encode();
    group.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    group.extend_from_slice(&bytes);
}

fn stored_len(record: &Record) -> usize {
    LENGTH_BYTES + record.encode().len()
}

fn decode_group(mut group: &[u8]) -> Result<Vec<Record>, MetadataError> {
    let mut records = Vec::new();
    while !group.is_empty() {
        let (length, rest) = group
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(MetadataError::Group)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (record, rest) = rest.split_at_checked(length).ok_or(MetadataError::Group)?;
        records.push(Record::decode(record)?);
        group = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProducerId;

    #[test]
    fn groups_come_back_whole_or_not_at_all() {
        let records = [
            Record::ClusterCreated {
                cluster_id: "c".into(),
            },
            Record::ProducerIdsAllocated {
                next: ProducerId(1000),
            },
        ];
        let mut group = Vec::new();
        records
            .iter()
            .for_each(|record| encode_into(&mut group, record));
        assert_eq!(decode_group(&group).unwrap(), records);
        for end in 1..group.len() {
            if let Ok(part) = decode_group(&group[..end]) {
                assert_eq!(part, records[..1], "cut at {end}");
            }
        }
        assert!(decode_group(&[255; 9]).is_err());
    }
}
