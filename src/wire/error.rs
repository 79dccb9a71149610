//! Why bytes are not a message, and why a message does not fit into bytes.

/// A frame that breaks the protocol; the connection it came from cannot be trusted further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("message is cut short")]
    Truncated,
    /// A length or count is negative, above its limit, or more than the remaining bytes can hold.
    #[error("length {0} is out of range")]
    Length(i64),
    /// Null where the schema has none in this version.
    #[error("null in a field that is not nullable")]
    Null,
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// A varint has more than five bytes or more than 32 bits.
    #[error("varint is out of range")]
    Varint,
    /// Tags must rise strictly; a section holds at most [`super::MAX_TAGS_PER_SECTION`].
    #[error("tagged fields are out of order, repeated or too many")]
    Tags,
    /// A tagged field is longer or shorter than it says.
    #[error("tagged field {0} does not fill its size")]
    TagSize(u32),
    /// The presence byte of a nullable struct is neither 1 nor −1.
    #[error("presence byte {0} is neither 1 nor -1")]
    Presence(i8),
    /// The arrays would take more memory than a message of this size may.
    #[error("arrays exceed the memory budget of the message")]
    Budget,
    /// Bytes remain behind the last field.
    #[error("{0} bytes remain behind the message")]
    Trailing(usize),
    /// A version that the API does not have.
    #[error("version {0} is not supported")]
    Version(i16),
}

/// A message that the protocol cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string above 32,767 bytes, or an array, record set or frame above 2³¹−1.
    #[error("a field or the frame is longer than the protocol allows")]
    TooLong,
}
