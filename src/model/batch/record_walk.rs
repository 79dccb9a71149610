//! A walk over counts and bounds of records that looks at no key, value or header, and takes them in
//! whatever pieces decompression gives.
//!
//! A record that lies within one piece is read at once; one that goes on in the next piece is read
//! byte by byte ([`Straddling`]). So of a batch that expands to a gigabyte nothing is kept.

use super::RecordError;
use super::varint::Cursor;

/// Walks over the *decompressed* records of one batch.
#[derive(Debug)]
pub struct RecordWalk {
    record_count: i32,
    index: i32,
    straddling: Option<Straddling>,
}

/// Bytes that are not the records that the batch's header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the batch: {error}")]
pub struct MalformedRecord {
    /// Position in the batch, from 0.
    pub index: i32,
    /// What is wrong.
    pub error: RecordError,
}

/// What the walk tells of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFront {
    /// Milliseconds from the batch's base timestamp.
    pub timestamp_delta_ms: i64,
    /// Offset from the batch's base offset.
    pub offset_delta: i32,
    /// Its key is not null.
    pub has_key: bool,
}

impl RecordWalk {
    /// Before the first of as many records as the header counts.
    pub fn new(record_count: i32) -> Self {
        Self {
            record_count,
            index: 0,
            straddling: None,
        }
    }

    /// Takes the next bytes of the records, and lets `visit` see each record that ends there, with its
    /// position in the batch. The first error, the walk's or the visitor's, ends it.
    pub fn push<E: From<MalformedRecord>>(
        &mut self,
        piece: &[u8],
        mut visit: impl FnMut(i32, &RecordFront) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = piece;
        while !rest.is_empty() {
            let next = self.next(&mut rest);
            let Some(front) = next.map_err(|error| E::from(self.malformed(error)))? else {
                return Ok(());
            };
            visit(self.index, &front)?;
            self.index += 1;
        }
        Ok(())
    }

    /// Behind the last piece.
    pub fn finish(&self) -> Result<(), MalformedRecord> {
        if self.index < self.record_count {
            return Err(self.malformed(RecordError::Truncated));
        }
        Ok(())
    }

    /// The record that ends first in `rest`; none where it goes on behind it.
    fn next(&mut self, rest: &mut &[u8]) -> Result<Option<RecordFront>, RecordError> {
        if self.index >= self.record_count {
            return Err(RecordError::TrailingRecords(rest.len()));
        }
        if self.straddling.is_none()
            && let Some((front, behind)) = whole_record(rest)?
        {
            *rest = behind;
            return Ok(Some(front));
        }
        let straddling = self.straddling.get_or_insert_default();
        let front = straddling.take(rest)?;
        if front.is_some() {
            self.straddling = None;
        }
        Ok(front)
    }

    fn malformed(&self, error: RecordError) -> MalformedRecord {
        let index = self.index;
        MalformedRecord { index, error }
    }
}

/// The record at the beginning of `bytes` and what follows it; none where it goes on behind them.
fn whole_record(bytes: &[u8]) -> Result<Option<(RecordFront, &[u8])>, RecordError> {
    let mut cursor = Cursor::new(bytes);
    let length = match cursor.varint() {
        Ok(length) => length,
        Err(RecordError::Truncated) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(body) = cursor.bytes(length_of(length)?) else {
        return Ok(None);
    };
    let mut body = Cursor::new(body);
    body.byte()?;
    let timestamp_delta_ms = body.varlong()?;
    let offset_delta = body.varint()?;
    let has_key = skip_nullable(&mut body)?;
    skip_nullable(&mut body)?;
    let header_count = body.varint()?;
    length_of(header_count)?;
    // Each has at least two bytes, so a count that lies ends at the record's end.
    for _ in 0..header_count {
        let key_bytes = length_of(body.varint()?)?;
        body.bytes(key_bytes)?;
        skip_nullable(&mut body)?;
    }
    match body.rest().len() {
        0 => {
            let front = RecordFront {
                timestamp_delta_ms,
                offset_delta,
                has_key,
            };
            Ok(Some((front, cursor.rest())))
        }
        trailing => Err(RecordError::Trailing(trailing)),
    }
}

/// Whether there are bytes, which are skipped, or null.
fn skip_nullable(body: &mut Cursor<'_>) -> Result<bool, RecordError> {
    match body.varint()? {
        -1 => Ok(false),
        claimed => {
            body.bytes(length_of(claimed)?)?;
            Ok(true)
        }
    }
}

/// A record that is cut by the end of a piece, read byte by byte: each piece is gone when the next comes.
#[derive(Debug, Default)]
struct Straddling {
    field: Field,
    number: Number,
    /// Bytes of the record that no field has taken yet; known behind its length.
    left_bytes: usize,
    /// Bytes of the key, value or header that is being skipped.
    skipped_bytes: usize,
    left_headers: i32,
    front: RecordFront,
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
    fn take(&mut self, rest: &mut &[u8]) -> Result<Option<RecordFront>, RecordError> {
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
                self.left_bytes = length_of(number)?;
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
                length_of(number)?;
                self.left_headers = number;
                self.next_header()
            }
            Field::HeaderKeyLength => {
                self.skip(length_of(number)?)?;
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
        self.skip(length_of(claimed)?)?;
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

fn length_of(claimed: i32) -> Result<usize, RecordError> {
    usize::try_from(claimed).map_err(|_| RecordError::Length(claimed))
}
