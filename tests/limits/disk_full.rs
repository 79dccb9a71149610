//! A disk that fills up: writing waits, the rest goes on, and nothing must be restarted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corelane::wire::ErrorCode;

use crate::common::{Batch, Broker, Connection, Noise, Options, Read, skip};

const DISK_MIB: u64 = 224;
const TOPIC: &str = "full";
const VICTIM: &str = "victim";
const LATE: &str = "late";
const RESUME_LIMIT: Duration = Duration::from_secs(30);

/// An ext4 file system of its own in a file, for as long as this lives.
struct SmallDisk {
    mount: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None where the machine does not allow it.
    fn make() -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::create_dir(&mount).ok()?;
        let file = std::fs::File::create(&image).ok()?;
        file.set_len(DISK_MIB << 20).ok()?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&mount))?;
        Some(Self { mount, _dir: dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

fn run(command: &mut Command) -> Option<()> {
    let output = command.output().ok()?;
    output.status.success().then_some(())
}

#[test]
fn a_full_disk_stops_writing_and_nothing_else() {
    let Some(disk) = SmallDisk::make() else {
        return skip("a full disk: no right to mount a file system");
    };
    let options = Options::new(1)
        .set("log.segment.bytes", 16 << 20)
        .set("log.segment.delete.delay.ms", 0);
    let mut broker = Broker::start(&disk.mount.join("data"), &options);
    // The journal has its place; what is left is for segments.
    wait_for_journal(&disk.mount.join("data"));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic(VICTIM, 1, &[]), ErrorCode::None);
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let mut noise = Noise::new(1);
    for _ in 0..40 {
        connection
            .produce(VICTIM, 0, &batch(&mut noise))
            .expect("room");
    }
    let ballast = disk.mount.join("ballast");
    std::fs::write(&ballast, vec![1; 40 << 20]).expect("room");
    let (written, code) = fill(&mut connection, &mut noise);
    println!("disk full: after {written} batches of 512 KiB produce says {code:?}");
    assert!(code.is_retriable(), "{code:?}");
    assert!(broker.is_alive(), "{}", broker.log());
    let read = connection.read_partition(TOPIC, 0, 0);
    assert_eq!(read.len(), written, "what was acknowledged can be read");
    assert!(connection.answers());

    std::fs::remove_file(ballast).expect("the ballast");
    let resumed = resume(&mut connection, &mut noise);
    println!("disk full: writing resumed {resumed:?} after there was room");
    let (more, code) = fill(&mut connection, &mut noise);
    assert!(code.is_retriable(), "{code:?}");
    let created = connection.create_topic(LATE, 4, &[]);
    println!("disk full: CreateTopics says {created:?}");
    let deleted = connection.delete_topic(VICTIM);
    assert_eq!(deleted, ErrorCode::None, "deletes go on");
    let resumed = resume(&mut connection, &mut noise);
    println!("disk full: writing resumed {resumed:?} after a topic was deleted");
    if created != ErrorCode::None {
        let again = connection.create_topic(LATE, 4, &[]);
        assert_eq!(
            again,
            ErrorCode::None,
            "nothing is left of what was refused"
        );
    }
    let first = Batch::of([noise.bytes(100)]).bytes();
    assert_eq!(
        connection.produce(LATE, 3, &first),
        Ok(0),
        "what is answered is there"
    );

    let total = written + 1 + more + 1;
    assert_eq!(connection.read_partition(TOPIC, 0, 0).len(), total);
    drop(connection);
    let status = broker.stop();
    assert!(status.success(), "{status}");
    let broker = Broker::start(&disk.mount.join("data"), &options);
    assert_eq!(
        broker.connect().read_partition(TOPIC, 0, 0).len(),
        total,
        "after a restart"
    );
    broker.kill();
}

/// The first batch of a new producer finds no room, and the small one behind it would: were it taken,
/// the first one could never follow.
#[test]
fn a_producer_whose_batch_finds_no_room_goes_on_in_order() {
    let Some(disk) = SmallDisk::make() else {
        return skip("a full disk: no right to mount a file system");
    };
    let broker = Broker::start(&disk.mount.join("data"), &Options::new(1));
    wait_for_journal(&disk.mount.join("data"));
    let mut connection = broker.connect();
    assert_eq!(connection.create_topic(TOPIC, 1, &[]), ErrorCode::None);
    let mut noise = Noise::new(2);
    // Space is reserved in steps: these leave some behind them, which a small batch finds.
    for _ in 0..3 {
        let batch = Batch::of([noise.bytes(300_000)]).bytes();
        connection.produce(TOPIC, 0, &batch).expect("room");
    }
    let ballast = disk.mount.join("ballast");
    take_all(&ballast);
    let of_producer = |sequence: i32, value: Vec<u8>| {
        let producer = Some((77, 0, sequence));
        let batch = Batch::of([value]);
        Batch { producer, ..batch }.bytes()
    };
    let large = of_producer(0, noise.bytes(900_000));
    let small = of_producer(1, b"second".to_vec());
    for batch in [&large, &small] {
        connection.send_batch(TOPIC, 0, batch).expect("sent");
    }
    for which in ["the large one", "the small one behind it"] {
        let code = connection
            .receive_ack()
            .expect("an answer")
            .expect_err(which);
        assert!(code.is_retriable(), "{which}: {code:?}");
    }
    // Others wait for nobody.
    let anonymous = Batch::of([b"x".to_vec()]).bytes();
    assert_eq!(connection.produce(TOPIC, 0, &anonymous), Ok(3));
    std::fs::remove_file(&ballast).expect("the ballast");
    let began = Instant::now();
    while let Err(code) = connection.produce(TOPIC, 0, &large) {
        assert!(code.is_retriable(), "{code:?}");
        let waited = began.elapsed();
        assert!(waited < RESUME_LIMIT, "writing does not resume: {code:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(connection.produce(TOPIC, 0, &small), Ok(5));
    let sizes = |read: Vec<Read>| -> Vec<_> {
        let value = |read: Read| read.value.map_or(0, |value| value.len());
        read.into_iter().map(value).collect()
    };
    let read = sizes(connection.read_partition(TOPIC, 0, 3));
    assert_eq!(read, [1, 900_000, 6]);
    broker.kill();
}

/// Fills the disk to its last block.
fn take_all(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).expect("a file");
    for piece in [1 << 20, 4096] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

/// One record of 512 KiB.
fn batch(noise: &mut Noise) -> Vec<u8> {
    Batch::of([noise.bytes(512 << 10)]).bytes()
}

/// Writes until the broker refuses; gives how many batches it took, and why no more.
fn fill(connection: &mut Connection, noise: &mut Noise) -> (usize, ErrorCode) {
    for written in 0..2 * DISK_MIB as usize {
        if let Err(code) = connection.produce(TOPIC, 0, &batch(noise)) {
            return (written, code);
        }
    }
    panic!("the disk does not fill up");
}

/// Tries one batch until it is taken.
fn resume(connection: &mut Connection, noise: &mut Noise) -> Duration {
    let (began, batch) = (Instant::now(), batch(noise));
    while let Err(code) = connection.produce(TOPIC, 0, &batch) {
        assert!(code.is_retriable(), "{code:?}");
        assert!(
            began.elapsed() < RESUME_LIMIT,
            "writing does not resume: {code:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

fn wait_for_journal(data: &Path) {
    let journal = data.join("shard-0/journal");
    let bytes = || -> u64 {
        let entries = std::fs::read_dir(&journal).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.len())
            .sum()
    };
    let began = Instant::now();
    while bytes() < 32 << 20 {
        assert!(
            began.elapsed() < RESUME_LIMIT,
            "the journal has {} bytes",
            bytes()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
