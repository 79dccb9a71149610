//! Small files: read as a whole; replaced as a whole, so that after a crash there is the old one or
//! the new one; or grown at their end.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::error::StorageError;
use crate::rt::{Buf, File, OpenMode, Runtime, WriteMode};

/// No file that is read this way is longer; one that claims to be is refused.
const LIMIT_BYTES: u64 = 64 << 20;

/// The whole content of a file; `None` when it does not exist.
///
/// # Errors
/// `FileTooLarge` for more than 64 MiB; what the file system gives.
pub async fn read_small<R: Runtime>(rt: &R, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match rt.open(path, OpenMode::BUFFERED).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let size = file.size()?;
    if size > LIMIT_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let buffer = rt.arena().alloc(size as usize).map_err(io::Error::other)?;
    let (result, buffer) = file.read_at(buffer, 0, size as usize).await;
    result?;
    Ok(Some(buffer.to_vec()))
}

/// Writes a small file from `offset` on through the page cache; from the start, it also ends where
/// the bytes end.
pub async fn write_small<R: Runtime>(
    rt: &R,
    path: &Path,
    offset: u64,
    bytes: Vec<u8>,
) -> io::Result<R::File> {
    let file = rt.open(path, OpenMode::BUFFERED_CREATE).await?;
    let end = offset + bytes.len() as u64;
    if !bytes.is_empty() {
        let bufs = vec![Buf::from_vec(bytes)];
        file.write_at(bufs, offset, WriteMode::Plain).await?;
    }
    if offset == 0 && file.size()? != end {
        file.set_len(end).await?;
    }
    Ok(file)
}

/// Cuts a file that is longer to `bytes`; none is no error.
pub async fn cut_small<R: Runtime>(rt: &R, path: &Path, bytes: u64) -> io::Result<()> {
    let file = match rt.open(path, OpenMode::BUFFERED).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    match file.size()? > bytes {
        true => file.set_len(bytes).await,
        false => Ok(()),
    }
}

/// Replaces a file, durably when it returns.
pub async fn replace_small<R: Runtime>(rt: &R, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    put_small(rt, path, bytes).await?;
    rt.sync_dir(path.parent().unwrap_or(Path::new("."))).await
}

/// Replaces a file; durable once its directory is synced, too.
pub async fn put_small<R: Runtime>(rt: &R, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let fresh = fresh_path(path);
    let file = rt.open(&fresh, OpenMode::BUFFERED_CREATE).await?;
    // An attempt that was cut short may have left a longer one.
    file.set_len(0).await?;
    file.write_at(vec![Buf::from_vec(bytes)], 0, WriteMode::Plain)
        .await?;
    file.sync().await?;
    rt.rename(&fresh, path).await
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What is final: after a sync that failed, one that succeeds says nothing of the names before.
pub async fn sync_names<R: Runtime>(rt: &R, dir: &Path) -> Result<(), StorageError> {
    let synced = rt.sync_dir(dir).await;
    synced.map_err(|error| StorageError::of_sync(dir, error))
}

/// Reserves the first `bytes` of a file; durable when it returns.
///
/// # Errors
/// `StorageFull` when the disk has no room; the file is as it was.
pub async fn reserve_durably<F: File>(file: &F, bytes: u64) -> io::Result<()> {
    file.allocate(0, bytes).await?;
    file.sync().await
}

fn fresh_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}
