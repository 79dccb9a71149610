//! Errors of the disk that are final, and those that are not.

use super::*;
use crate::sim::{EIO, Fault, FaultOn};

impl Scene {
    /// The first operation of a kind fails whose path contains this.
    fn fails(&self, on: FaultOn, path: &str, errno: i32) {
        self.fails_behind(0, on, path, errno);
    }

    /// One such operation fails behind so many that succeed.
    fn fails_behind(&self, skip: u32, on: FaultOn, path: &str, errno: i32) {
        self.disk.inject(Fault {
            on,
            path: path.into(),
            skip,
            times: 1,
            errno,
        });
    }
}

fn is_offline(error: &StorageError) -> bool {
    matches!(error, StorageError::Offline(why) if why.contains(DATA_DIR))
}

/// Appends until something fails.
async fn append_until_error(log: &Log) -> StorageError {
    loop {
        match log.append(&batch(0), 0).await {
            Ok(_) => {}
            Err(AppendError::Storage(error)) => return error,
            Err(AppendError::DiskFull) => return StorageError::DiskFull,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_new_segment_whose_name_may_be_lost_takes_the_directory_offline() {
    let scene = Scene::new();
    scene.live(async |_, shard| {
        let log = shard.create_partition(scene.spec(id(1))).await.unwrap();
        fill(&log, 5).await;
        scene.fails(FaultOn::SyncDir, "/t-0", EIO);
        assert!(is_offline(&append_until_error(&log).await));
        let again = log.append(&batch(0), 0).await;
        assert!(matches!(again, Err(AppendError::Storage(error)) if is_offline(&error)));
        assert!(shard.offline_reason().is_some());
    });
}

#[test]
fn a_partition_whose_names_may_be_lost_takes_the_directory_offline() {
    // The directory after its id was written, again with its segment, and its own name.
    for number in 0..3 {
        let scene = Scene::new();
        scene.live(async |_, shard| {
            scene.fails_behind(number, FaultOn::SyncDir, DATA_DIR, EIO);
            let made = shard.create_partition(scene.spec(id(1))).await;
            assert!(is_offline(&made.err().unwrap()));
            assert!(shard.offline_reason().is_some());
        });
    }
    let scene = Scene::with_batches(1);
    scene.live(async |_, shard| {
        scene.fails(FaultOn::SyncDir, "/data", EIO);
        let deleted = shard.delete_partition(id(1)).await;
        assert!(is_offline(&deleted.unwrap_err()));
        assert!(shard.offline_reason().is_some());
    });
}
