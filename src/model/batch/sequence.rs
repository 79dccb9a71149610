//! Sequence numbers of idempotent producers: 0 to 2³¹−1, and then 0 again (KIP-98).

/// The sequence `count` records further (Kafka's `DefaultRecordBatch.incrementSequence`).
///
/// Neither may be negative.
pub fn increment_sequence(sequence: i32, count: i32) -> i32 {
    wrap(i64::from(sequence) + i64::from(count))
}

/// The sequence `count` records before (Kafka's `DefaultRecordBatch.decrementSequence`).
///
/// Neither may be negative.
pub fn decrement_sequence(sequence: i32, count: i32) -> i32 {
    wrap(i64::from(sequence) - i64::from(count))
}

fn wrap(sequence: i64) -> i32 {
    (sequence & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_to_zero_and_back() {
        for (sequence, count, further) in [
            (0, 0, 0),
            (5, 3, 8),
            (i32::MAX - 1, 1, i32::MAX),
            (i32::MAX, 1, 0),
            (i32::MAX, 2, 1),
            (i32::MAX - 4, 10, 5),
            (i32::MAX, i32::MAX, i32::MAX - 1),
        ] {
            assert_eq!(increment_sequence(sequence, count), further);
            assert_eq!(decrement_sequence(further, count), sequence);
        }
    }
}
