//! The directories of partitions, before anything is replayed into them.

use std::io;
use std::path::Path;

use crate::log::error::StorageError;
use crate::log::partition_dirs::{make_dir, put_aside_stranger, topic_of};
use crate::log::partition_files::{SegmentFile, segment_path};
use crate::model::Offset;
use crate::rt::{Create, File, OpenMode, Runtime};

use super::part::Part;

/// Gives a partition the directory of its name; tells whether one was made.
pub async fn place<R: Runtime>(data_dir: &Path, part: &mut Part<R>) -> Result<bool, StorageError> {
    let (rt, id) = (&part.rt, part.content.id);
    put_aside_stranger(rt, data_dir, &part.content.topic, id.index, id.topic).await?;
    if part.is_new {
        make_dir(rt, &part.dir, id.topic).await?;
        create_first_segment(rt, &part.dir).await?;
    } else if topic_of(rt, &part.dir).await?.is_none() {
        part.take_offline(format!("{} is missing", part.dir.display()));
    }
    Ok(part.is_new)
}

async fn create_first_segment<R: Runtime>(rt: &R, dir: &Path) -> io::Result<()> {
    let mode = OpenMode {
        direct: true,
        create: Create::IfMissing,
    };
    let file = rt
        .open(&segment_path(dir, Offset::ZERO, SegmentFile::Log), mode)
        .await?;
    file.size()?;
    rt.sync_dir(dir).await
}
