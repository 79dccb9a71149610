//! Why bytes are no records.

/// Why bytes are not the records that a batch header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A record, or something in it, goes on behind the end of the bytes around it.
    #[error("record is cut short")]
    Truncated,
    /// An integer has more bytes or bits than its type.
    #[error("record holds an integer that is too long")]
    Varint,
    /// A length or count below 0, or below −1 where null is allowed.
    #[error("record holds a length of {0}")]
    Length(i32),
    /// More bytes than the record's fields take.
    #[error("record is {0} bytes longer than its fields")]
    Trailing(usize),
    /// Bytes are left behind the last record.
    #[error("{0} bytes follow the last record")]
    TrailingRecords(usize),
}
