//! Segments that were rewritten, and what a rewrite gives way to.

use std::time::Duration;

use futures_util::future::join;

use super::*;
use crate::log::files::partition_files::SegmentId;
use crate::log::segment::replacement::Replacement;
use crate::log::{ReplaceError, Rewritten};
use crate::rt::Runtime;

/// Rewrites the first sealed segments: batches stay whose base offsets `keeps` says so of.
async fn drop_others(
    log: &Log,
    count: usize,
    keeps: impl Fn(i64) -> bool,
) -> Result<Replacement, ReplaceError> {
    let sealed = log.sealed_segments();
    let inputs: Vec<SegmentId> = sealed[..count].iter().map(|facts| facts.id()).collect();
    let rewrite = |batch: &BatchView<'_>| match keeps(batch.base_offset().0) {
        true => Rewritten::Same,
        false => Rewritten::Dropped,
    };
    log.replace_segments(&inputs, rewrite).await
}

/// Reads and look-ups from every few offsets on find the first batch that was kept.
async fn finds_what_was_kept(log: &Log, keeps: impl Fn(i64) -> bool) {
    for from in (0..900).step_by(5) {
        let kept = (from / 10 * 10..900).step_by(10).find(|base| keeps(*base));
        let kept = kept.unwrap();
        let read = read(log, from, 1).await;
        assert_eq!(read, Ok((kept + 10, vec![kept])), "at {from}");
        let first = from.max(kept);
        let found = log.offset_for_timestamp(from, Offset(900)).await;
        let expected = (first, Offset(first), LeaderEpoch(3));
        assert_eq!(found, Ok(Some(expected)), "at {from}");
    }
}

fn segments_of_a_rewrite(scene: &Scene) -> Vec<String> {
    let paths = scene.disk.list().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.contains(".1.")).collect()
}

#[test]
fn a_read_in_a_gap_begins_with_the_batch_behind_it() {
    let some = |base: i64| !(100..450).contains(&base) && !(590..600).contains(&base);
    let none = |base: i64| base >= 600;
    let all = |_: i64| true;
    let rewrites: [(&dyn Fn(i64) -> bool, bool); 3] =
        [(&some, false), (&none, false), (&all, true)];
    for (keeps, dense) in rewrites {
        let scene = Scene::with_batches(90);
        scene.live(async |_, shard| {
            let log = shard.partition(id(1)).unwrap();
            let output = drop_others(&log, 2, keeps).await.unwrap().outputs[0];
            let ends = (output.base_offset, output.end_offset);
            assert_eq!(ends.0, Offset(0));
            assert_eq!((output.generation, output.dense), (1, dense));
            finds_what_was_kept(&log, keeps).await;
        });
        scene.live(async |_, shard| {
            finds_what_was_kept(&shard.partition(id(1)).unwrap(), keeps).await;
        });
        for (path, _) in scene.disk.list() {
            if path.ends_with("index") {
                scene.disk.remove_file(&path).unwrap();
            }
        }
        scene.live(async |_, shard| {
            finds_what_was_kept(&shard.partition(id(1)).unwrap(), keeps).await;
        });
    }
}

#[test]
fn where_nothing_is_left_readers_wait_for_what_comes() {
    let scene = Scene::with_batches(90);
    let waits_at_the_end = async |log: &Log| {
        for from in (0..900).step_by(50) {
            assert_eq!(read(log, from, 1).await, Ok((900, vec![])), "at {from}");
            let found = log.offset_for_timestamp(from, Offset(900)).await;
            assert_eq!(found, Ok(None), "at {from}");
        }
        assert_eq!(log.max_timestamp().await, Ok(None));
        assert_eq!(log.marks().log_start, Offset(0));
    };
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        log.0.roll_before(Offset(900), 0).await.unwrap();
        while log.sealed_segments().len() < 3 {
            rt.sleep(Duration::from_millis(10)).await;
        }
        drop_others(&log, 3, |_| false).await.unwrap();
        waits_at_the_end(&log).await;
    });
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        waits_at_the_end(&log).await;
        fill(&log, 1).await;
        for from in [0, 450, 899, 900] {
            assert_eq!(read(&log, from, 1).await, Ok((910, vec![900])), "at {from}");
        }
    });
}

#[test]
fn a_swap_asks_for_one_checkpoint_where_the_last_one_has_its_inputs() {
    let scene = Scene::with_batches(90);
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        let mut asked = Vec::new();
        for _ in 0..3 {
            let before = shard.0.storage.checkpoints.asked();
            drop_others(&log, 1, |_| true).await.unwrap();
            rt.sleep(Duration::from_secs(1)).await;
            asked.push(shard.0.storage.checkpoints.asked() - before);
        }
        // What the checkpoint of the start says is not looked at.
        assert_eq!(asked, [2, 1, 1]);
        // What was sealed since needs another.
        log.0.roll_before(Offset(900), 0).await.unwrap();
        while log.sealed_segments().len() < 3 {
            rt.sleep(Duration::from_millis(10)).await;
        }
        let before = shard.0.storage.checkpoints.asked();
        drop_others(&log, 3, |_| true).await.unwrap();
        rt.sleep(Duration::from_secs(1)).await;
        assert_eq!(shard.0.storage.checkpoints.asked() - before, 2);
    });
}

#[test]
fn a_rewrite_gives_way_to_deleted_records() {
    let scene = Scene::with_batches(90);
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        let rewrite = drop_others(&log, 2, |base| base % 20 == 0);
        let (replaced, deleted) = join(rewrite, log.delete_records(Offset(310))).await;
        assert_eq!(deleted, Ok(Offset(310)));
        // Which one, says how far it had read by then.
        let gave_way = [
            ReplaceError::NotThere,
            ReplaceError::Read(ReadError::OutOfRange),
        ];
        assert!(replaced.is_err_and(|error| gave_way.contains(&error)));
        rt.sleep(Duration::from_secs(1)).await;
        assert_eq!(segments_of_a_rewrite(&scene), [""; 0]);
        assert_eq!(read(&log, 310, 1).await, Ok((320, vec![310])));
        let again = drop_others(&log, 1, |base| base % 20 == 0).await.unwrap();
        assert_eq!(again.outputs[0].base_offset, Offset(300));
        assert_eq!(read(&log, 310, 1).await, Ok((330, vec![320])));
    });
}

#[test]
fn files_stay_for_those_who_began_to_read_before() {
    const LONG: Duration = Duration::from_secs(10);
    let scene = Scene::with_batches(90);
    let (old, _) = scene.place_of(0);
    scene.live(async |rt, shard| {
        let log = shard.partition(id(1)).unwrap();
        let reads = log.0.use_files().unwrap();
        drop_others(&log, 1, |base| base > 0).await.unwrap();
        let later = log.0.use_files().unwrap();
        rt.sleep(LONG).await;
        assert!(scene.disk.read_file(&old).is_some());
        drop(reads);
        rt.sleep(LONG).await;
        assert_eq!(scene.disk.read_file(&old), None);
        drop(later);
    });
}

#[test]
fn what_is_no_part_of_a_batch_is_refused() {
    let scene = Scene::with_batches(90);
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        let first = log.sealed_segments()[0].id();
        let too_far = |batch: &BatchView<'_>| {
            let mut bytes = batch.bytes().to_vec();
            crate::model::batch::stamp(&mut bytes, batch.end_offset(), batch.leader_epoch());
            Rewritten::As(bytes)
        };
        let cut = |batch: &BatchView<'_>| Rewritten::As(batch.bytes()[..70].to_vec());
        let refused = Err(ReplaceError::NotWithin);
        assert_eq!(log.replace_segments(&[first], too_far).await, refused);
        assert_eq!(log.replace_segments(&[first], cut).await, refused);
        let same = |_: &BatchView<'_>| Rewritten::Same;
        let gone = Err(ReplaceError::NotThere);
        assert_eq!(log.replace_segments(&[], same).await, gone);
        let active = SegmentId::appended(Offset(600));
        assert_eq!(log.replace_segments(&[active], same).await, gone);
        assert_eq!(segments_of_a_rewrite(&scene), [""; 0]);
        assert_eq!(read(&log, 0, 1).await, Ok((10, vec![0])));
    });
}
