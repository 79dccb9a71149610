//! The records of a batch, read in place.
//!
//! ```text
//! length           varint    bytes after this field
//! attributes       i8        no bit is defined
//! timestamp delta  varlong   from the batch's base timestamp
//! offset delta     varint    from the batch's base offset
//! key              varint length, −1 for null, then the bytes
//! value            varint length, −1 for null, then the bytes
//! headers          varint count, each: varint length and key, varint length (−1 for null) and value
//! ```

use super::record_error::RecordError;
use super::varint::Cursor;

/// One record of a batch, borrowed from the batch's decompressed records.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// No bit is defined; stored and returned as sent.
    pub attributes: i8,
    /// Milliseconds from the batch's base timestamp ([`super::BatchView::timestamp_ms_of`]).
    pub timestamp_delta_ms: i64,
    /// Offset from the batch's base offset ([`super::BatchView::offset_of`]).
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; keys may repeat.
    pub headers: Headers<'a>,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// Anything, or null.
    pub value: Option<&'a [u8]>,
}

/// Reads the records of one batch, in order.
///
/// The first error ends it. Bytes that are left over after the announced number of records are an
/// error as well. Nothing is allocated.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left_count: i32,
    is_done: bool,
}

impl<'a> Records<'a> {
    /// `records` are the *decompressed* bytes behind the header, `count` is the header's record count.
    pub fn new(records: &'a [u8], count: i32) -> Self {
        Self {
            cursor: Cursor::new(records),
            left_count: count,
            is_done: false,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        if self.left_count <= 0 {
            self.is_done = true;
            let trailing = self.cursor.rest().len();
            return (trailing > 0).then_some(Err(RecordError::TrailingRecords(trailing)));
        }
        self.left_count -= 1;
        let record = read_record(&mut self.cursor);
        self.is_done = record.is_err();
        Some(record)
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// A record's headers; reading them was tried when the record was read.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left_count: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left_count = self.left_count.checked_sub(1).filter(|left| *left >= 0)?;
        read_header(&mut self.cursor).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left_count = usize::try_from(self.left_count).unwrap_or(0);
        (left_count, Some(left_count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn read_record<'a>(cursor: &mut Cursor<'a>) -> Result<RecordRef<'a>, RecordError> {
    let length = length(cursor.varint()?)?;
    let mut body = Cursor::new(cursor.bytes(length)?);
    Ok(RecordRef {
        attributes: body.byte()? as i8,
        timestamp_delta_ms: body.varlong()?,
        offset_delta: body.varint()?,
        key: nullable_bytes(&mut body)?,
        value: nullable_bytes(&mut body)?,
        headers: read_headers(body)?,
    })
}

/// Headers are the last field: they must end where the record does.
fn read_headers(mut body: Cursor<'_>) -> Result<Headers<'_>, RecordError> {
    let count = body.varint()?;
    length(count)?;
    let headers = Headers {
        cursor: body,
        left_count: count,
    };
    // Each header has at least two bytes, so a count that lies ends at the record's end.
    for _ in 0..count {
        read_header(&mut body)?;
    }
    match body.rest().len() {
        0 => Ok(headers),
        trailing => Err(RecordError::Trailing(trailing)),
    }
}

fn read_header<'a>(cursor: &mut Cursor<'a>) -> Result<Header<'a>, RecordError> {
    let key_length = length(cursor.varint()?)?;
    Ok(Header {
        key: cursor.bytes(key_length)?,
        value: nullable_bytes(cursor)?,
    })
}

fn nullable_bytes<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, RecordError> {
    match cursor.varint()? {
        -1 => Ok(None),
        claimed => cursor.bytes(length(claimed)?).map(Some),
    }
}

fn length(claimed: i32) -> Result<usize, RecordError> {
    usize::try_from(claimed).map_err(|_| RecordError::Length(claimed))
}
