//! Zigzag variable-length integers (those of Protocol Buffers), read with bounds and written.

use super::record_error::RecordError;

/// Bytes not yet read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, behind) = self.rest.split_first().ok_or(RecordError::Truncated)?;
        self.rest = behind;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, behind) = self
            .rest
            .split_at_checked(length)
            .ok_or(RecordError::Truncated)?;
        self.rest = behind;
        Ok(taken)
    }

    /// A signed integer of up to 32 bits in up to 5 bytes.
    pub(super) fn varint(&mut self) -> Result<i32, RecordError> {
        let zigzag = u32::try_from(self.unsigned(5)?).map_err(|_| RecordError::Varint)?;
        Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    /// A signed integer of up to 64 bits in up to 10 bytes.
    pub(super) fn varlong(&mut self) -> Result<i64, RecordError> {
        let zigzag = self.unsigned(10)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn unsigned(&mut self, max_bytes: u32) -> Result<u64, RecordError> {
        // Nearly every one of them: a short length, a small delta.
        if let [byte @ ..0x80, behind @ ..] = self.rest {
            self.rest = behind;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for index in 0..max_bytes {
            let byte = self.byte()?;
            // The tenth byte has room for one bit of 64.
            if index == 9 && byte > 1 {
                return Err(RecordError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::Varint)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Bytes that [`put_varlong`] writes.
pub(super) fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64, narrow: i32, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varlong_bytes(value));
            put_varint(&mut bytes, narrow);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.varint(), Ok(narrow));
            prop_assert!(cursor.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_read_within_bounds(bytes: Vec<u8>) {
            let (mut narrow, mut wide) = (Cursor::new(&bytes), Cursor::new(&bytes));
            if narrow.varint().is_ok() {
                prop_assert!(bytes.len() - narrow.rest().len() <= 5);
            }
            if wide.varlong().is_ok() {
                prop_assert!(bytes.len() - wide.rest().len() <= 10);
            }
        }
    }

    #[test]
    fn too_wide_is_refused() {
        let widest = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(Cursor::new(&widest).varint(), Ok(i32::MIN));
        for bytes in [[0xff, 0xff, 0xff, 0xff, 0x10], [0x80; 5]] {
            assert_eq!(Cursor::new(&bytes).varint(), Err(RecordError::Varint));
        }
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(Cursor::new(&bytes).varlong(), Ok(i64::MIN));
        bytes[9] = 2;
        assert_eq!(Cursor::new(&bytes).varlong(), Err(RecordError::Varint));
        assert_eq!(Cursor::new(&[0x80]).varint(), Err(RecordError::Truncated));
    }
}
