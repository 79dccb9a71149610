//! Names, numbers and levels of the codecs.

use std::fmt;

/// A codec of record batches, numbered as in a batch's attributes. Not compressed is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Codec {
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of this number; `None` for 0 (not compressed) and for what is not defined.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as u8 == number)
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The level as set with `compression.gzip.level`, `compression.lz4.level` and
    /// `compression.zstd.level` (KIP-390); `None` where Kafka refuses it.
    ///
    /// lz4's level is accepted and has no effect: only the fast mode exists here. snappy has none,
    /// whatever is given means the same.
    pub fn level(self, level: i32) -> Option<Level> {
        let in_range = match self {
            Self::Gzip => level == -1 || (1..=9).contains(&level),
            Self::Snappy => true,
            Self::Lz4 => (1..=17).contains(&level),
            Self::Zstd => (-131_072..=22).contains(&level),
        };
        in_range.then_some(Level {
            codec: self,
            number: level,
        })
    }

    /// Kafka's default level.
    pub fn default_level(self) -> Level {
        Level {
            codec: self,
            number: match self {
                Self::Gzip => -1,
                Self::Snappy => 0,
                Self::Lz4 => 9,
                Self::Zstd => 3,
            },
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec at one of its levels: from [`Codec::level`] or [`Codec::default_level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    codec: Codec,
    number: i32,
}

impl Level {
    /// The codec whose level it is.
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The number as configured.
    pub fn number(self) -> i32 {
        self.number
    }
}
