//! Levels of the codecs.

use crate::model::Codec;

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

    /// Plain bytes that are compressed in about a millisecond of one core: what one step may take.
    ///
    /// Single steps take longer all the same: a context gathers a block, of up to 128 KiB in zstd, and
    /// compresses it at once, whatever it is given at a time. The longest of 4 MiB of text took 3 ms at
    /// gzip:6 and zstd:3, 9 at zstd:9, 36 at zstd:15 and 150 to 220 from zstd:19 on (`corelane-bench
    /// check`, processor time on a busy machine).
    pub fn step_bytes(self) -> usize {
        match (self.codec, self.number) {
            (Codec::None, _) => 1 << 20,
            (Codec::Snappy | Codec::Lz4, _) => 256 << 10,
            (Codec::Gzip, 1..=5) => 32 << 10,
            (Codec::Gzip, _) => 16 << 10,
            (Codec::Zstd, ..=3) => 128 << 10,
            (Codec::Zstd, 4..=9) => 32 << 10,
            (Codec::Zstd, 10..=15) => 8 << 10,
            (Codec::Zstd, _) => 2 << 10,
        }
    }
}
