//! A record that is cut by the end of a piece, read byte by byte: each piece is gone when the next comes.

use super::RecordError;
use super::check_records::Front;

/// Where reading stands within the record.
#[derive(Debug, Default)]
pub(super) struct Straddling {
    field: Field,
    number: Number,
    /// Bytes of the record that no field has taken yet; known behind its length.
    left_bytes: usize,
    /// Bytes of the key, value or header that is being skipped.
    skipped_bytes: usize,
    left_headers: i32,
    front: Front,
}

/// The field whose next byte comes.
#[derive(Clone, Copy, Debug, Default)]
enum Field {
    #[default]
    Length,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
    Done,
}

/// A variable-length integer as far as it has been read.
#[derive(Debug, Default)]
struct Number {
    value: u64,
    read_bytes: u32,
}

impl Straddling {
    /// Takes what is the record's from `rest`; gives its front when it is complete.
    pub(super) fn take(&mut self, rest: &mut &[u8]) -> Result<Option<Front>, RecordError> {
        loop {
            let skipped = self.skipped_bytes.min(rest.len());
            *rest = rest.get(skipped..).unwrap_or_default();
            self.skipped_bytes -= skipped;
            if self.skipped_bytes == 0 && matches!(self.field, Field::Done) {
                return match self.left_bytes {
                    0 => Ok(Some(self.front)),
                    trailing => Err(RecordError::Trailing(trailing)),
                };
            }
            let Some((byte, behind)) = rest.split_first() else {
                return Ok(None);
            };
            *rest = behind;
            self.byte(*byte)?;
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), RecordError> {
        if !matches!(self.field, Field::Length) {
            self.left_bytes = self
                .left_bytes
                .checked_sub(1)
                .ok_or(RecordError::Truncated)?;
        }
        let max_bytes = match self.field {
            Field::Attributes => {
                self.field = Field::TimestampDelta;
                return Ok(());
            }
            Field::TimestampDelta => 10,
            _ => 5,
        };
        match self.number.push(byte, max_bytes)? {
            Some(number) => self.field_is_read(number),
            None => Ok(()),
        }
    }

    fn field_is_read(&mut self, number: i64) -> Result<(), RecordError> {
        if let Field::TimestampDelta = self.field {
            self.front.timestamp_delta_ms = number;
            self.field = Field::OffsetDelta;
            return Ok(());
        }
        let number = i32::try_from(number).map_err(|_| RecordError::Varint)?;
        self.field = match self.field {
            Field::Length => {
                self.left_bytes = length(number)?;
                Field::Attributes
            }
            Field::OffsetDelta => {
                self.front.offset_delta = number;
                Field::KeyLength
            }
            Field::KeyLength => {
                self.front.has_key = self.skip_nullable(number)?;
                Field::ValueLength
            }
            Field::ValueLength => {
                self.skip_nullable(number)?;
                Field::HeaderCount
            }
            Field::HeaderCount => {
                length(number)?;
                self.left_headers = number;
                self.next_header()
            }
            Field::HeaderKeyLength => {
                self.skip(length(number)?)?;
                Field::HeaderValueLength
            }
            Field::HeaderValueLength => {
                self.skip_nullable(number)?;
                self.left_headers -= 1;
                self.next_header()
            }
            Field::Attributes | Field::TimestampDelta | Field::Done => Field::Done,
        };
        Ok(())
    }

    fn next_header(&self) -> Field {
        match self.left_headers {
            0 => Field::Done,
            _ => Field::HeaderKeyLength,
        }
    }

    fn skip_nullable(&mut self, claimed: i32) -> Result<bool, RecordError> {
        if claimed == -1 {
            return Ok(false);
        }
        self.skip(length(claimed)?)?;
        Ok(true)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), RecordError> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or(RecordError::Truncated)?;
        self.skipped_bytes = bytes;
        Ok(())
    }
}

impl Number {
    /// Takes a byte; gives the zigzag number when it was the last, and begins anew.
    fn push(&mut self, byte: u8, max_bytes: u32) -> Result<Option<i64>, RecordError> {
        // The tenth byte has room for one bit of 64.
        if self.read_bytes == 9 && byte > 1 {
            return Err(RecordError::Varint);
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.read_bytes);
        self.read_bytes += 1;
        if byte < 0x80 {
            let zigzag = std::mem::take(self).value;
            if max_bytes == 5 && zigzag > u64::from(u32::MAX) {
                return Err(RecordError::Varint);
            }
            return Ok(Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)));
        }
        if self.read_bytes == max_bytes {
            return Err(RecordError::Varint);
        }
        Ok(None)
    }
}

fn length(claimed: i32) -> Result<usize, RecordError> {
    usize::try_from(claimed).map_err(|_| RecordError::Length(claimed))
}
