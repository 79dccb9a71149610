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

/// Of a batch, the base offset and the leader epoch are outside the CRC.
#[test]
fn a_damaged_base_offset_or_leader_epoch_is_never_served() {
    let base_offset_bytes = (0..8).flat_map(|byte| [(byte, 0x08), (byte, 0x80)]);
    let leader_epoch_bytes = (12..16).map(|byte| (byte, 1));
    for (byte, bits) in base_offset_bytes.chain(leader_epoch_bytes) {
        // Of three batches in a row one at least has an entry of the index.
        for damaged in [0, 150, 160, 170] {
            let scene = Scene::with_batches(40);
            scene.flip(damaged, byte, bits);
            scene.live(async |_, shard| {
                let log = shard.partition(id(1)).unwrap();
                let (read, error) = follow(&log, 0, 400, 1500).await;
                assert_eq!(read, bases(0, damaged), "byte {byte} of {damaged}");
                let error = error.unwrap();
                assert!(is_corrupt(&error, "00.log: at byte "), "{error}");
                let (read, error) = follow(&log, damaged + 10, 400, 1500).await;
                assert_eq!((read, error), (bases(damaged + 10, 400), None));
            });
        }
    }
}

/// Whatever is read is a batch that follows on what was asked for, or an error says why not.
#[test]
fn no_damage_of_a_header_is_ever_served() {
    const HEADER_BYTES: u64 = 61;
    for (byte, has_index) in (0..HEADER_BYTES).flat_map(|byte| [(byte, true), (byte, false)]) {
        let scene = Scene::with_batches(40);
        scene.flip(150, byte, 1);
        if !has_index {
            for (path, _) in scene.disk.list() {
                if path.ends_with("index") {
                    scene.disk.remove_file(&path).unwrap();
                }
            }
        }
        scene.live(async |_, shard| {
            let log = shard.partition(id(1)).unwrap();
            assert!(read(&log, 150, 1).await.is_err(), "byte {byte}");
            for from in bases(0, 400) {
                if let Ok((next, found)) = read(&log, from, 1500).await {
                    assert_eq!(found, bases(from, next), "byte {byte}");
                    assert!(next > from, "byte {byte}: nothing at {from}, and no error");
                }
                let time_ms = from + 5;
                let found = log.offset_for_timestamp(time_ms, Offset(400)).await;
                if let Ok(found) = found {
                    let right = (time_ms, Offset(time_ms), LeaderEpoch(3));
                    assert_eq!(found, Some(right), "byte {byte}");
                }
            }
        });
    }
}

#[test]
fn a_segment_that_is_missing_is_not_a_range_that_ended() {
    let scene = Scene::with_batches(90);
    let (second, _) = scene.place_of(350);
    assert!(!second.ends_with("/00000000000000000000.log"));
    scene.live(async |_, shard| {
        // A start would have noticed.
        scene.disk.remove_file(&second).unwrap();
        let log = shard.partition(id(1)).unwrap();
        let (read, error) = follow(&log, 0, 900, 1500).await;
        assert!(!read.is_empty());
        let missing = format!("{second} is missing");
        let error = error.unwrap();
        assert!(is_corrupt(&error, &missing), "{error}");
        let found = log.offset_for_timestamp(355, Offset(900)).await;
        assert!(is_corrupt(&found.unwrap_err(), &missing));
        log.delete_records(Offset(900)).await.unwrap();
        let gone = self::read(&log, 350, 1500).await;
        assert_eq!(gone, Err(ReadError::OutOfRange));
    });
}

#[test]
fn damage_is_told_once_for_each_place() {
    let scene = Scene::with_batches(40);
    scene.flip(150, 100, 1);
    scene.flip(200, 0, 1);
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        for _ in 0..20 {
            for from in [100, 150, 155, 200] {
                follow(&log, from, 400, 1500).await.1.unwrap();
            }
        }
        assert_eq!(log.0.storage.damage.told_count(), 2);
        shard.delete_partition(id(1)).await.unwrap();
        assert_eq!(log.0.storage.damage.told_count(), 0);
    });
}
