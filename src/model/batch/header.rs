//! The 61-byte header of a record batch, read in place.
//!
//! ```text
//!  0  base offset          i64   assigned by the broker, outside the CRC
//!  8  batch length         i32   bytes after this field
//! 12  leader epoch         i32   assigned by the broker, outside the CRC
//! 16  magic                i8    2
//! 17  CRC32C               u32   over everything from byte 21 on
//! 21  attributes           i16   0–2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon
//! 23  last offset delta    i32
//! 27  base timestamp       i64
//! 35  max timestamp        i64
//! 43  producer id          i64
//! 51  producer epoch       i16
//! 53  base sequence        i32
//! 57  record count         i32
//! 61  records, compressed as one where the codec says so
//! ```

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        reason = "all positions are constants within the 61 bytes that every view is checked to have"
    )
)]

use super::super::{Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use super::{RecordRef, increment_sequence};

/// Bytes of a batch's fixed header.
pub const HEADER_BYTES: usize = 61;
/// The only record format that exists since Kafka 4.0.
pub const MAGIC: i8 = 2;
/// Bytes before the batch length counts: base offset and the length itself.
const LENGTH_EXCLUDES_BYTES: usize = 12;
const ATTRIBUTES_AT: usize = 21;

/// Why bytes are not a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header's length field claims.
    #[error("record batch is cut short")]
    Truncated,
    /// A length below the fixed header, or negative.
    #[error("record batch length {0} is out of range")]
    Length(i32),
    /// Not format version 2.
    #[error("record batch has magic {0}, only 2 is supported")]
    Magic(i8),
    /// The checksum does not hold.
    #[error("record batch fails its CRC")]
    Crc,
    /// Codec number 5 to 7, or a reserved attribute bit.
    #[error("record batch attributes {0:#06x} are not defined")]
    Attributes(i16),
    /// Record count and last offset delta contradict each other, or are negative.
    #[error("record batch counts {count} records and a last offset delta of {last_offset_delta}")]
    Counts {
        /// The header's record count.
        count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
}

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, per record.
    CreateTime,
    /// The broker: every record has the batch's max timestamp.
    LogAppendTime,
}

/// A record batch whose length, magic and attributes have been checked; the CRC only where asked.
///
/// Reads no further than the batch: [`BatchView::bytes`] is exactly one batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the beginning of `bytes`, which may go on behind it.
    ///
    /// Checks what every reader needs to walk on safely: length, magic, codec, counts not negative.
    /// Zeros do not parse (magic 0).
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let view = Self::framed(bytes)?;
        view.check_header()?;
        Ok(view)
    }

    /// Like [`BatchView::first`], and the CRC must hold.
    pub fn first_verified(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let view = Self::framed(bytes)?;
        if !view.crc_holds() {
            return Err(BatchError::Crc);
        }
        view.check_header()?;
        Ok(view)
    }

    /// The first batch by length and magic alone: what the CRC covers may be anything.
    pub(super) fn framed(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated);
        }
        let magic = bytes[16] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let total_bytes = total_bytes(bytes)?;
        let bytes = bytes.get(..total_bytes).ok_or(BatchError::Truncated)?;
        Ok(Self { bytes })
    }

    /// What the CRC covers is as it was written.
    pub fn crc_holds(&self) -> bool {
        self.crc() == crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..])
    }

    pub(super) fn check_header(&self) -> Result<(), BatchError> {
        let attributes = self.attributes();
        if attributes & 7 > Codec::Zstd as i16 || attributes & !0x7f != 0 {
            return Err(BatchError::Attributes(attributes));
        }
        let (count, last_offset_delta) = (self.record_count(), self.last_offset_delta());
        if count < 0 || last_offset_delta < 0 {
            return Err(BatchError::Counts {
                count,
                last_offset_delta,
            });
        }
        Ok(())
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed as the attributes say.
    pub fn records(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(self.array(0)))
    }

    /// Offset of the last record (kept by compaction even when that record is gone).
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset()
                .0
                .wrapping_add(i64::from(self.last_offset_delta())),
        )
    }

    /// The offset behind the batch.
    pub fn end_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// Epoch of the leader that appended the batch.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(self.array(12)))
    }

    /// The checksum as written.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.array(17))
    }

    /// The attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.array(ATTRIBUTES_AT))
    }

    /// Codec of the records.
    pub fn compression(&self) -> Codec {
        Codec::ALL[(self.attributes() & 7) as usize]
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & 0x08 != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & 0x10 != 0
    }

    /// Holds a marker instead of user records.
    pub fn is_control(&self) -> bool {
        self.attributes() & 0x20 != 0
    }

    /// The base timestamp is a delete horizon (set by the cleaner alone).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & 0x40 != 0
    }

    /// Offset of the last record minus the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.array(23))
    }

    /// Timestamp that the records' deltas count from, in Unix milliseconds.
    pub fn base_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.array(27))
    }

    /// Largest timestamp of the batch, in Unix milliseconds; −1 when it has none.
    pub fn max_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.array(35))
    }

    /// The idempotent producer; −1 without one.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(self.array(43)))
    }

    /// The producer's epoch; −1 without one.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(self.array(51)))
    }

    /// Sequence of the first record; −1 without a producer.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.array(53))
    }

    /// Written by an idempotent or transactional producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id().0 > -1
    }

    /// Sequence of the last record, which may have wrapped; −1 without a producer.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            base if base < 0 => base,
            base => increment_sequence(base, self.last_offset_delta()),
        }
    }

    /// Offset of one of the batch's records.
    pub fn offset_of(&self, record: &RecordRef<'_>) -> Offset {
        Offset(
            self.base_offset()
                .0
                .wrapping_add(i64::from(record.offset_delta)),
        )
    }

    /// Timestamp of one of the batch's records, in Unix milliseconds; −1 when it has none.
    pub fn timestamp_ms_of(&self, record: &RecordRef<'_>) -> i64 {
        match self.timestamp_type() {
            TimestampType::CreateTime => self
                .base_timestamp_ms()
                .wrapping_add(record.timestamp_delta_ms),
            TimestampType::LogAppendTime => self.max_timestamp_ms(),
        }
    }

    /// Number of records (0 in a batch that compaction emptied).
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.array(57))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

/// Writes what the broker assigns into a batch: both fields lie outside the CRC.
///
/// `batch` must begin with a checked batch header.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

fn total_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[8..12]);
    let length = i32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(after) if after >= HEADER_BYTES - LENGTH_EXCLUDES_BYTES => {
            Ok(after + LENGTH_EXCLUDES_BYTES)
        }
        _ => Err(BatchError::Length(length)),
    }
}
