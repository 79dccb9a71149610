//! Names that a topic can have. Its partitions' directories are named by it, so this is also what
//! keeps paths within the data directory.

/// Longest topic name (Kafka's `Topic`): with `-PARTITION` behind it, it still fits a file name.
pub const MAX_TOPIC_NAME_BYTES: usize = 249;

/// The name that no topic can have: its partitions' directories would be those of the shards.
pub const RESERVED_TOPIC_NAME: &str = "shard";

/// Whether a topic can have this name: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`. The
/// reserved name is one, for those who parse names of directories.
pub fn is_topic_name(name: &str) -> bool {
    (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_topic_name_byte)
        && name != "."
        && name != ".."
}

/// Whether topic names may have this byte in them.
pub fn is_topic_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}
