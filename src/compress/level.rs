//! Levels of the codecs.

use crate::model::Codec;

/// Up to so many plain bytes, zstd's context is one of those that are kept, whatever the level.
const ZSTD_SMALL_BYTES: usize = 100_000;
const ZSTD_CONTEXT_BYTES_MAX: usize = 20 << 20;

/// A codec at one of its levels: from [`Level::new`] or [`Level::default_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    codec: Codec,
    number: i32,
}

impl Level {
    /// The level as set with `compression.gzip.level`, `compression.lz4.level` and
    /// `compression.zstd.level` (KIP-390); `None` where Kafka refuses it.
    ///
    /// lz4's level is accepted and has no effect: only the fast mode exists here. snappy has none, nor
    /// has what is not compressed: whatever is given means the same.
    pub fn new(codec: Codec, number: i32) -> Option<Self> {
        let in_range = match codec {
            Codec::None | Codec::Snappy => true,
            Codec::Gzip => number == -1 || (1..=9).contains(&number),
            Codec::Lz4 => (1..=17).contains(&number),
            Codec::Zstd => (-131_072..=22).contains(&number),
        };
        in_range.then_some(Self { codec, number })
    }

    /// Kafka's default level.
    pub fn default_of(codec: Codec) -> Self {
        let number = match codec {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => -1,
            Codec::Lz4 => 9,
            Codec::Zstd => 3,
        };
        Self { codec, number }
    }

    /// The codec whose level it is.
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The number as configured.
    pub fn number(self) -> i32 {
        self.number
    }

    /// Most that `plain_bytes` bytes can become.
    pub fn max_output_bytes(self, plain_bytes: usize) -> usize {
        match self.codec {
            Codec::None => plain_bytes,
            // Snappy's bound, the loosest of the four.
            _ => plain_bytes + plain_bytes / 6 + 1024,
        }
    }

    /// Plain bytes that are compressed in at most a millisecond of one core: what one step may take.
    ///
    /// Up to zstd:5, zstd's blocks are as long: its own, of 128 KiB, took 0.6 ms at zstd:3 (1.2 the
    /// first time) and 1.1 at zstd:5. Shorter ones cost 0.5 % of the size in text of a log and
    /// nothing in source code.
    pub fn step_bytes(self) -> usize {
        match (self.codec, self.number) {
            (Codec::None, _) => 1 << 20,
            (Codec::Snappy | Codec::Lz4, _) => 256 << 10,
            (Codec::Gzip, 1..=5) => 32 << 10,
            (Codec::Gzip, -1 | 6) => 16 << 10,
            (Codec::Gzip, 7) => 8 << 10,
            (Codec::Gzip, _) => 4 << 10,
            (Codec::Zstd, ..=4) => 64 << 10,
            (Codec::Zstd, 5) => 32 << 10,
            (Codec::Zstd, 6..=9) => 16 << 10,
            (Codec::Zstd, 10..=15) => 4 << 10,
            (Codec::Zstd, _) => 1 << 10,
        }
    }

    /// What compressing so much takes beyond the contexts that are kept, in bytes: those of zstd are as
    /// large as the level wants, and 19 MiB at most.
    pub fn context_bytes(self, plain_bytes: usize) -> usize {
        match (self.codec, self.number) {
            (Codec::Zstd, 6..) if plain_bytes > ZSTD_SMALL_BYTES => ZSTD_CONTEXT_BYTES_MAX,
            _ => 0,
        }
    }

    /// Whether more than one step cannot be cut into steps: from gzip:8 on, where two letters in no
    /// order take 1.3 s a MiB, and from zstd:6 on. There a MiB takes a context of 5 to 20 MiB, which
    /// is made in 2 to 8 ms and not kept, and short blocks would cost what the level is chosen for.
    pub fn is_slow(self) -> bool {
        match self.codec {
            Codec::None | Codec::Snappy | Codec::Lz4 => false,
            Codec::Gzip => self.number >= 8,
            Codec::Zstd => self.number >= 6,
        }
    }
}
