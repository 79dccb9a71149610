//! The numbers of the log, each a type of its own.

use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// Position of a record in its partition; the first is 0.
    Offset(i64)
);
id!(
    /// Number of a leader's term over one partition (KIP-101); −1 is "unknown" on the wire.
    LeaderEpoch(i32)
);
id!(
    /// Counts the shards of a node that have owned one partition, from 0: says whose journal and
    /// checkpoint speak for it.
    OwnerEpoch(u32)
);
id!(
    /// Index of a partition within its topic.
    PartitionIndex(i32)
);
id!(
    /// Id of an idempotent producer (KIP-98); −1 is "none" on the wire.
    ProducerId(i64)
);
id!(
    /// Epoch of a producer id; −1 is "none" on the wire.
    ProducerEpoch(i16)
);
id!(
    /// `node.id`: one process on one machine, 0 to 999.
    NodeId(i32)
);
id!(
    /// One core of a node and what it owns.
    ShardIndex(u16)
);
id!(
    /// The id under which a shard is advertised to clients.
    BrokerId(i32)
);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl LeaderEpoch {
    /// "No epoch known", as Kafka writes it.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// A batch without a producer id.
    pub const NONE: Self = Self(-1);
}

impl BrokerId {
    /// How far apart the broker ids of a node's shards lie.
    pub const SHARD_STRIDE: i32 = 1000;

    /// The broker id of a node's shard: `node + 1000 × shard`.
    pub fn of(node: NodeId, shard: ShardIndex) -> Self {
        Self(node.0 + Self::SHARD_STRIDE * i32::from(shard.0))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub uuid::Uuid);

        /// Kafka prints such ids as unpadded URL-safe base64 of the 16 bytes.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                base64::write(f, self.0.as_u128())
            }
        }

        /// Reads exactly what `Display` prints.
        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let bits = base64::read(text).ok_or(NotAnId)?;
                Ok(Self(uuid::Uuid::from_u128(bits)))
            }
        }
    };
}

uuid_id!(
    /// Identity of a topic across deletion and re-creation (KIP-516).
    TopicId
);
uuid_id!(
    /// Identity of a log directory across restarts and remounts (KIP-858).
    DirectoryId
);

/// Text that is no topic or directory id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 characters of unpadded URL-safe base64")]
pub struct NotAnId;

impl TopicId {
    /// The id that stands for "none" on the wire.
    pub const ZERO: Self = Self(uuid::Uuid::nil());
}

/// 128 bits as 22 digits: 21 full ones and one of two bits, shifted to the top of its six.
mod base64 {
    use std::fmt::{self, Write};

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn write(f: &mut fmt::Formatter<'_>, bits: u128) -> fmt::Result {
        for digit in 0..21 {
            f.write_char(ALPHABET[(bits >> (122 - 6 * digit)) as usize & 63] as char)?;
        }
        f.write_char(ALPHABET[((bits & 3) << 4) as usize] as char)
    }

    /// `None` unless it is what `write` writes: the four bits to spare must be zero.
    pub(super) fn read(text: &str) -> Option<u128> {
        let (last, full) = text.as_bytes().split_last()?;
        let last = digit(last)?;
        if full.len() != 21 || last & 15 != 0 {
            return None;
        }
        let full = full
            .iter()
            .try_fold(0, |bits, byte| Some(bits << 6 | digit(byte)?))?;
        Some(full << 2 | last >> 4)
    }

    fn digit(byte: &u8) -> Option<u128> {
        ALPHABET.iter().position(|d| d == byte).map(|at| at as u128)
    }
}

/// One partition of one incarnation of a topic: the key of everything on disk and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index within it.
    pub index: PartitionIndex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_prints_as_kafka_does() {
        let id = TopicId(uuid::Uuid::from_u128(0x00112233_44556677_8899aabb_ccddeeff));
        assert_eq!(id.to_string(), "ABEiM0RVZneImaq7zN3u_w");
        assert_eq!(TopicId::ZERO.to_string(), "A".repeat(22));
    }

    #[test]
    fn topic_id_reads_what_it_prints_and_nothing_else() {
        for bits in [0, 1, 3, u128::MAX, 0x00112233_44556677_8899aabb_ccddeeff] {
            let id = TopicId(uuid::Uuid::from_u128(bits));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "ABEiM0RVZneImaq7zN3u_",
            "ABEiM0RVZneImaq7zN3u_wA",
            "ABEiM0RVZneImaq7zN3u_x",
            "ABEiM0RVZneImaq7zN3u/w",
            "ABEiM0RVZneImaq7zN3u\u{e9}",
        ] {
            assert_eq!(text.parse::<TopicId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn shards_of_a_node_are_a_thousand_apart() {
        assert_eq!(BrokerId::of(NodeId(7), ShardIndex(2)), BrokerId(2007));
    }
}
