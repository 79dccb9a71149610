//! Values that are one of a few words.

use super::key::ConfigType;
use super::value::{ConfigValue, parse_bytes, words};
use crate::model::Codec;

macro_rules! word_enum {
    (
        $(#[$meta:meta])* $name:ident, $what:literal;
        $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The word in configurations.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl ConfigValue for $name {
            const TYPE: ConfigType = ConfigType::String;

            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err(concat!("must be ", $what).to_string()),
                }
            }

            fn text(&self) -> Option<String> {
                Some(self.as_str().to_string())
            }
        }
    };
}

word_enum! {
    /// When a record batch counts as safe (`src/manual/durability.rs`).
    Durability, "fsync, written or memory";
    /// The journal write is durable: survives power loss.
    Fsync = "fsync",
    /// The direct journal write has completed: survives a crash of the process or the kernel.
    Written = "written",
    /// The batch is in memory: survives nothing.
    Memory = "memory",
}

word_enum! {
    /// How a write is made durable (`src/manual/durability.rs`).
    DurableWrites, "dsync or flush";
    /// With RWF_DSYNC.
    Dsync = "dsync",
    /// With a flush of the file behind it.
    Flush = "flush",
}

/// `compression.type`: how the broker stores record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As they came.
    Producer,
    /// With this codec, whichever they came with.
    Codec(Codec),
}

/// What `compression.type` calls [`Codec::None`].
const UNCOMPRESSED: &str = "uncompressed";

impl ConfigValue for CompressionType {
    const TYPE: ConfigType = ConfigType::String;

    fn from_text(text: &str) -> Result<Self, String> {
        match Codec::from_name(text).filter(|codec| *codec != Codec::None) {
            Some(codec) => Ok(Self::Codec(codec)),
            None if text == "producer" => Ok(Self::Producer),
            None if text == UNCOMPRESSED => Ok(Self::Codec(Codec::None)),
            None => Err("must be producer, uncompressed, gzip, snappy, lz4 or zstd".into()),
        }
    }

    fn text(&self) -> Option<String> {
        let name = match self {
            Self::Producer => "producer",
            Self::Codec(Codec::None) => UNCOMPRESSED,
            Self::Codec(codec) => codec.name(),
        };
        Some(name.into())
    }
}

word_enum! {
    /// Which time a record carries.
    TimestampType, "CreateTime or LogAppendTime";
    /// The producer's.
    CreateTime = "CreateTime",
    /// The broker's at the append.
    LogAppendTime = "LogAppendTime",
}

/// What happens to old records. Compaction does not exist yet, so there is one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Segments are deleted by age and size.
    Delete,
}

impl ConfigValue for CleanupPolicy {
    const TYPE: ConfigType = ConfigType::List;

    fn from_text(text: &str) -> Result<Self, String> {
        let policies: Vec<_> = words(text).collect();
        match policies.as_slice() {
            ["delete"] => Ok(Self::Delete),
            many if many.contains(&"compact") => {
                Err("must be delete: compaction does not exist yet".into())
            }
            _ => Err("must be delete".into()),
        }
    }

    fn text(&self) -> Option<String> {
        Some("delete".into())
    }
}

/// `corelane.shards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// As many as the machine has processors for.
    Auto,
    /// This many.
    Count(u16),
}

impl Shards {
    /// Broker ids stay within the positive 32-bit numbers and ports within 16 bits far beyond this.
    pub const MAX: u16 = 1024;
}

impl ConfigValue for Shards {
    const TYPE: ConfigType = ConfigType::String;

    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(count) if (1..=Self::MAX).contains(&count) => Ok(Self::Count(count)),
            _ => Err(format!("must be auto or from 1 to {}", Self::MAX)),
        }
    }

    fn text(&self) -> Option<String> {
        Some(match self {
            Self::Auto => "auto".into(),
            Self::Count(count) => count.to_string(),
        })
    }
}

/// `corelane.memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A share of what the machine or its cgroup has.
    Auto,
    /// This many bytes for all shards together.
    Bytes(u64),
}

impl Memory {
    /// The least that one shard works with.
    pub const SHARD_BYTES_MIN: u64 = 64 << 20;
}

impl ConfigValue for Memory {
    const TYPE: ConfigType = ConfigType::String;

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match parse_bytes(text) {
            Some(bytes) if bytes >= Self::SHARD_BYTES_MIN => Ok(Self::Bytes(bytes)),
            Some(_) => Err("must be at least 64M".into()),
            None => Err("must be auto or a size such as 8G, 512M or 1073741824".into()),
        }
    }

    fn text(&self) -> Option<String> {
        Some(match self {
            Self::Auto => "auto".into(),
            Self::Bytes(bytes) => bytes.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_size() {
        assert_eq!(
            Memory::from_text("8G").map(|m| m.text()),
            Ok(Some("8589934592".into()))
        );
    }

    #[test]
    fn batches_are_stored_as_they_came_or_with_a_codec() {
        let words = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
        for word in words {
            let text = CompressionType::from_text(word).map(|kind| kind.text());
            assert_eq!(text, Ok(Some(word.into())));
        }
        assert!(CompressionType::from_text("none").is_err());
    }

    #[test]
    fn compaction_is_refused_by_name() {
        let error = CleanupPolicy::from_text("delete, compact").expect_err("refused");
        assert!(error.contains("compaction does not exist yet"));
        assert_eq!(
            CleanupPolicy::from_text(" delete "),
            Ok(CleanupPolicy::Delete)
        );
    }

    #[test]
    fn shards_are_few() {
        assert_eq!(Shards::from_text("auto"), Ok(Shards::Auto));
        assert_eq!(Shards::from_text("3"), Ok(Shards::Count(3)));
        assert!(Shards::from_text("0").is_err());
        assert!(Shards::from_text("1025").is_err());
    }
}
