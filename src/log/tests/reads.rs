//! Reads of segments in which something is not as it was written.

use super::*;

/// What a reader gets that goes on behind each read from `from` to `end`: base
/// offsets, and the error that ended it.
async fn follow(log: &Log, from: i64, end: i64, max_bytes: usize) -> (Vec<i64>, Option<ReadError>) {
    let (mut at, mut all) = (from, Vec::new());
    while at < end {
        match read(log, at, max_bytes).await {
            Ok((next, bases)) => {
                assert!(next > at, "a read at {at} ends there, without an error");
                all.extend(bases);
                at = next;
            }
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

fn bases(from: i64, to: i64) -> Vec<i64> {
    (from..to).step_by(RECORDS_PER_BATCH as usize).collect()
}

#[test]
fn what_lies_around_a_damaged_batch_is_read() {
    for large_reads in [1500, 1 << 20] {
        let scene = Scene::with_batches(40);
        // A bit of a record.
        scene.flip(150, 100, 1);
        scene.live(async |_, shard| {
            let log = shard.partition(id(1)).unwrap();
            let (read, error) = follow(&log, 0, 400, large_reads).await;
            assert_eq!(read, bases(0, 150));
            assert!(is_corrupt(&error.unwrap(), "fails its CRC"));
            let (read, error) = follow(&log, 160, 400, large_reads).await;
            assert_eq!((read, error), (bases(160, 400), None));
        });
    }
}
