//! Opening the files that one process alone may write.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::log::rules::{Rule, holds};
use crate::rt::{File, OpenMode, Runtime};

/// How long a start waits for the writes of a killed predecessor, whose locks the kernel holds
/// until they have ended.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(30);

const RETRY: Duration = Duration::from_millis(10);

/// Opens `path` and takes its lock, waiting up to [`LOCK_PATIENCE`].
///
/// # Errors
/// `ResourceBusy` when somebody else still holds the lock; what opening gives.
pub async fn open_locked<R: Runtime>(rt: &R, path: &Path, mode: OpenMode) -> io::Result<R::File> {
    let file = rt.open(path, mode).await?;
    if !holds(Rule::Locks) {
        return Ok(file);
    }
    let deadline = rt.now() + LOCK_PATIENCE;
    let mut waits = false;
    while !file.try_lock()? {
        if !std::mem::replace(&mut waits, true) {
            let path = path.display();
            tracing::info!(%path, "waiting for the process that holds the lock");
        }
        if rt.now() >= deadline {
            let message = format!("{} is locked by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        rt.sleep(RETRY).await;
    }
    Ok(file)
}

/// [`open_locked`], of a file that is read to go on from: what a killed predecessor left there is
/// durable when this returns. A reader sees it at once; the power, going later, could still take it
/// from below what was built on it.
///
/// An example: record 5 of the metadata log is on its way when the process is killed, and is seen by
/// the next start, which writes record 6 behind it, durably. Without the flush a power cut may leave 6
/// without 5, which no start can tell from rot.
pub async fn open_settled<R: Runtime>(rt: &R, path: &Path, mode: OpenMode) -> io::Result<R::File> {
    let file = open_locked(rt, path, mode).await?;
    if holds(Rule::FlushBeforeRecovery) {
        file.sync().await?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{BLOCK_BYTES, WriteMode};
    use crate::sim::{DiskModel, Sim, SimDisk, SimRuntime};

    async fn read(rt: &SimRuntime, file: &impl File) -> Vec<u8> {
        let buf = rt.arena().alloc(BLOCK_BYTES).unwrap();
        file.read_at(buf, 0, BLOCK_BYTES).await.1.to_vec()
    }

    #[test]
    fn what_a_start_has_read_outlives_the_power() {
        let path = Path::new("/f");
        for seed in 0..20 {
            let disk = SimDisk::new(DiskModel::default());
            let mut killed = Sim::new(seed, &disk);
            let rt = killed.runtime(0);
            let wrote = killed.run(async {
                let file = rt.open(path, OpenMode::DIRECT_CREATE).await.unwrap();
                let mut buf = rt.arena().alloc(BLOCK_BYTES).unwrap();
                buf.extend_zeroed(BLOCK_BYTES);
                let zeros = vec![buf.freeze()];
                file.write_at(zeros, 0, WriteMode::Durable).await.unwrap();
                rt.sync_dir(Path::new("/")).await.unwrap();
                let mut buf = rt.arena().alloc(BLOCK_BYTES).unwrap();
                buf.extend_from_slice(&[7; BLOCK_BYTES]);
                let sevens = vec![buf.freeze()];
                file.write_at(sevens, 0, WriteMode::Plain).await.unwrap();
            });
            wrote.unwrap();
            killed.process_kill();
            let mut next = Sim::new(seed, &disk);
            let rt = next.runtime(0);
            let seen = next.run(async {
                let file = open_settled(&rt, path, OpenMode::DIRECT).await.unwrap();
                read(&rt, &file).await
            });
            next.power_cut();
            assert_eq!(seen, Ok(vec![7; BLOCK_BYTES]));
            assert_eq!(disk.read_file("/f"), Some(vec![7; BLOCK_BYTES]), "{seed}");
        }
    }
}
