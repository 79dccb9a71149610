//! What holds for every message: its version, and bounds of its fields.

/// Tagged fields that one section may hold; Kafka's richest has four (CVE-2026-111115).
pub const MAX_TAGS_PER_SECTION: u32 = 64;

/// Longest string in bytes: the limit of the classic encoding, which Kafka keeps for the compact one.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// Version of a message, and whether it uses the flexible encoding of KIP-482.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The API version.
    pub number: i16,
    /// Compact lengths and tagged fields.
    pub flexible: bool,
}
