//! What every [`Runtime`] must show, as tests that any implementation runs.
//!
//! Each check gets a runtime and an empty directory of its own. An implementation calls
//! [`contract_tests!`] with a function that runs one check to its end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use futures_util::pin_mut;

use super::{
    Arena, BLOCK_BYTES, Budget, Buf, Create, Event, File, LaneClosed, Listener, OpenMode, Runtime,
    Socket, TaskClass, TrySendError, UNBOUNDED, WriteMode,
};

/// One `#[test]` per check; `$run` is called with `fn(R, PathBuf) -> impl Future<Output = ()>`.
macro_rules! contract_tests {
    ($run:path) => {
        $crate::rt::contract::contract_tests!(@each $run:
            check_buffered_odd_lengths, check_direct_blocks, check_direct_alignment,
            check_vectored_write, check_many_pieces, check_concurrent_writes, check_durable_write,
            check_read_into_rest, check_allocate, check_set_len, check_open_modes,
            check_clones_share, check_locks, check_rename, check_dirs, check_sync_file_system,
            check_disk_space,
            check_dropped_futures, check_large_transfer, check_spawn, check_sleep_order,
            check_time_moves, check_budget, check_arena, check_random, check_echo, check_both_directions,
            check_vectored_send, check_end_of_stream, check_shutdown_wakes, check_last_drop_closes,
            check_connect_refused, check_many_connections, check_dropped_accept,
            check_lane_order, check_lane_is_bounded, check_lane_ends_behind_its_messages,
            check_lane_gives_back_what_nobody_receives, check_aside
        );
    };
    (@each $run:path: $($check:ident),* $(,)?) => {
        $(#[test]
        fn $check() {
            $run($crate::rt::contract::$check);
        })*
    };
}
pub(crate) use contract_tests;

/// `len` bytes that tell a shifted or torn copy from the right one.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8 ^ seed)
        .collect()
}

fn block_buf(arena: &Arena, len: usize, seed: u8) -> Buf {
    let mut buf = arena.alloc(len).unwrap();
    buf.extend_from_slice(&pattern(len, seed));
    buf.freeze()
}

async fn read_all<F: File>(arena: &Arena, file: &F, offset: u64, len: usize) -> Vec<u8> {
    let (result, buf) = file.read_at(arena.alloc(len).unwrap(), offset, len).await;
    assert_eq!(result.unwrap(), buf.len());
    buf.to_vec()
}

/// Runs `task` as a task of its own and completes with it.
async fn spawned<R: Runtime, T: 'static>(
    rt: &R,
    class: TaskClass,
    task: impl Future<Output = T> + 'static,
) -> T {
    let done = Rc::new((Event::new(), RefCell::new(None)));
    let end = done.clone();
    rt.spawn(class, async move {
        let value = task.await;
        *end.1.borrow_mut() = Some(value);
        end.0.notify();
    });
    done.0.wait_until(|| done.1.borrow_mut().take()).await
}

/// Files through the page cache take any length; a read past the end is short.
pub async fn check_buffered_odd_lengths<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::BUFFERED_CREATE)
        .await
        .unwrap();
    let bytes = pattern(10_001, 1);
    file.write_at(vec![Buf::from_vec(bytes.clone())], 0, WriteMode::Plain)
        .await
        .unwrap();
    assert_eq!(file.size().unwrap(), 10_001);
    assert_eq!(
        read_all(rt.arena(), &file, 9_000, 5_000).await,
        bytes[9_000..]
    );
    assert_eq!(read_all(rt.arena(), &file, 10_001, 100).await, b"");
    assert_eq!(read_all(rt.arena(), &file, 3, 7).await, bytes[3..10]);
    file.write_at(Vec::new(), 0, WriteMode::Durable)
        .await
        .unwrap();
    assert_eq!(file.size().unwrap(), 10_001);
}

/// Direct files read back what was written, also after they were opened again; short at the end.
pub async fn check_direct_blocks<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    let file = rt.open(&path, OpenMode::DIRECT_CREATE).await.unwrap();
    let data = block_buf(rt.arena(), 3 * BLOCK_BYTES, 2);
    file.write_at(vec![data.clone()], BLOCK_BYTES as u64, WriteMode::Plain)
        .await
        .unwrap();
    drop(file);
    let file = rt.open(&path, OpenMode::DIRECT).await.unwrap();
    assert_eq!(file.size().unwrap(), 4 * BLOCK_BYTES as u64);
    let read = read_all(rt.arena(), &file, 0, 8 * BLOCK_BYTES).await;
    assert_eq!(
        read[..BLOCK_BYTES],
        [0; BLOCK_BYTES],
        "a hole reads as zeros"
    );
    assert_eq!(read[BLOCK_BYTES..], *data);
}

/// Direct operations that are not in whole, aligned blocks are errors and change nothing.
pub async fn check_direct_alignment<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::DIRECT_CREATE)
        .await
        .unwrap();
    let block = block_buf(rt.arena(), 2 * BLOCK_BYTES, 3);
    let bad: [(Buf, u64); 3] = [
        (block.slice(0..100), 0),
        (block.slice(0..BLOCK_BYTES), 512 + 1),
        (block.slice(1..BLOCK_BYTES + 1), 0),
    ];
    for (buf, offset) in bad {
        let error = file.write_at(vec![buf], offset, WriteMode::Plain).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(file.size().unwrap(), 0);
    let room = || rt.arena().alloc(BLOCK_BYTES).unwrap();
    assert!(file.read_at(room(), 1, BLOCK_BYTES).await.0.is_err());
    assert!(file.read_at(room(), 0, 100).await.0.is_err());
}

/// Pieces of one write lie one behind the other.
pub async fn check_vectored_write<R: Runtime>(rt: R, dir: PathBuf) {
    for (name, mode) in [
        ("b", OpenMode::BUFFERED_CREATE),
        ("d", OpenMode::DIRECT_CREATE),
    ] {
        let file = rt.open(&dir.join(name), mode).await.unwrap();
        let first = block_buf(rt.arena(), BLOCK_BYTES, 4);
        let second = block_buf(rt.arena(), 3 * BLOCK_BYTES, 5);
        let bufs = vec![first.clone(), second.slice(BLOCK_BYTES..3 * BLOCK_BYTES)];
        file.write_at(bufs, 0, WriteMode::Durable).await.unwrap();
        let read = read_all(rt.arena(), &file, 0, 3 * BLOCK_BYTES).await;
        assert_eq!(read[..BLOCK_BYTES], *first);
        assert_eq!(read[BLOCK_BYTES..], second[BLOCK_BYTES..]);
    }
}

/// More pieces than one system call takes (IOV_MAX is 1024), some of them empty.
pub async fn check_many_pieces<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::BUFFERED_CREATE)
        .await
        .unwrap();
    let bytes = pattern(7 * 3000, 6);
    let mut bufs: Vec<Buf> = bytes
        .chunks(7)
        .map(|chunk| Buf::from_vec(chunk.to_vec()))
        .collect();
    bufs.insert(1, Buf::from_vec(Vec::new()));
    file.write_at(bufs, 11, WriteMode::Plain).await.unwrap();
    assert_eq!(read_all(rt.arena(), &file, 11, 30_000).await, bytes);
}

/// Writes in flight together, to different places, all arrive.
pub async fn check_concurrent_writes<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::DIRECT_CREATE)
        .await
        .unwrap();
    let writes = (0..300u64).map(|i| {
        let block = block_buf(rt.arena(), BLOCK_BYTES, i as u8);
        file.write_at(vec![block], i * BLOCK_BYTES as u64, WriteMode::Plain)
    });
    for result in join_all(writes).await {
        result.unwrap();
    }
    let reads = (0..300u64).map(|i| {
        let room = rt.arena().alloc(BLOCK_BYTES).unwrap();
        file.read_at(room, i * BLOCK_BYTES as u64, BLOCK_BYTES)
    });
    for (i, (result, buf)) in join_all(reads).await.into_iter().enumerate() {
        assert_eq!(result.unwrap(), BLOCK_BYTES);
        assert_eq!(*buf, pattern(BLOCK_BYTES, i as u8));
    }
}

/// Durable writes and syncs succeed on both kinds of file.
pub async fn check_durable_write<R: Runtime>(rt: R, dir: PathBuf) {
    for (name, mode) in [
        ("b", OpenMode::BUFFERED_CREATE),
        ("d", OpenMode::DIRECT_CREATE),
    ] {
        let file = rt.open(&dir.join(name), mode).await.unwrap();
        let block = block_buf(rt.arena(), BLOCK_BYTES, 7);
        file.write_at(vec![block.clone()], 0, WriteMode::Durable)
            .await
            .unwrap();
        file.write_at(vec![block.clone()], BLOCK_BYTES as u64, WriteMode::Plain)
            .await
            .unwrap();
        file.sync().await.unwrap();
        assert_eq!(read_all(rt.arena(), &file, 0, BLOCK_BYTES).await, *block);
    }
    rt.sync_dir(&dir).await.unwrap();
}

/// A read goes behind what the buffer holds, and takes no more than asked and than there is room.
pub async fn check_read_into_rest<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::BUFFERED_CREATE)
        .await
        .unwrap();
    let bytes = pattern(3 * BLOCK_BYTES, 8);
    file.write_at(vec![Buf::from_vec(bytes.clone())], 0, WriteMode::Plain)
        .await
        .unwrap();
    let mut buf = rt.arena().alloc(BLOCK_BYTES).unwrap();
    buf.extend_from_slice(b"head");
    let (result, buf) = file.read_at(buf, 5, 10).await;
    assert_eq!(result.unwrap(), 10);
    assert_eq!(&buf[..4], b"head");
    assert_eq!(buf[4..], bytes[5..15]);
    let room = buf.room();
    let (result, buf) = file.read_at(buf, 0, 3 * BLOCK_BYTES).await;
    assert_eq!(result.unwrap(), room);
    assert_eq!(buf[14..], bytes[..room]);
    let (result, buf) = file.read_at(buf, 0, 10).await;
    assert_eq!(result.unwrap(), 0, "no room, nothing read");
    assert_eq!(buf.room(), 0);
}

/// Reserved space extends the file, reads as zeros and keeps what is there.
pub async fn check_allocate<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::DIRECT_CREATE)
        .await
        .unwrap();
    let block = block_buf(rt.arena(), BLOCK_BYTES, 9);
    file.write_at(vec![block.clone()], 0, WriteMode::Plain)
        .await
        .unwrap();
    file.allocate(0, 64 * BLOCK_BYTES as u64).await.unwrap();
    assert_eq!(file.size().unwrap(), 64 * BLOCK_BYTES as u64);
    let read = read_all(rt.arena(), &file, 0, 64 * BLOCK_BYTES).await;
    assert_eq!(read.len(), 64 * BLOCK_BYTES);
    assert_eq!(read[..BLOCK_BYTES], *block);
    assert!(read[BLOCK_BYTES..].iter().all(|byte| *byte == 0));
    let path = dir.join("sparse");
    let file = rt.open(&path, OpenMode::DIRECT_CREATE).await.unwrap();
    let block = BLOCK_BYTES as u64;
    file.set_len(4 * block).await.unwrap();
    assert!(file.has_hole(0, block).unwrap());
    let mut buf = rt.arena().alloc(2 * BLOCK_BYTES).unwrap();
    buf.extend_from_slice(&[7; 2 * BLOCK_BYTES]);
    let bufs = vec![buf.freeze()];
    file.write_at(bufs, 0, WriteMode::Durable).await.unwrap();
    assert!(!file.has_hole(0, 2 * block).unwrap());
    assert!(file.has_hole(block, 2 * block).unwrap());
    assert!(file.has_hole(9 * block, block).unwrap(), "beyond the end");
}

/// A file is cut to any length, also a direct one, and extended with zeros.
pub async fn check_set_len<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::DIRECT_CREATE)
        .await
        .unwrap();
    let data = block_buf(rt.arena(), 2 * BLOCK_BYTES, 10);
    file.write_at(vec![data.clone()], 0, WriteMode::Plain)
        .await
        .unwrap();
    file.set_len(5000).await.unwrap();
    assert_eq!(file.size().unwrap(), 5000);
    assert_eq!(
        read_all(rt.arena(), &file, 0, 2 * BLOCK_BYTES).await,
        data[..5000]
    );
    file.set_len(2 * BLOCK_BYTES as u64).await.unwrap();
    let read = read_all(rt.arena(), &file, 0, 2 * BLOCK_BYTES).await;
    assert_eq!(read[..5000], data[..5000]);
    assert!(read[5000..].iter().all(|byte| *byte == 0));
    file.set_len(0).await.unwrap();
    assert_eq!(file.size().unwrap(), 0);
}

/// Existence is handled as the open mode says.
pub async fn check_open_modes<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    let open = |create| {
        rt.open(
            &path,
            OpenMode {
                direct: false,
                create,
            },
        )
    };
    let missing = open(Create::Never).await.err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    drop(open(Create::New).await.unwrap());
    let exists = open(Create::New).await.err().unwrap();
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
    drop(open(Create::IfMissing).await.unwrap());
    drop(open(Create::Never).await.unwrap());
    let gone = dir.join("no").join("such");
    let error = rt.open(&gone, OpenMode::BUFFERED_CREATE).await.err();
    assert_eq!(error.unwrap().kind(), ErrorKind::NotFound);
}

/// Clones are one open file, which lives as long as the last of them; an open file outlives its
/// name.
pub async fn check_clones_share<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    let file = rt.open(&path, OpenMode::BUFFERED_CREATE).await.unwrap();
    let clone = file.clone();
    drop(file);
    rt.remove_file(&path).await.unwrap();
    clone
        .write_at(vec![Buf::from_vec(vec![1, 2])], 0, WriteMode::Plain)
        .await
        .unwrap();
    assert_eq!(read_all(rt.arena(), &clone, 0, 2).await, [1, 2]);
    assert!(rt.open(&path, OpenMode::BUFFERED).await.is_err());
}

/// A lock excludes other opens of the file until the last clone is gone, and not its own clones.
pub async fn check_locks<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    let first = rt.open(&path, OpenMode::BUFFERED_CREATE).await.unwrap();
    let second = rt.open(&path, OpenMode::BUFFERED).await.unwrap();
    assert!(first.try_lock().unwrap());
    let clone = first.clone();
    assert!(clone.try_lock().unwrap(), "the same open file");
    assert!(!second.try_lock().unwrap());
    drop(first);
    assert!(!second.try_lock().unwrap());
    drop(clone);
    assert!(second.try_lock().unwrap());
}

/// A rename replaces a file, moves a directory with what is in it, and reports a missing source.
pub async fn check_rename<R: Runtime>(rt: R, dir: PathBuf) {
    let (from, to) = (dir.join("a"), dir.join("b"));
    for (path, byte) in [(&from, 1), (&to, 2)] {
        let file = rt.open(path, OpenMode::BUFFERED_CREATE).await.unwrap();
        file.write_at(vec![Buf::from_vec(vec![byte])], 0, WriteMode::Durable)
            .await
            .unwrap();
    }
    rt.rename(&from, &to).await.unwrap();
    rt.sync_dir(&dir).await.unwrap();
    let file = rt.open(&to, OpenMode::BUFFERED).await.unwrap();
    assert_eq!(read_all(rt.arena(), &file, 0, 1).await, [1]);
    assert_eq!(
        rt.rename(&from, &to).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let (old, new) = (dir.join("old"), dir.join("new"));
    rt.create_dir(&old).await.unwrap();
    rt.rename(&to, &old.join("b")).await.unwrap();
    rt.rename(&old, &new).await.unwrap();
    assert!(rt.open(&new.join("b"), OpenMode::BUFFERED).await.is_ok());
}

/// Directories are made (twice without complaint), listed by name, and removed when empty.
pub async fn check_dirs<R: Runtime>(rt: R, dir: PathBuf) {
    let sub = dir.join("sub");
    rt.create_dir(&sub).await.unwrap();
    rt.create_dir(&sub).await.unwrap();
    for name in ["z", "a"] {
        rt.open(&dir.join(name), OpenMode::BUFFERED_CREATE)
            .await
            .unwrap();
    }
    let entries = rt.read_dir(&dir).await.unwrap();
    let listed: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.is_dir))
        .collect();
    assert_eq!(listed, [("a", false), ("sub", true), ("z", false)]);
    rt.open(&sub.join("x"), OpenMode::BUFFERED_CREATE)
        .await
        .unwrap();
    assert!(rt.remove_dir(&sub).await.is_err(), "it is not empty");
    rt.remove_file(&sub.join("x")).await.unwrap();
    rt.remove_dir(&sub).await.unwrap();
    rt.sync_dir(&dir).await.unwrap();
    for missing in [
        rt.read_dir(&sub).await.map(drop),
        rt.remove_dir(&sub).await,
        rt.remove_file(&sub).await,
        rt.sync_dir(&sub).await,
    ] {
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let orphan = rt.create_dir(&sub.join("deep")).await;
    assert_eq!(orphan.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A whole file system is synced by way of a file on it, or says that it cannot be; a missing file is
/// an error.
pub async fn check_sync_file_system<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    assert_eq!(
        rt.sync_file_system(&path).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let file = rt.open(&path, OpenMode::BUFFERED_CREATE).await.unwrap();
    let bufs = vec![Buf::from_vec(vec![7])];
    file.write_at(bufs, 0, WriteMode::Plain).await.unwrap();
    rt.sync_file_system(&path).await.unwrap();
    assert_eq!(read_all(rt.arena(), &file, 0, 1).await, [7]);
}

/// The file system has a size, and no more available than that.
pub async fn check_disk_space<R: Runtime>(rt: R, dir: PathBuf) {
    let space = rt.disk_space(&dir).unwrap();
    assert!(space.total_bytes > 0);
    assert!(space.available_bytes <= space.total_bytes);
}

/// Dropping a future in flight harms nobody: its memory is not reused while the kernel has it.
pub async fn check_dropped_futures<R: Runtime>(rt: R, dir: PathBuf) {
    let path = dir.join("a");
    let file = rt.open(&path, OpenMode::DIRECT_CREATE).await.unwrap();
    let len = 64 * BLOCK_BYTES;
    let old = block_buf(rt.arena(), len, 11);
    file.write_at(vec![old.clone()], 0, WriteMode::Plain)
        .await
        .unwrap();
    let used = rt.arena().used_bytes();
    for round in 0..50 {
        let room = rt.arena().alloc(len).unwrap();
        let read = file.read_at(room, 0, len);
        let write = file.write_at(vec![old.clone()], 0, WriteMode::Durable);
        poll_once(read).await;
        poll_once(write).await;
        // What is allocated now must not be what the operations above still use.
        let mine = block_buf(rt.arena(), len, round);
        rt.yield_now().await;
        rt.sleep(Duration::from_micros(300)).await;
        assert_eq!(*mine, pattern(len, round));
    }
    drop(file);
    let file = rt.open(&path, OpenMode::DIRECT).await.unwrap();
    assert_eq!(read_all(rt.arena(), &file, 0, len).await, *old);
    rt.sleep(Duration::from_millis(50)).await;
    assert_eq!(rt.arena().used_bytes(), used, "memory comes back");
}

/// Polls once, then drops.
async fn poll_once(future: impl Future) {
    pin_mut!(future);
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

/// One write and one read of several MiB.
pub async fn check_large_transfer<R: Runtime>(rt: R, dir: PathBuf) {
    let file = rt
        .open(&dir.join("a"), OpenMode::DIRECT_CREATE)
        .await
        .unwrap();
    let len = 5 << 20;
    let data = block_buf(rt.arena(), len, 12);
    file.write_at(vec![data.clone()], 0, WriteMode::Durable)
        .await
        .unwrap();
    assert_eq!(read_all(rt.arena(), &file, 0, len).await, *data);
}

/// What is done aside comes back to whoever asked.
pub async fn check_aside<R: Runtime>(rt: R, _dir: PathBuf) {
    let input = pattern(100_000, 3);
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let expected = sum(&input);
    let ask = |input: Vec<u8>| {
        let aside = rt.aside().clone();
        async move { aside.run(move || (sum(&input), input)).await }
    };
    let both = join(ask(input.clone()), ask(input[..1].to_vec())).await;
    let of_one = u64::from(input[0]);
    assert_eq!(both.1, Some((of_one, input[..1].to_vec())));
    assert_eq!(both.0, Some((expected, input)));
}

/// A spawned task of either class runs by itself, and not inside `spawn`.
pub async fn check_spawn<R: Runtime>(rt: R, _dir: PathBuf) {
    let ran = Rc::new(Cell::new(0));
    for class in [TaskClass::Foreground, TaskClass::Background] {
        let before = ran.get();
        let count = ran.clone();
        rt.spawn(class, async move { count.set(count.get() + 1) });
        assert_eq!(ran.get(), before, "not before the spawner gives way");
        while ran.get() == before {
            rt.yield_now().await;
        }
    }
    assert_eq!(spawned(&rt, TaskClass::Foreground, async { 7 }).await, 7);
}

/// Sleeps end in the order of their ends, and not early.
pub async fn check_sleep_order<R: Runtime>(rt: R, _dir: PathBuf) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let start = rt.now();
    let sleeps = [30u64, 10, 20, 0].map(|ms| {
        let (rt, order) = (rt.clone(), order.clone());
        async move {
            rt.sleep(Duration::from_millis(ms)).await;
            assert!(rt.now() - start >= Duration::from_millis(ms));
            order.borrow_mut().push(ms);
        }
    });
    let sleeps = sleeps.map(|sleep| spawned(&rt, TaskClass::Foreground, sleep));
    join_all(sleeps).await;
    assert_eq!(*order.borrow(), [0, 10, 20, 30]);
}

/// Both clocks move with a sleep; a sleep can lose a race without harm.
pub async fn check_time_moves<R: Runtime>(rt: R, _dir: PathBuf) {
    let (before, wall_before) = (rt.now(), rt.wall_clock_ms());
    let short = rt.sleep(Duration::from_millis(5));
    let long = rt.sleep(Duration::from_secs(3600));
    pin_mut!(short, long);
    assert!(matches!(select(short, long).await, Either::Left(_)));
    let passed = rt.now() - before;
    assert!(passed >= Duration::from_millis(5) && passed < Duration::from_secs(60));
    assert!(rt.wall_clock_ms() >= wall_before + 4);
    assert!(
        wall_before > 1_577_836_800_000,
        "the wall clock is after 2020"
    );
}

/// Tasks wait for a budget in the order of asking, and a dropped permit lets the next one go.
pub async fn check_budget<R: Runtime>(rt: R, _dir: PathBuf) {
    let budget = Budget::new(2);
    let order = Rc::new(RefCell::new(Vec::new()));
    let most = Rc::new(Cell::new(0));
    let tasks = (0..6).map(|i| {
        let (rt, budget, order, most) = (rt.clone(), budget.clone(), order.clone(), most.clone());
        async move {
            rt.sleep(Duration::from_millis(i)).await;
            let _permit = budget.acquire(1).await;
            order.borrow_mut().push(i);
            most.set(most.get().max(budget.taken()));
            rt.sleep(Duration::from_millis(20)).await;
        }
    });
    let tasks: Vec<_> = tasks
        .map(|task| spawned(&rt, TaskClass::Foreground, task))
        .collect();
    join_all(tasks).await;
    assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5]);
    assert_eq!((most.get(), budget.taken()), (2, 0));
}

/// Buffers of the arena are aligned and do not overlap.
pub async fn check_arena<R: Runtime>(rt: R, _dir: PathBuf) {
    let sizes = [1, BLOCK_BYTES, 5000, 1 << 20, 3 << 20];
    let bufs: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(i, len)| block_buf(rt.arena(), *len, i as u8))
        .collect();
    for (i, buf) in bufs.iter().enumerate() {
        assert_eq!(buf.as_ptr() as usize % BLOCK_BYTES, 0);
        assert_eq!(**buf, pattern(sizes[i], i as u8));
    }
}

/// Random bits differ.
pub async fn check_random<R: Runtime>(rt: R, _dir: PathBuf) {
    let mut drawn: Vec<_> = (0..8).map(|_| rt.random_u64()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 8);
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A connected pair: the accepting side, the connecting side.
async fn pair<R: Runtime>(rt: &R) -> (R::Socket, R::Socket) {
    let listener = rt.listen(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let (accepted, connected) = join(listener.accept(), rt.connect(address)).await;
    (accepted.unwrap(), connected.unwrap())
}

/// Reads exactly `len` bytes, or fewer at the end of the stream.
async fn receive<S: Socket>(arena: &Arena, socket: &S, len: usize) -> Vec<u8> {
    let mut received = Vec::with_capacity(len);
    while received.len() < len {
        let room = arena.alloc((len - received.len()).min(256 << 10)).unwrap();
        let (result, buf) = socket.read(room).await;
        if result.unwrap() == 0 {
            break;
        }
        received.extend_from_slice(&buf);
    }
    received
}

/// Small messages go back and forth; both sides know their addresses.
pub async fn check_echo<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    assert_eq!(server.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    let echo = async {
        loop {
            let (result, buf) = server.read(rt.arena().alloc(4096).unwrap()).await;
            if result.unwrap() == 0 {
                break;
            }
            server.write(vec![buf.freeze()]).await.unwrap();
        }
    };
    let talk = async {
        for i in 0..100u8 {
            let message = pattern(1 + i as usize, i);
            client
                .write(vec![Buf::from_vec(message.clone())])
                .await
                .unwrap();
            assert_eq!(receive(rt.arena(), &client, message.len()).await, message);
        }
        client.shutdown();
    };
    join(echo, talk).await;
}

/// One connection carries much in both directions at once, through clones.
pub async fn check_both_directions<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    let len = 4 << 20;
    let sends = [(server.clone(), 1), (client.clone(), 2)].map(|(socket, seed)| {
        let data = block_buf(rt.arena(), len, seed);
        spawned(&rt, TaskClass::Foreground, async move {
            socket.write(vec![data]).await.unwrap();
        })
    });
    let (at_server, at_client) = (
        receive(rt.arena(), &server, len),
        receive(rt.arena(), &client, len),
    );
    let (_, (at_server, at_client)) = join(join_all(sends), join(at_server, at_client)).await;
    assert!(at_server == pattern(len, 2));
    assert!(at_client == pattern(len, 1));
}

/// Many pieces, small and large, arrive as one stream.
pub async fn check_vectored_send<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    let large = block_buf(rt.arena(), 3 << 20, 13);
    let mut bufs = vec![Buf::from_vec(Vec::new()), large.slice(5..2 << 20)];
    bufs.extend((0..2000).map(|i| large.slice(i..i + i % 9)));
    bufs.push(large.slice(100..3 << 20));
    let expected: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
    let (sent, received) = join(
        client.write(bufs),
        receive(rt.arena(), &server, expected.len()),
    )
    .await;
    sent.unwrap();
    assert!(received == expected);
    client.write(Vec::new()).await.unwrap();
}

/// What was sent before a shutdown arrives, then the end; writes after it are errors.
pub async fn check_end_of_stream<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    client
        .write(vec![Buf::from_vec(b"last words".to_vec())])
        .await
        .unwrap();
    client.shutdown();
    assert!(client.write(vec![Buf::from_vec(vec![1])]).await.is_err());
    assert_eq!(receive(rt.arena(), &server, 100).await, b"last words");
    assert_eq!(receive(rt.arena(), &server, 100).await, b"");
    assert_eq!(receive(rt.arena(), &client, 100).await, b"");
}

/// A pending read sees the end when its own side is shut down, or the other.
pub async fn check_shutdown_wakes<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    let reads = [server.clone(), client.clone()].map(|socket| {
        let room = rt.arena().alloc(1).unwrap();
        spawned(&rt, TaskClass::Foreground, async move {
            assert_eq!(socket.read(room).await.0.unwrap(), 0);
        })
    });
    let end = async {
        rt.sleep(Duration::from_millis(5)).await;
        server.shutdown();
    };
    join(join_all(reads), end).await;
}

/// A socket ends with its last clone, even while an abandoned read is pending on it.
pub async fn check_last_drop_closes<R: Runtime>(rt: R, _dir: PathBuf) {
    let (server, client) = pair(&rt).await;
    poll_once(server.read(rt.arena().alloc(1).unwrap())).await;
    let clone = server.clone();
    drop(server);
    let room = rt.arena().alloc(1).unwrap();
    let read = client.read(room);
    let short = rt.sleep(Duration::from_millis(5));
    pin_mut!(read, short);
    let Either::Right((_, read)) = select(read, short).await else {
        panic!("a clone is left")
    };
    drop(clone);
    assert_eq!(read.await.0.unwrap(), 0);
}

/// Connecting to nobody is an error.
pub async fn check_connect_refused<R: Runtime>(rt: R, _dir: PathBuf) {
    let listener = rt.listen(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = rt.connect(address).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Many connections at a time, each with its own bytes.
pub async fn check_many_connections<R: Runtime>(rt: R, _dir: PathBuf) {
    let listener = rt.listen(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = rt.clone();
    rt.spawn(TaskClass::Foreground, async move {
        for _ in 0..60 {
            let socket = listener.accept().await.unwrap();
            let arena = serving.arena().clone();
            serving.spawn(TaskClass::Foreground, async move {
                let message = receive(&arena, &socket, 20).await;
                let reply = vec![Buf::from_vec(message)];
                socket.write(reply).await.unwrap();
            });
        }
    });
    let clients = (0..60).map(|i| {
        let rt = rt.clone();
        async move {
            let socket = rt.connect(address).await.unwrap();
            let message = pattern(20, i);
            socket
                .write(vec![Buf::from_vec(message.clone())])
                .await
                .unwrap();
            assert_eq!(receive(rt.arena(), &socket, 20).await, message);
            assert_eq!(receive(rt.arena(), &socket, 1).await, b"");
        }
    });
    join_all(clients).await;
}

/// An abandoned accept does not keep the listener: connecting afterwards is refused, or ends at
/// once where a connection had already been taken.
pub async fn check_dropped_accept<R: Runtime>(rt: R, _dir: PathBuf) {
    let listener = rt.listen(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    poll_once(listener.accept()).await;
    drop(listener);
    rt.sleep(Duration::from_millis(20)).await;
    if let Ok(socket) = rt.connect(address).await {
        let (result, _) = socket.read(rt.arena().alloc(1).unwrap()).await;
        assert!(matches!(result, Ok(0) | Err(_)));
    }
}

/// Messages of one sender arrive in its order, whichever way they were sent; those of another may
/// stand between them.
pub async fn check_lane_order<R: Runtime>(rt: R, _dir: PathBuf) {
    let (sender, mut receiver) = rt.lane(UNBOUNDED);
    for name in 0..3_usize {
        let (sender, pausing) = (sender.clone(), rt.clone());
        rt.spawn(TaskClass::Foreground, async move {
            for number in 0..50 {
                match number % 3 {
                    0 => sender.try_send((name, number)).unwrap(),
                    1 => sender.send((name, number)).await.unwrap(),
                    _ => {
                        sender.send((name, number)).await.unwrap();
                        pausing.sleep(Duration::from_micros(20)).await;
                    }
                }
            }
        });
    }
    drop(sender);
    let mut next = [0; 3];
    while let Some((name, number)) = receiver.recv().await {
        assert_eq!(number, next[name], "of sender {name}");
        next[name] += 1;
    }
    assert_eq!(next, [50; 3]);
}

/// Senders of a full lane wait until the receiver has taken something.
pub async fn check_lane_is_bounded<R: Runtime>(rt: R, _dir: PathBuf) {
    let (sender, mut receiver) = rt.lane(2);
    sender.try_send(0).unwrap();
    sender.send(1).await.unwrap();
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    let sent = Rc::new(Cell::new(2));
    let counting = sent.clone();
    rt.spawn(TaskClass::Foreground, async move {
        for number in 2..20 {
            sender.send(number).await.unwrap();
            counting.set(number + 1);
        }
    });
    rt.sleep(Duration::from_millis(20)).await;
    assert_eq!(sent.get(), 2);
    for number in 0..20 {
        assert_eq!(receiver.recv().await, Some(number));
        assert!(sent.get() <= number + 3, "{} sent", sent.get());
    }
    assert_eq!(receiver.recv().await, None);
}

/// A receiver that waits sees all messages and then the end, when the last sender goes.
pub async fn check_lane_ends_behind_its_messages<R: Runtime>(rt: R, _dir: PathBuf) {
    let (sender, mut receiver) = rt.lane(UNBOUNDED);
    let other = sender.clone();
    let sending = rt.clone();
    rt.spawn(TaskClass::Background, async move {
        sending.sleep(Duration::from_millis(1)).await;
        drop(other);
        sending.sleep(Duration::from_millis(1)).await;
        for number in 0..100 {
            sender.try_send(number).unwrap();
        }
    });
    for number in 0..100 {
        assert_eq!(receiver.recv().await, Some(number));
    }
    assert_eq!(receiver.recv().await, None);
    assert_eq!(receiver.recv().await, None, "the end stays");
}

/// A sender learns that the receiver is gone: when it sends, while it waits for room, and when it
/// waits for that alone.
pub async fn check_lane_gives_back_what_nobody_receives<R: Runtime>(rt: R, _dir: PathBuf) {
    let (sender, receiver) = rt.lane(1);
    sender.send(1).await.unwrap();
    assert!(!sender.is_closed());
    let leaving = rt.clone();
    rt.spawn(TaskClass::Foreground, async move {
        leaving.sleep(Duration::from_millis(1)).await;
        drop(receiver);
    });
    let (waiting, end) = join(sender.send(2), sender.closed()).await;
    assert_eq!((waiting, end), (Err(LaneClosed(2)), ()));
    assert_eq!(sender.send(3).await, Err(LaneClosed(3)));
    assert_eq!(sender.try_send(4), Err(TrySendError::Closed(4)));
    assert!(sender.is_closed());
}
