//! A segment that is written as a whole, batch after batch, behind none of the log's promises until it
//! is durable.

use std::io;
use std::path::Path;

use crate::log::files::partition_files::SegmentId;
use crate::log::segment::facts::SegmentFacts;
use crate::log::segment::index::{IndexedBatch, SegmentIndex};
use crate::log::segment::index_files::IndexTail;
use crate::log::segment::walk::alloc;
use crate::model::Offset;
use crate::model::batch::BatchView;
use crate::rt::{BLOCK_BYTES, BufMut, File, Runtime, WriteMode};

/// Bytes of one write.
const WRITE_BYTES: usize = 256 << 10;

/// A segment on its way to its files.
pub struct SegmentOutput<R: Runtime> {
    rt: R,
    file: R::File,
    facts: SegmentFacts,
    index: SegmentIndex,
    interval_bytes: u64,
    /// Bytes that are in the file.
    written_bytes: u64,
    /// Those behind, from a block boundary on.
    gathered: Option<BufMut>,
}

impl<R: Runtime> SegmentOutput<R> {
    /// Nothing in it yet, and an empty file. It counts as begun at `created_ms`.
    pub fn new(
        rt: R,
        file: R::File,
        id: SegmentId,
        created_ms: i64,
        index_interval_bytes: u64,
    ) -> Self {
        let base_offset = id.base_offset;
        Self {
            rt,
            file,
            facts: SegmentFacts {
                generation: id.generation,
                ..SegmentFacts::empty(base_offset, created_ms)
            },
            index: SegmentIndex::new(base_offset),
            interval_bytes: index_interval_bytes,
            written_bytes: 0,
            gathered: None,
        }
    }

    /// What is in it so far.
    pub fn facts(&self) -> &SegmentFacts {
        &self.facts
    }

    /// Where that is.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Adds a batch that lies behind the last one.
    pub async fn push(&mut self, batch: &BatchView<'_>) -> io::Result<()> {
        let position = u32::try_from(self.facts.size_bytes).unwrap_or(u32::MAX);
        let indexed = IndexedBatch::of(batch, position);
        self.index.append(&indexed, self.interval_bytes);
        self.facts.dense &= batch.base_offset() == self.facts.end_offset;
        let bytes = batch.bytes().len() as u64;
        self.facts
            .count(batch.last_offset(), bytes, batch.max_timestamp_ms());
        let mut rest = batch.bytes();
        while !rest.is_empty() {
            let mut gathered = match self.gathered.take() {
                Some(gathered) => gathered,
                None => alloc(&self.rt, WRITE_BYTES).await?,
            };
            let (now, later) = rest.split_at(rest.len().min(gathered.room()));
            gathered.extend_from_slice(now);
            rest = later;
            match gathered.room() {
                0 => self.write(gathered).await?,
                _ => self.gathered = Some(gathered),
            }
        }
        Ok(())
    }

    async fn write(&mut self, mut gathered: BufMut) -> io::Result<()> {
        let bytes = gathered.len();
        gathered.extend_zeroed(bytes.next_multiple_of(BLOCK_BYTES) - bytes);
        let bufs = vec![gathered.freeze()];
        let written = self
            .file
            .write_at(bufs, self.written_bytes, WriteMode::Plain);
        written.await?;
        self.written_bytes += bytes as u64;
        Ok(())
    }

    /// Ends it where the next segment begins, at its exact length; not durable yet. Gives its file, and
    /// what is known of it.
    pub async fn finish(
        mut self,
        dir: &Path,
        end_offset: Offset,
    ) -> io::Result<(R::File, SegmentFacts)> {
        if let Some(gathered) = self.gathered.take() {
            self.write(gathered).await?;
        }
        self.file.set_len(self.facts.size_bytes).await?;
        self.facts.dense &= self.facts.end_offset == end_offset;
        self.facts.end_offset = end_offset;
        self.index.finish();
        let tail = IndexTail::rest_of(&self.index, (0, 0));
        tail.write(&self.rt, dir, self.facts.id()).await?;
        Ok((self.file, self.facts))
    }
}
