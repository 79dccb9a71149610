//! Opens for which there is no descriptor: to be tried again, never the end of the directory.

use std::time::Duration;

use super::*;
use crate::sim::{EMFILE, Fault, FaultOn};

const SOON: Duration = Duration::from_millis(50);

impl Scene {
    fn refuses_opens(&self, path: &str, times: u32) {
        self.disk.inject(Fault {
            on: FaultOn::Open,
            path: path.into(),
            skip: 0,
            times,
            errno: EMFILE,
        });
    }
}

#[test]
fn an_append_that_needs_a_new_segment_is_refused_and_goes_on_later() {
    let scene = Scene::new();
    scene.live(async |_, shard| {
        let log = create(&shard, scene.spec(id(1))).await.unwrap();
        fill(&log, 5).await;
        // The open, and the one after others were closed for it.
        scene.refuses_opens("/t-0/", 2);
        let refused = loop {
            match log.append(&batch(0), 0).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(
            refused,
            AppendError::Storage(StorageError::OpenRefused(_))
        ));
        fill(&log, 60).await;
        assert_eq!(shard.offline_reason(), None);
    });
}

#[test]
fn one_descriptor_short_closes_a_file_for_the_next() {
    let scene = Scene::with_batches(90);
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        read(&log, 0, 1).await.unwrap();
        scene.refuses_opens(".log", 1);
        assert_eq!(read(&log, 850, 1).await, Ok((860, vec![850])));
    });
}

#[test]
fn a_read_is_refused_and_nothing_is_told_of_damage() {
    let scene = Scene::with_batches(40);
    scene.live(async |_, shard| {
        let log = shard.partition(id(1)).unwrap();
        scene.refuses_opens(".log", 2);
        let refused = read(&log, 0, 1).await;
        assert!(matches!(
            refused,
            Err(ReadError::Storage(StorageError::OpenRefused(_)))
        ));
        assert_eq!(log.0.storage.damage.told_count(), 0);
        assert_eq!(read(&log, 0, 1).await, Ok((10, vec![0])));
    });
}

#[test]
fn what_goes_to_segments_and_checkpoints_waits_for_a_descriptor() {
    for durability in [Durability::Fsync, Durability::Written] {
        let mut scene = Scene::new();
        scene.options.durability = durability;
        scene.options.write_back_bytes = 4096;
        scene.options.open_files = 1;
        let spec = |topic| PartitionSpec {
            topic: format!("t{topic}"),
            ..scene.spec(id(topic))
        };
        let specs = [spec(1), spec(2)];
        scene.live(async |rt, shard| {
            let first = create(&shard, specs[0].clone()).await.unwrap();
            let second = create(&shard, specs[1].clone()).await.unwrap();
            fill(&first, 20).await;
            // Only write-back opens these: nothing of the first is appended to any more.
            fill(&second, 5).await;
            first.0.storage.files.clear();
            scene.refuses_opens("/t1-0/", 40);
            rt.sleep(SOON).await;
            shard.checkpoint().await.unwrap();
            rt.sleep(200 * SOON).await;
            shard.checkpoint().await.unwrap();
            shard.close().await.unwrap();
            assert_eq!(shard.offline_reason(), None);
            assert_eq!(first.marks().segment_durable, Offset(200));
        });
    }
}
