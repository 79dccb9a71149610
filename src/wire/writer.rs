//! Appends one frame to a buffer, leaving out the record bytes that others hold.

use std::ops::Range;

use smallvec::SmallVec;

use super::limits::{MAX_STRING_BYTES, MAX_TAGS_PER_SECTION, Version};
use super::{EncodeError, ErrorCode};

/// Bytes of the length in front of every frame.
const PREFIX_BYTES: usize = 4;

/// Where one frame lies in the buffer that it was appended to, and where record bytes, held
/// elsewhere, belong in between.
#[must_use = "a frame that is not sent leaves its client waiting"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    framing: Range<usize>,
    /// Positions in the buffer before which the records of that number go.
    splices: SmallVec<[usize; 1]>,
    frame_bytes: usize,
    error_count: usize,
}

/// A run of bytes of a frame, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the buffer.
    Framing(Range<usize>),
    /// The records of the n-th [`super::Records::Elsewhere`] of the message.
    Records(usize),
}

impl Encoded {
    /// Bytes to send: prefix, message, and the records that are held elsewhere.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// How many error codes the message tells of.
    pub fn error_count(&self) -> usize {
        self.error_count
    }

    /// The bytes of the buffer that belong to this frame.
    pub fn framing(&self) -> Range<usize> {
        self.framing.clone()
    }

    /// How many record sets must be spliced in.
    pub fn splice_count(&self) -> usize {
        self.splices.len()
    }

    /// The frame as pieces, none of them framing of no bytes.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let ends = self.splices.iter().copied().chain([self.framing.end]);
        let starts = [self.framing.start]
            .into_iter()
            .chain(self.splices.iter().copied());
        starts
            .zip(ends)
            .enumerate()
            .flat_map(|(index, (start, end))| {
                let records = (index > 0).then(|| Piece::Records(index - 1));
                let framing = (start < end).then_some(Piece::Framing(start..end));
                records.into_iter().chain(framing)
            })
    }
}

/// Writes the fields of one message behind what the buffer already holds.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    version: Version,
    splices: SmallVec<[usize; 1]>,
    spliced_bytes: usize,
    too_long: bool,
    error_count: usize,
}

impl<'o> Writer<'o> {
    /// Starts a frame at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>, version: Version) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX_BYTES]);
        Self {
            out,
            start,
            version,
            splices: SmallVec::new(),
            spliced_bytes: 0,
            too_long: false,
            error_count: 0,
        }
    }

    /// The version that is being written.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sets the version of what follows: header and body differ.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Fills in the frame's length. After an error the buffer is as it was before the frame.
    pub fn finish(self) -> Result<Encoded, EncodeError> {
        let framing = self.start..self.out.len();
        let frame_bytes = framing.len() + self.spliced_bytes;
        let prefix = i32::try_from(frame_bytes - PREFIX_BYTES)
            .ok()
            .filter(|_| !self.too_long);
        let place = self
            .out
            .get_mut(self.start..)
            .and_then(|frame| frame.first_chunk_mut());
        match (prefix, place) {
            (Some(prefix), Some(place)) => {
                *place = prefix.to_be_bytes();
                Ok(Encoded {
                    framing,
                    splices: self.splices,
                    frame_bytes,
                    error_count: self.error_count,
                })
            }
            _ => {
                self.out.truncate(self.start);
                Err(EncodeError::TooLong)
            }
        }
    }

    /// Bytes as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// An error code.
    #[inline]
    pub fn error_code(&mut self, code: ErrorCode) {
        self.error_count += usize::from(code != ErrorCode::None);
        self.bytes(&code.code().to_be_bytes());
    }

    /// A string: `i16` length, or compact.
    #[inline]
    pub fn string(&mut self, text: Option<&str>) {
        let len = text.map(str::len);
        if len.is_some_and(|len| len > MAX_STRING_BYTES) {
            self.too_long = true;
            return;
        }
        match len {
            len if self.version.flexible => self.compact_len(len),
            Some(len) => self.bytes(&(len as i16).to_be_bytes()),
            None => self.bytes(&(-1i16).to_be_bytes()),
        }
        self.bytes(text.unwrap_or_default().as_bytes());
    }

    /// The length of bytes or the count of an array: `i32`, or compact.
    #[inline]
    pub fn len(&mut self, len: Option<usize>) {
        if self.version.flexible {
            return self.compact_len(len);
        }
        let len = len.map_or(Ok(-1), i32::try_from);
        self.too_long |= len.is_err();
        self.bytes(&len.unwrap_or(-1).to_be_bytes());
    }

    /// Whether a nullable struct follows.
    pub fn presence(&mut self, present: bool) {
        self.bytes(&(if present { 1i8 } else { -1 }).to_be_bytes());
    }

    /// Bytes held elsewhere go here; their length has been written.
    pub fn splice(&mut self, bytes: usize) {
        self.splices.push(self.out.len());
        self.spliced_bytes += bytes;
    }

    /// An unsigned varint.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// The tagged fields that end every flexible struct; `fields` calls [`Tags::field`] for each.
    #[inline]
    pub fn tagged(&mut self, fields: impl FnOnce(&mut Tags<'_, 'o>)) {
        if !self.version.flexible {
            return;
        }
        let at = self.out.len();
        self.out.push(0);
        let mut tags = Tags {
            writer: self,
            count: 0,
        };
        fields(&mut tags);
        let count = tags.count;
        debug_assert!(u32::from(count) <= MAX_TAGS_PER_SECTION);
        if let Some(place) = self.out.get_mut(at) {
            *place = count;
        }
    }

    fn compact_len(&mut self, len: Option<usize>) {
        let plus_one = len.map_or(Some(0), |len| len.checked_add(1));
        let plus_one = plus_one.and_then(|len| i32::try_from(len).ok());
        self.too_long |= plus_one.is_none();
        self.uvarint(plus_one.unwrap_or(0).unsigned_abs());
    }
}

/// The tagged fields of one struct, written in rising order of their tags.
#[derive(Debug)]
pub struct Tags<'w, 'o> {
    writer: &'w mut Writer<'o>,
    count: u8,
}

impl<'o> Tags<'_, 'o> {
    /// The version that is being written.
    #[inline]
    pub fn version(&self) -> Version {
        self.writer.version
    }

    /// One field: its tag, its size, its value.
    pub fn field(&mut self, tag: u32, write: impl FnOnce(&mut Writer<'o>)) {
        self.count += 1;
        self.writer.uvarint(tag);
        let at = self.writer.out.len();
        write(self.writer);
        let end = self.writer.out.len();
        let size = end - at;
        self.writer.too_long |= i32::try_from(size).is_err();
        // The size goes in front of the value: write it behind, then turn it to the front.
        self.writer.uvarint(size as u32);
        if let Some(field) = self.writer.out.get_mut(at..) {
            field.rotate_left(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEXIBLE: Version = Version {
        number: 0,
        flexible: true,
    };
    const CLASSIC: Version = Version {
        number: 0,
        flexible: false,
    };

    #[test]
    fn frames_append_and_name_their_pieces() {
        let mut out = vec![9];
        let mut writer = Writer::new(&mut out, FLEXIBLE);
        writer.bytes(b"ab");
        writer.splice(10);
        writer.splice(20);
        writer.error_code(ErrorCode::None);
        writer.error_code(ErrorCode::UnknownTopicOrPartition);
        writer.bytes(b"c");
        let encoded = writer.finish().unwrap();
        assert_eq!(out, [9, 0, 0, 0, 37, b'a', b'b', 0, 0, 0, 3, b'c']);
        assert_eq!((encoded.frame_bytes(), encoded.error_count()), (41, 1));
        let pieces: Vec<_> = encoded.pieces().collect();
        let expected = [
            Piece::Framing(1..7),
            Piece::Records(0),
            Piece::Records(1),
            Piece::Framing(7..12),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_string_too_long_leaves_the_buffer_as_it_was() {
        for version in [FLEXIBLE, CLASSIC] {
            let mut out = vec![9];
            let mut writer = Writer::new(&mut out, version);
            writer.string(Some(&"x".repeat(MAX_STRING_BYTES + 1)));
            assert_eq!(writer.finish(), Err(EncodeError::TooLong));
            assert_eq!(out, [9]);
        }
    }

    #[test]
    fn a_frame_too_long_is_an_error() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, FLEXIBLE);
        writer.splice(i32::MAX as usize);
        writer.splice(1);
        assert_eq!(writer.finish(), Err(EncodeError::TooLong));
    }

    #[test]
    fn tagged_fields_carry_their_size() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, FLEXIBLE);
        writer.tagged(|tags| {
            tags.field(1, |writer| writer.bytes(&[7; 200]));
            tags.field(3, |writer| writer.bytes(&[8]));
        });
        let _ = writer.finish();
        assert_eq!(out[4..9], [2, 1, 0xc8, 0x01, 7]);
        assert_eq!(out[out.len() - 4..], [7, 3, 1, 8]);
    }
}
