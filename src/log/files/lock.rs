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
