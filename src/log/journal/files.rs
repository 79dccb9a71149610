//! The journal's files: opened under lock, and written with zeros before their first use, because
//! a durable write into a range that was only reserved costs up to twice as much. So are the holes
//! that a copy of the directory may have: writing there would need room when the disk is full.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::ring::Geometry;
use super::state::Shared;
use super::{JournalError, JournalOptions};
use crate::log::error::is_disk_full;
use crate::log::files::lock::open_locked;
use crate::rt::{BLOCK_BYTES, Buf, File, OpenMode, Runtime, WriteMode};

const STEP_BYTES: u64 = 1 << 20;
const RETRY: Duration = Duration::from_secs(1);

/// The files of the ring in order, and how much of it is ready.
pub(super) struct Opened<F> {
    pub files: Vec<F>,
    pub prepared_bytes: u64,
}

/// The path of a journal file.
pub(super) fn path_of(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("{index:04}"))
}

/// Makes the files of a ring in `dir` that are not there, and prepares the place of the first write,
/// durably: of a run that is committed none may be missing. Changes nothing that was written.
pub(super) async fn make<R: Runtime>(
    rt: &R,
    dir: &Path,
    geometry: Geometry,
) -> Result<(), JournalError> {
    create_dir(rt, dir).await.map_err(|e| failed(dir, e))?;
    for index in 0..geometry.file_count {
        let path = path_of(dir, index);
        let make = async {
            let file = open_locked(rt, &path, OpenMode::DIRECT_CREATE).await?;
            match index {
                0 => fill_front(rt, &file).await,
                _ => Ok(()),
            }
        };
        make.await.map_err(|error| failed(&path, error))?;
    }
    rt.sync_dir(dir).await.map_err(|error| failed(dir, error))
}

/// Writes zeros where the first write begins, if nothing is there.
async fn fill_front<R: Runtime>(rt: &R, file: &R::File) -> io::Result<()> {
    if !file.has_hole(0, BLOCK_BYTES as u64)? {
        return Ok(());
    }
    let bufs = vec![zeros(rt)?.slice(0..BLOCK_BYTES)];
    file.write_at(bufs, 0, WriteMode::Durable).await
}

/// Opens and locks the ring's files in `dir`, and prepares as much as must be ready.
pub(super) async fn open<R: Runtime>(
    rt: &R,
    dir: &Path,
    options: &JournalOptions,
) -> Result<Opened<R::File>, JournalError> {
    let geometry = options.geometry();
    create_dir(rt, dir).await.map_err(|e| failed(dir, e))?;
    let mut files = Vec::new();
    for index in 0..geometry.file_count {
        let path = path_of(dir, index);
        let file = open_one(rt, &path, geometry.file_bytes).await;
        files.push(file.map_err(|error| failed(&path, error))?);
    }
    let ready = async {
        remove_surplus(rt, dir, geometry.file_count).await?;
        rt.sync_dir(dir).await?;
        let zeros = zeros(rt)?;
        let mut prepared = 0;
        while prepared < options.ready_bytes {
            prepared += prepare_step(&files, geometry, prepared, &zeros).await?;
        }
        Ok(prepared)
    };
    let prepared_bytes = ready.await.map_err(|error| failed(dir, error))?;
    Ok(Opened {
        files,
        prepared_bytes,
    })
}

fn failed(path: &Path, source: io::Error) -> JournalError {
    JournalError::Open {
        path: path.to_owned(),
        source: Rc::new(source),
    }
}

async fn create_dir<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    rt.create_dir(dir).await?;
    match dir.parent() {
        Some(parent) => rt.sync_dir(parent).await,
        None => Ok(()),
    }
}

async fn open_one<R: Runtime>(rt: &R, path: &Path, file_bytes: u64) -> io::Result<R::File> {
    let file = open_locked(rt, path, OpenMode::DIRECT_CREATE).await?;
    if file.size()? > file_bytes {
        file.set_len(file_bytes).await?;
    }
    Ok(file)
}

/// Removes files of a ring that was longer.
async fn remove_surplus<R: Runtime>(rt: &R, dir: &Path, file_count: u32) -> io::Result<()> {
    for entry in rt.read_dir(dir).await? {
        if entry
            .name
            .parse::<u32>()
            .is_ok_and(|index| index >= file_count)
        {
            rt.remove_file(&dir.join(&entry.name)).await?;
        }
    }
    Ok(())
}

fn zeros<R: Runtime>(rt: &R) -> io::Result<Buf> {
    let bytes = STEP_BYTES as usize;
    let mut zeros = rt.arena().alloc(bytes).map_err(io::Error::other)?;
    zeros.extend_zeroed(bytes);
    Ok(zeros.freeze())
}

/// Makes the next bytes from `address` on ready, where they are not; returns how many.
async fn prepare_step<F: File>(
    files: &[F],
    geometry: Geometry,
    address: u64,
    zeros: &Buf,
) -> io::Result<u64> {
    let (index, offset) = geometry.place(address);
    let bytes = STEP_BYTES.min(geometry.rest_of_file(address));
    let Some(file) = files.get(index) else {
        return Err(io::Error::other("an address beyond the ring"));
    };
    if file.has_hole(offset, bytes)? {
        let bufs = vec![zeros.slice(0..bytes as usize)];
        file.write_at(bufs, offset, WriteMode::Durable).await?;
    }
    Ok(bytes)
}

/// Prepares the rest of the ring behind its use. A full disk keeps the ring short until there is
/// room again.
pub(super) async fn prepare<R: Runtime, T: 'static>(shared: Rc<Shared<R, T>>, files: Vec<R::File>) {
    let geometry = shared.state.borrow().ring.geometry();
    let mut prepared = shared.state.borrow().ring.prepared_bytes();
    while prepared < geometry.ring_bytes() && !shared.is_stopping() {
        let step = match zeros(&shared.rt) {
            Ok(zeros) => prepare_step(&files, geometry, prepared, &zeros).await,
            Err(_) => Ok(0),
        };
        match step {
            // No memory at the moment.
            Ok(0) => shared.rt.sleep(RETRY).await,
            Ok(bytes) => {
                prepared += bytes;
                shared.prepared(prepared);
            }
            Err(error) if is_disk_full(&error) => {
                shared.disk_full();
                shared.rt.sleep(RETRY).await;
            }
            Err(error) => shared.fail(error),
        }
    }
    drop(files);
    shared.task_stopped();
}
