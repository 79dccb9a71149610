//! Which partition a record goes to, as Kafka's default partitioner chooses
//! (`BuiltInPartitioner`, KIP-480 and KIP-794).

/// The partition of a key among `count`: murmur2 of it, without the sign.
pub fn partition_of(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % count.max(1)
}

/// The partition that records without a key stay with until a batch of it is full.
#[derive(Clone, Debug)]
pub struct Sticky {
    current: i32,
    count: i32,
}

impl Sticky {
    /// Among `count` partitions, starting anywhere.
    pub fn new(count: i32, random: u64) -> Self {
        let count = count.max(1);
        Self {
            current: (random % count as u64) as i32,
            count,
        }
    }

    /// The partition that is filled now.
    pub fn current(&self) -> i32 {
        self.current
    }

    /// Goes on to the next; every partition has its turn.
    pub fn advance(&mut self) {
        self.current = (self.current + 1) % self.count;
    }
}

/// MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own UtilsTest.
    #[test]
    fn hashes_are_kafkas() {
        let known: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key) as i32, hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_has_one_partition_and_no_count_fails() {
        assert_eq!(partition_of(b"foobar", 7), partition_of(b"foobar", 7));
        for count in [i32::MIN, 0, 1] {
            assert_eq!(partition_of(b"foobar", count), 0);
        }
        assert!((0..100u8).all(|key| (0..3).contains(&partition_of(&[key], 3))));
    }

    #[test]
    fn sticky_visits_all() {
        let mut sticky = Sticky::new(3, 5);
        let visited: Vec<i32> = (0..4)
            .map(|_| {
                let now = sticky.current();
                sticky.advance();
                now
            })
            .collect();
        assert_eq!(visited, [2, 0, 1, 2]);
    }
}
