//! Tests of what the simulated disk keeps and loses.

use super::*;

/// Runs `work` for many seeds in a life that ends with a power cut; gives what `/f` holds then.
fn after_power_cut<F: Future<Output = ()>>(
    model: &DiskModel,
    work: impl Fn(SimRuntime) -> F,
) -> Vec<Option<Vec<u8>>> {
    let kept = |seed| {
        let disk = SimDisk::new(model.clone());
        let mut life = Sim::new(seed, &disk);
        let shard = life.runtime(0);
        let _ = life.run(work(shard));
        life.power_cut();
        disk.read_file("/f")
    };
    (0..200).map(kept).collect()
}

fn count(kept: &[Option<Vec<u8>>], fits: impl Fn(&[u8]) -> bool) -> usize {
    let files = kept.iter().flatten();
    files.filter(|bytes| fits(bytes)).count()
}

#[test]
fn durable_writes_stay_and_bring_the_length() {
    let kept = after_power_cut(&even(true), |shard| async move {
        let file = create(&shard, "/f").await;
        let bytes = blocks(&shard, 3, 7);
        file.write_at(bytes, 4096, WriteMode::Durable)
            .await
            .unwrap();
    });
    let is_whole = |bytes: &[u8]| bytes[..4096] == [0; 4096] && bytes[4096..] == [7; 3 * 4096];
    assert_eq!(count(&kept, is_whole), 200);
}

#[test]
fn plain_writes_may_stay_vanish_tear_or_be_shredded() {
    let overwrite = |shard: SimRuntime| async move {
        let file = create(&shard, "/f").await;
        file.write_at(blocks(&shard, 2, 1), 0, WriteMode::Durable)
            .await
            .unwrap();
        file.write_at(blocks(&shard, 2, 2), 0, WriteMode::Plain)
            .await
            .unwrap();
    };
    let kept = after_power_cut(&even(true), overwrite);
    let all = |byte| move |bytes: &[u8]| bytes.iter().all(|b| *b == byte);
    assert!(count(&kept, all(1)) > 20, "vanished");
    assert!(count(&kept, all(2)) > 20, "stayed");
    let is_torn = |bytes: &[u8]| {
        let sectors: Vec<_> = bytes.chunks(512).collect();
        let is_clean = sectors.iter().all(|s| *s == [1; 512] || *s == [2; 512]);
        is_clean && sectors.iter().any(|s| s[0] != sectors[0][0])
    };
    assert!(count(&kept, is_torn) > 20, "torn");
    let is_shredded = |bytes: &[u8]| bytes.iter().any(|b| *b > 2);
    assert!(count(&kept, is_shredded) > 5, "shredded");
    let tame = DiskModel {
        shred: false,
        ..even(true)
    };
    assert_eq!(count(&after_power_cut(&tame, overwrite), is_shredded), 0);
}

#[test]
fn a_later_write_may_stay_without_an_earlier_one() {
    let kept = after_power_cut(&even(true), |shard| async move {
        let file = create(&shard, "/f").await;
        file.allocate(0, 2 * 4096).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain)
            .await
            .unwrap();
        file.write_at(blocks(&shard, 1, 2), 4096, WriteMode::Plain)
            .await
            .unwrap();
    });
    assert!(
        count(&kept, |bytes| bytes[..4096] == [0; 4096]
            && bytes[4096..] == [2; 4096])
            > 5
    );
}

#[test]
fn without_fua_a_durable_write_flushes_what_completed_before() {
    let work = |shard: SimRuntime| async move {
        let file = create(&shard, "/f").await;
        file.allocate(0, 2 * 4096).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain)
            .await
            .unwrap();
        let other = create(&shard, "/other").await;
        other
            .write_at(blocks(&shard, 1, 2), 0, WriteMode::Durable)
            .await
            .unwrap();
    };
    let is_kept = |bytes: &[u8]| bytes[..4096] == [1; 4096];
    assert_eq!(count(&after_power_cut(&even(false), work), is_kept), 200);
    let with_fua = count(&after_power_cut(&even(true), work), is_kept);
    assert!((20..180).contains(&with_fua), "{with_fua}");
}

#[test]
fn a_sync_keeps_what_completed_before_it_was_asked_for() {
    let work = |early: bool| {
        move |shard: SimRuntime| async move {
            let file = create(&shard, "/f").await;
            let write = file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain);
            if early {
                write.await.unwrap();
                file.sync().await.unwrap();
            } else {
                let (written, synced) = futures_util::join!(write, file.sync());
                written.unwrap();
                synced.unwrap();
            }
        }
    };
    let is_kept = |bytes: &[u8]| bytes == [1; 4096];
    assert_eq!(
        count(&after_power_cut(&even(true), work(true)), is_kept),
        200
    );
    let beside = count(&after_power_cut(&even(true), work(false)), is_kept);
    assert!((10..190).contains(&beside), "{beside}");
}

#[test]
fn names_stay_once_their_directory_is_synced() {
    let work = |sync: bool| {
        move |shard: SimRuntime| async move {
            let file = shard
                .open(Path::new("/tmp"), OpenMode::DIRECT_CREATE)
                .await
                .unwrap();
            file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Durable)
                .await
                .unwrap();
            shard
                .rename(Path::new("/tmp"), Path::new("/f"))
                .await
                .unwrap();
            if sync {
                shard.sync_dir(Path::new("/")).await.unwrap();
            }
        }
    };
    assert_eq!(
        count(&after_power_cut(&even(true), work(true)), |_| true),
        200
    );
    let unsynced = count(&after_power_cut(&even(true), work(false)), |_| true);
    assert!((20..180).contains(&unsynced), "{unsynced}");
}

#[test]
fn a_cut_that_is_lost_brings_the_old_bytes_back_and_one_that_is_kept_gives_zeros() {
    let work = |shard: SimRuntime| async move {
        let file = create(&shard, "/f").await;
        file.write_at(blocks(&shard, 2, 1), 0, WriteMode::Durable)
            .await
            .unwrap();
        file.set_len(100).await.unwrap();
        file.set_len(2 * 4096).await.unwrap();
        let mut buf = shard.arena().alloc(8192).unwrap();
        let result;
        (result, buf) = file.read_at(buf, 0, 8192).await;
        assert_eq!(result.unwrap(), 8192);
        assert!(buf[..100] == [1; 100] && buf[100..].iter().all(|b| *b == 0));
    };
    let kept = after_power_cut(&even(true), work);
    let old = count(&kept, |bytes| bytes == [1; 8192]);
    let cut = count(&kept, |bytes| bytes == [1; 100]);
    let grown = count(&kept, |bytes| {
        bytes.len() == 8192 && bytes[100..].iter().all(|b| *b == 0)
    });
    assert!(old > 10 && cut > 10 && grown > 10, "{old} {cut} {grown}");
    assert_eq!(old + cut + grown, 200);
}

#[test]
fn bytes_written_behind_a_cut_need_the_cut() {
    let kept = after_power_cut(
        &DiskModel {
            shred: false,
            ..even(true)
        },
        |shard| async move {
            let file = create(&shard, "/f").await;
            file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Durable)
                .await
                .unwrap();
            file.set_len(0).await.unwrap();
            file.write_at(blocks(&shard, 1, 2), 0, WriteMode::Plain)
                .await
                .unwrap();
        },
    );
    let is_mixed = |bytes: &[u8]| bytes.contains(&1) && bytes.contains(&2);
    assert_eq!(count(&kept, is_mixed), 0);
    assert!(count(&kept, |bytes| bytes == [1; 4096]) > 10);
    assert!(count(&kept, |bytes| bytes == [2; 4096]) > 10);
}

#[test]
fn a_full_disk_refuses_and_takes_again() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    disk.set_capacity(Some(4 * 4096));
    let test = disk.clone();
    let work = async move {
        let file = create(&shard, "/f").await;
        file.allocate(0, 4 * 4096).await.unwrap();
        let full = file.allocate(4 * 4096, 1).await.unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        file.write_at(blocks(&shard, 4, 1), 0, WriteMode::Plain)
            .await
            .unwrap();
        let full = file
            .write_at(blocks(&shard, 1, 1), 4 * 4096, WriteMode::Plain)
            .await;
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(shard.disk_space(Path::new("/")).unwrap().available_bytes, 0);
        shard.remove_file(Path::new("/f")).await.unwrap();
        assert_eq!(test.used_bytes(), 4 * 4096, "an open file keeps its space");
        drop(file);
        assert_eq!(test.used_bytes(), 0);
        let file = create(&shard, "/g").await;
        file.write_at(blocks(&shard, 4, 1), 0, WriteMode::Plain)
            .await
            .unwrap();
    };
    life.run(work).unwrap();
}

#[test]
fn planned_faults_come_when_planned() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    disk.inject(Fault {
        on: FaultOn::Write,
        path: "f".to_owned(),
        skip: 1,
        times: 1,
        errno: EIO,
    });
    let work = async {
        let file = create(&shard, "/f").await;
        let mut failed = Vec::new();
        for _ in 0..3 {
            let result = file
                .write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain)
                .await;
            failed.push(result.is_err());
        }
        assert_eq!(failed, [false, true, false]);
    };
    life.run(work).unwrap();
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let kept = (0..200).map(|seed| {
        let disk = SimDisk::new(even(true));
        let mut life = Sim::new(seed, &disk);
        let shard = life.runtime(0);
        disk.inject(Fault {
            on: FaultOn::Sync,
            path: String::new(),
            skip: 1,
            times: 1,
            errno: EIO,
        });
        let work = async {
            let file = create(&shard, "/f").await;
            file.allocate(0, 4096).await.unwrap();
            file.sync().await.unwrap();
            file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain)
                .await
                .unwrap();
            file.sync().await.unwrap_err();
            file.sync().await.unwrap();
        };
        life.run(work).unwrap();
        life.power_cut();
        disk.read_file("/f")
    });
    let kept: Vec<_> = kept.collect();
    assert!(count(&kept, |bytes| bytes == [1; 4096]) < 180);
}

#[test]
fn tests_can_edit_files() {
    let disk = SimDisk::new(DiskModel::default());
    disk.write_file("/a/b/f", b"hello world").unwrap();
    disk.corrupt("/a/b/f", 0..1).unwrap();
    disk.edit("/a/b/f", 6, b"there").unwrap();
    Sim::new(1, &disk).power_cut();
    let bytes = disk.read_file("/a/b/f").unwrap();
    assert_eq!((bytes[0], &bytes[1..]), (!b'h', &b"ello there"[..]));
    assert_eq!(disk.list(), [("/a/b/f".to_owned(), 11)]);
    disk.write_file("/a/b/f", b"new").unwrap();
    assert_eq!(disk.read_file("/a/b/f").unwrap(), b"new");
    disk.remove_file("/a/b/f").unwrap();
    assert_eq!(disk.read_file("/a/b/f"), None);
}

#[test]
fn zeros_cost_nothing() {
    let disk = SimDisk::new(DiskModel::default());
    let mut life = Sim::new(1, &disk);
    let shard = life.runtime(0);
    let work = async {
        let file = create(&shard, "/f").await;
        file.allocate(0, 64 << 20).await.unwrap();
        for index in 0..64_u64 {
            let zeros = blocks(&shard, 256, 0);
            file.write_at(zeros, index << 20, WriteMode::Plain)
                .await
                .unwrap();
        }
        assert!(!disk.state().inodes_hold_pages());
    };
    life.run(work).unwrap();
}

/// Where files lie on different devices, or the device keeps to the letter, the flush of one file
/// says nothing about another's.
#[test]
fn a_narrow_flush_leaves_other_files_writes_unflushed() {
    let write_beside = |is_sync: bool| {
        move |shard: SimRuntime| async move {
            let (file, other) = (create(&shard, "/f").await, create(&shard, "/g").await);
            file.allocate(0, 4096).await.unwrap();
            file.sync().await.unwrap();
            file.write_at(blocks(&shard, 1, 1), 0, WriteMode::Plain)
                .await
                .unwrap();
            if is_sync {
                other
                    .write_at(blocks(&shard, 1, 2), 0, WriteMode::Plain)
                    .await
                    .unwrap();
                other.sync().await.unwrap();
            } else {
                other
                    .write_at(blocks(&shard, 1, 2), 0, WriteMode::Durable)
                    .await
                    .unwrap();
            }
        }
    };
    let is_there = |bytes: &[u8]| bytes == [1; 4096];
    for is_sync in [false, true] {
        let narrow = DiskModel {
            narrow_flush: true,
            ..even(false)
        };
        let kept = after_power_cut(&narrow, write_beside(is_sync));
        assert!(count(&kept, is_there) < 150, "a flush reaches too far");
        let kept = after_power_cut(&even(false), write_beside(is_sync));
        assert_eq!(count(&kept, is_there), 200, "one device is flushed whole");
    }
}
