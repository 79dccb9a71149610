//! Frames: a signed four-byte length, then a message.

use std::ops::Range;

use super::DecodeError;

/// Why a byte stream cannot be cut into frames any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A negative length.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// A frame above the connection's limit (`socket.request.max.bytes`).
    #[error("frame of {len} bytes exceeds the limit of {max_bytes}")]
    TooLarge {
        /// What the prefix says.
        len: usize,
        /// What the connection allows.
        max_bytes: usize,
    },
}

/// Bytes of the length in front of each frame.
pub const PREFIX_BYTES: usize = 4;

/// The length of the message behind a prefix, checked against `max_bytes`.
pub fn message_len(prefix: [u8; PREFIX_BYTES], max_bytes: usize) -> Result<usize, FrameError> {
    let signed = i32::from_be_bytes(prefix);
    let len = usize::try_from(signed).map_err(|_| FrameError::Negative(signed))?;
    if len > max_bytes {
        Err(FrameError::TooLarge { len, max_bytes })
    } else {
        Ok(len)
    }
}

/// The first message of a stream and what follows it; `None` until it is there whole.
#[expect(
    clippy::type_complexity,
    reason = "a message and the rest, once they are there"
)]
pub fn split(stream: &[u8], max_bytes: usize) -> Result<Option<(&[u8], &[u8])>, FrameError> {
    let Some((prefix, rest)) = stream.split_first_chunk() else {
        return Ok(None);
    };
    Ok(rest.split_at_checked(message_len(*prefix, max_bytes)?))
}

/// The correlation id that a response begins with.
pub fn correlation_id(response: &[u8]) -> Result<i32, DecodeError> {
    let id = response.first_chunk().ok_or(DecodeError::Truncated)?;
    Ok(i32::from_be_bytes(*id))
}

/// Where a decoded value's bytes lie in the message that it was decoded from; `None` when they
/// are not of it. For stamping records in place.
pub fn range_within(message: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(message.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= message.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_cut_at_whole_frames() {
        let stream = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0];
        let (message, rest) = split(&stream, 2).unwrap().unwrap();
        assert_eq!(message, [7, 8]);
        let (message, rest) = split(rest, 2).unwrap().unwrap();
        assert_eq!((message, rest), (&[][..], &[0][..]));
        assert_eq!(split(rest, 2), Ok(None));
        assert_eq!(split(&stream[..5], 2), Ok(None));
    }

    #[test]
    fn lengths_are_checked_before_the_message_is_there() {
        assert_eq!(split(&[0xff; 4], 9), Err(FrameError::Negative(-1)));
        assert_eq!(
            split(&[0, 0, 0, 10], 9),
            Err(FrameError::TooLarge {
                len: 10,
                max_bytes: 9
            })
        );
        let max = i32::MAX as usize;
        assert_eq!(message_len([0x7f, 0xff, 0xff, 0xff], max), Ok(max));
    }

    #[test]
    fn parts_are_found_in_their_message() {
        let message = [1, 2, 3, 4];
        assert_eq!(range_within(&message, &message[1..3]), Some(1..3));
        assert_eq!(range_within(&message, &message[4..]), Some(4..4));
        assert_eq!(range_within(&message[..2], &message[1..3]), None);
        assert_eq!(range_within(&message[1..], &message[..2]), None);
    }
}
