//! A bounded cursor over the bytes of one message.

use super::DecodeError;
use super::limits::{MAX_STRING_BYTES, MAX_TAGS_PER_SECTION, Version};

/// Unknown tagged fields that one message may hold. They are skipped, never kept.
pub const MAX_UNKNOWN_TAGS: u32 = 16_384;
/// Memory that the arrays of a message may take beyond [`BUDGET_FACTOR`] times its size.
const BUDGET_BASE_BYTES: usize = 1 << 20;
const BUDGET_FACTOR: usize = 4;

/// Reads the fields of one message; every length is checked against what remains.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    version: Version,
    /// Bytes of memory that arrays may still take (CVE-2026-111108).
    budget_bytes: usize,
    unknown_tags: u32,
}

impl<'a> Reader<'a> {
    /// A reader over a whole message.
    pub fn new(bytes: &'a [u8], version: Version) -> Self {
        let budget_bytes = bytes
            .len()
            .saturating_mul(BUDGET_FACTOR)
            .saturating_add(BUDGET_BASE_BYTES);
        Self {
            rest: bytes,
            version,
            budget_bytes,
            unknown_tags: 0,
        }
    }

    /// The version that is being read.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the message: bytes that remain are an error.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            remaining => Err(DecodeError::Trailing(remaining)),
        }
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A string that may be null: `i16` length, or compact.
    #[inline]
    pub fn string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let len = if self.version.flexible {
            self.compact_len()?
        } else {
            checked_len(i16::from_be_bytes(self.array()?).into())?
        };
        let Some(len) = len else { return Ok(None) };
        if len > MAX_STRING_BYTES {
            return Err(DecodeError::Length(len as i64));
        }
        let text = str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::Utf8)?;
        Ok(Some(text))
    }

    /// Bytes that may be null: `i32` length, or compact.
    #[inline]
    pub fn byte_string(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        self.len()?.map(|len| self.bytes(len)).transpose()
    }

    /// The count of an array that may be null, charged to the budget.
    ///
    /// `min_wire_bytes` is the least that an element takes on the wire, `memory_bytes` what it
    /// takes once decoded.
    #[inline]
    pub fn count(
        &mut self,
        min_wire_bytes: usize,
        memory_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.len()? else {
            return Ok(None);
        };
        let fits = count
            .checked_mul(min_wire_bytes)
            .is_some_and(|bytes| bytes <= self.rest.len());
        if !fits {
            return Err(DecodeError::Length(count as i64));
        }
        self.budget_bytes = count
            .checked_mul(memory_bytes)
            .and_then(|bytes| self.budget_bytes.checked_sub(bytes))
            .ok_or(DecodeError::Budget)?;
        Ok(Some(count))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let [first] = self.array()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        self.long_uvarint(first)
    }

    /// Whether a nullable struct follows.
    pub fn presence(&mut self) -> Result<bool, DecodeError> {
        match i8::from_be_bytes(self.array()?) {
            1 => Ok(true),
            -1 => Ok(false),
            other => Err(DecodeError::Presence(other)),
        }
    }

    /// The tagged fields that end every flexible struct.
    ///
    /// `known` is called with each tag in turn; it reads the value and returns true, or returns
    /// false to have it skipped.
    #[inline]
    pub fn tagged<T>(
        &mut self,
        target: &mut T,
        known: impl FnMut(&mut T, u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.version.flexible {
            return Ok(());
        }
        match self.uvarint()? {
            0 => Ok(()),
            count => self.tag_section(count, target, known),
        }
    }

    fn tag_section<T>(
        &mut self,
        count: u32,
        target: &mut T,
        mut known: impl FnMut(&mut T, u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if count > MAX_TAGS_PER_SECTION {
            return Err(DecodeError::Tags);
        }
        let mut next_tag = 0;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if u64::from(tag) < next_tag {
                return Err(DecodeError::Tags);
            }
            next_tag = u64::from(tag) + 1;
            let size = self.uvarint()? as usize;
            let value = self.bytes(size)?;
            let behind = std::mem::replace(&mut self.rest, value);
            if !known(target, tag, self)? {
                self.skip_unknown_tag()?;
            } else if !self.rest.is_empty() {
                return Err(DecodeError::TagSize(tag));
            }
            self.rest = behind;
        }
        Ok(())
    }

    fn skip_unknown_tag(&mut self) -> Result<(), DecodeError> {
        self.unknown_tags += 1;
        if self.unknown_tags > MAX_UNKNOWN_TAGS {
            Err(DecodeError::Tags)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn len(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.version.flexible {
            self.compact_len()
        } else {
            checked_len(i32::from_be_bytes(self.array()?).into())
        }
    }

    /// Compact lengths are stored plus one, so that zero can be null.
    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    #[cold]
    fn long_uvarint(&mut self, first: u8) -> Result<u32, DecodeError> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }
}

/// Classic lengths are signed; only −1 is null.
#[inline]
fn checked_len(len: i64) -> Result<Option<usize>, DecodeError> {
    match len {
        -1 => Ok(None),
        len => usize::try_from(len)
            .map(Some)
            .map_err(|_| DecodeError::Length(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEXIBLE: Version = Version {
        number: 0,
        flexible: true,
    };

    fn uvarint(bytes: &[u8]) -> Result<u32, DecodeError> {
        Reader::new(bytes, FLEXIBLE).uvarint()
    }

    #[test]
    fn varints_have_32_bits_and_five_bytes() {
        assert_eq!(uvarint(&[0x7f]), Ok(127));
        assert_eq!(uvarint(&[0x80, 0x01]), Ok(128));
        assert_eq!(uvarint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(
            uvarint(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
            Err(DecodeError::Varint)
        );
        assert_eq!(
            uvarint(&[0xff, 0xff, 0xff, 0xff, 0x8f, 0x01]),
            Err(DecodeError::Varint)
        );
        assert_eq!(uvarint(&[0x80]), Err(DecodeError::Truncated));
    }

    fn tags(bytes: &[u8]) -> Result<Vec<u32>, DecodeError> {
        let mut seen = Vec::new();
        Reader::new(bytes, FLEXIBLE).tagged(&mut seen, |seen, tag, reader| {
            seen.push(tag);
            match tag {
                0 => reader.array::<2>().map(|_| true),
                _ => Ok(false),
            }
        })?;
        Ok(seen)
    }

    #[test]
    fn tags_rise_and_fill_their_size() {
        assert_eq!(tags(&[2, 0, 2, 7, 7, 5, 1, 9]), Ok(vec![0, 5]));
        assert_eq!(tags(&[2, 5, 0, 5, 0]), Err(DecodeError::Tags));
        assert_eq!(tags(&[2, 5, 0, 4, 0]), Err(DecodeError::Tags));
        assert_eq!(tags(&[1, 0, 3, 7, 7, 7]), Err(DecodeError::TagSize(0)));
        assert_eq!(tags(&[1, 0, 1, 7]), Err(DecodeError::Truncated));
        assert_eq!(tags(&[65]), Err(DecodeError::Tags));
    }

    #[test]
    fn unknown_tags_are_bounded_over_the_message() {
        let mut reader = Reader::new(&[0; 4], FLEXIBLE);
        reader.unknown_tags = MAX_UNKNOWN_TAGS;
        assert_eq!(reader.skip_unknown_tag(), Err(DecodeError::Tags));
    }

    #[test]
    fn counts_are_bounded_by_bytes_and_by_memory() {
        let classic = Version {
            number: 0,
            flexible: false,
        };
        let count = |bytes: &[u8], wire, memory| Reader::new(bytes, classic).count(wire, memory);
        assert_eq!(count(&[0xff; 4], 1, 1), Ok(None));
        assert_eq!(count(&[0, 0, 0, 2, 9, 9], 1, 1), Ok(Some(2)));
        assert_eq!(
            count(&[0, 0, 0, 2, 9, 9], 2, 1),
            Err(DecodeError::Length(2))
        );
        assert_eq!(
            count(&[0, 0, 0, 2, 9, 9], 1, 1 << 20),
            Err(DecodeError::Budget)
        );
        assert_eq!(
            count(&[0x80, 0, 0, 0], 1, 1),
            Err(DecodeError::Length(i32::MIN.into()))
        );
    }
}
