//! One partition while it is recovered: its checkpoint, and the journal's bytes on top.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::error::is_disk_full;
use crate::log::files::lock::open_locked;
use crate::log::files::partition_dirs::make_dir;
use crate::log::files::partition_files::{
    SegmentFile, SegmentId, parse_prepared, partition_dir, prepared_name, segment_path,
};
use crate::log::journal::{EventChange, PartitionEvent};
use crate::log::options::KnownPartition;
use crate::log::partition::snapshot::Snapshot;
use crate::log::rules::{Rule, holds};
use crate::log::segment::position::Position;
use crate::log::segment::replacement::Replacement;
use crate::log::segment::walk::alloc;
use crate::model::{Offset, TopicId};
use crate::rt::{BLOCK_BYTES, Buf, Create, File, OpenMode, Runtime, WriteMode};

use super::overlay::{Pending, Placement, Reach};
use super::ownership::Ownership;

/// Partitions whose files are worked on at the same time: each is a few small operations, one after
/// the other.
pub const PARTITIONS_AT_A_TIME: usize = 64;

const MAX_WRITE_BYTES: usize = 1 << 20;

/// What the data directory lists under the name of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedDir {
    /// No directory; there may be a link to one.
    Nothing,
    /// A directory that does not say whose it is.
    Unmarked,
    /// A directory of this topic.
    Of(TopicId),
}

/// What a partition's directory is, before anything of the journal is laid over its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundDir {
    /// Not there: nothing was appended yet, or what was is in the journal alone.
    Missing,
    /// There, but it does not say whose it is: making it was cut short.
    Unfinished,
    /// There, and marked as the topic's.
    Marked,
}

/// A partition that is being recovered.
pub struct RecoveringPartition<R: Runtime> {
    pub rt: R,
    /// The producers' time of what is replayed.
    pub producers_ms: i64,
    pub dir: PathBuf,
    pub snapshot: Snapshot,
    pub ownership: Ownership,
    /// Nothing of it was in segment files at the last checkpoint: whatever it has is in the journal, and
    /// its directory may not be there, or not be durable.
    pub is_fresh: bool,
    /// What the data directory lists under its name.
    pub listed: ListedDir,
    pub found_dir: FoundDir,
    pub reach: Reach,
    /// Segments that the journal has written to, with the bytes they have then.
    pub replayed: BTreeMap<Offset, u64>,
    pub pending: Option<Pending>,
    /// Entries of it may be lost, unless a later one continues.
    pub suspect: Option<String>,
    /// Why what the journal has of it ends before the journal does.
    pub broken: Option<String>,
    /// Segments whose files are shorter than what was written to them, and the bytes there are.
    pub short: Vec<(SegmentId, u64)>,
    /// Segments that others have replaced, as the journal says, and those.
    pub replaced: Vec<Replacement>,
    /// For that, what the journal has of it waits for the later pass.
    pub is_later: bool,
    /// Why it is offline until its files are there again.
    pub lacks: Option<String>,
    /// The journal has something of it that nothing else has.
    pub needs_journal: bool,
    /// Its directory is not one that the data directory lists: it may be a link to another disk.
    pub is_elsewhere: bool,
    /// Segments whose files are to be synced before a checkpoint tells of them.
    pub unsynced: BTreeSet<Offset>,
    /// So is the directory: names in it were changed, or may never have become durable.
    pub has_unsynced_names: bool,
    file: Option<(Offset, R::File)>,
}

impl<R: Runtime> RecoveringPartition<R> {
    /// A known partition, with what the last checkpoint says of it; what is replayed was appended at
    /// `producers_ms`, as far as its producers are concerned.
    pub fn new(
        rt: &R,
        data_dir: &Path,
        known: &KnownPartition,
        snapshot: Option<Snapshot>,
        producers_ms: i64,
        listed: ListedDir,
    ) -> Self {
        let empty = || Snapshot::empty(known.id, &known.topic, rt.wall_clock_ms());
        let snapshot = snapshot.unwrap_or_else(empty);
        let (checkpointed, in_metadata) = (snapshot.owner_epoch(), known.owner_epoch);
        let ownership = Ownership::new(known.former_shard, checkpointed, in_metadata);
        // Nothing else of what it says hangs on the owner; from here on it is the next one's.
        let snapshot = snapshot.owned_by(known.next_owner_epoch);
        Self {
            rt: rt.clone(),
            producers_ms,
            dir: data_dir.join(partition_dir(&known.topic, known.id.index)),
            reach: Reach::new(snapshot.written_back()),
            is_fresh: snapshot.written_back() == Position::default(),
            listed,
            found_dir: FoundDir::Missing,
            snapshot,
            ownership,
            replayed: BTreeMap::new(),
            pending: None,
            suspect: None,
            broken: None,
            short: Vec::new(),
            replaced: Vec::new(),
            is_later: false,
            lacks: None,
            needs_journal: false,
            is_elsewhere: false,
            unsynced: BTreeSet::new(),
            has_unsynced_names: false,
            file: None,
        }
    }

    /// Whether the partition cannot be used.
    pub fn is_offline(&self) -> bool {
        self.snapshot.offline().is_some()
    }

    /// Takes the partition out of use, for this reason unless there is one. The journal is evidence.
    pub fn take_offline(&mut self, reason: String) {
        self.snapshot.take_offline(reason);
        self.needs_journal = true;
    }

    /// Takes an event of the journal; one that was taken before does nothing.
    pub fn take_event(&mut self, event: &PartitionEvent) {
        let replaces = matches!(event.change, EventChange::SegmentsReplaced(_));
        if !replaces || holds(Rule::ReplayReplacesSegments) {
            self.replaced.extend(self.snapshot.apply_event(event));
        }
    }

    /// Takes data of the journal. Its bytes wait until [`RecoveringPartition::flush`].
    pub async fn replay(&mut self, at: Position, payload: &[Buf]) -> io::Result<()> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        let placement = self.reach.place(at, bytes as u64);
        if self.is_offline() || self.broken.is_some() {
            self.needs_journal |= placement != Placement::Known;
            return Ok(());
        }
        match placement {
            Placement::Known => self.suspect = None,
            Placement::Continues { skip, at } => {
                self.suspect = None;
                self.take(at, skip as usize, payload).await?;
                self.reach.extend(at, bytes as u64 - skip);
                self.replayed.insert(at.segment, self.reach.end().byte);
            }
            Placement::Gap => {
                let end = self.reach.end();
                self.broken = Some(format!(
                    "the journal's bytes go on at {} of segment {}, those before end at {} of segment {}",
                    at.byte, at.segment, end.byte, end.segment,
                ));
            }
        }
        Ok(())
    }

    async fn take(&mut self, at: Position, mut skip: usize, payload: &[Buf]) -> io::Result<()> {
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.segment != at.segment)
        {
            self.flush(true).await?;
            self.pending = None;
            // There may be more partitions whose segments change than files that can be open.
            self.close();
        }
        let pending = self.pending.get_or_insert_with(|| Pending::at(at));
        for piece in payload {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            pending.bytes.extend_from_slice(&piece[skipped..]);
        }
        Ok(())
    }

    /// Writes the whole blocks that wait, and the rest, padded with zeros, when `rest_too`.
    pub async fn flush(&mut self, rest_too: bool) -> io::Result<()> {
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        let segment = pending.segment;
        let (start, blocks) = pending.take_blocks();
        let rest = (pending.start, pending.bytes.clone());
        let writes_rest = rest_too && !rest.1.is_empty();
        if blocks.is_empty() && !writes_rest {
            return Ok(());
        }
        self.need_dir().await?;
        let file = self.open(segment).await?;
        self.unsynced.insert(segment);
        for (number, piece) in blocks.chunks(MAX_WRITE_BYTES).enumerate() {
            let offset = start + (number * MAX_WRITE_BYTES) as u64;
            write_padded(&self.rt, &file, offset, piece).await?;
        }
        if writes_rest && !self.is_cut_behind(&file, rest.0, &rest.1).await? {
            write_padded(&self.rt, &file, rest.0, &rest.1).await?;
        }
        Ok(())
    }

    /// Whether a file ends with these bytes, at `start`, already: its segment was sealed, and cut to its
    /// length. To write them again, with zeros up to the next block, takes room that there may not be.
    ///
    /// An example. A segment of 9,000 bytes lies on a file system with blocks of 1 KiB, and has nine of them;
    /// its last 808 bytes with zeros up to 12,288 would need three more.
    async fn is_cut_behind(&self, file: &R::File, start: u64, bytes: &[u8]) -> io::Result<bool> {
        let size = file.size()?;
        if size % BLOCK_BYTES as u64 == 0 || size != start + bytes.len() as u64 {
            return Ok(false);
        }
        let block = alloc(&self.rt, BLOCK_BYTES).await?;
        let (read, block) = file.read_at(block, start, BLOCK_BYTES).await;
        read?;
        Ok(*block == *bytes)
    }

    /// Makes the directory where it is not there, waiting for room on a full disk.
    pub async fn need_dir(&mut self) -> io::Result<()> {
        if self.found_dir == FoundDir::Marked {
            return Ok(());
        }
        loop {
            match make_dir(&self.rt, &self.dir, self.snapshot.id().topic).await {
                Err(error) if is_disk_full(&error) => wait_for_room(&self.rt).await,
                made => break made?,
            }
        }
        self.found_dir = FoundDir::Marked;
        self.has_unsynced_names = true;
        Ok(())
    }

    /// The journal has said where the log starts or ends, or what it holds.
    pub fn is_touched(&self) -> bool {
        !self.is_fresh || !self.replayed.is_empty() || self.snapshot.end().offset > Offset::ZERO
    }

    /// The data file of a segment that is appended to. One that is missing is made from the first that was
    /// prepared, which has the space that was promised to what the journal has of it; or anew.
    pub async fn open(&mut self, segment: Offset) -> io::Result<R::File> {
        if let Some((_, file)) = self.file.as_ref().filter(|(base, _)| *base == segment) {
            return Ok(file.clone());
        }
        self.close();
        let path = segment_path(&self.dir, SegmentId::appended(segment), SegmentFile::Log);
        let file = match open_locked(&self.rt, &path, OpenMode::DIRECT).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.has_unsynced_names = true;
                if let Some(number) = self.prepared_files().await?.first() {
                    let prepared = self.dir.join(prepared_name(*number));
                    self.rt.rename(&prepared, &path).await?;
                }
                let mode = OpenMode {
                    direct: true,
                    create: Create::IfMissing,
                };
                open_locked(&self.rt, &path, mode).await?
            }
            opened => opened?,
        };
        self.file = Some((segment, file.clone()));
        Ok(file)
    }

    /// The numbers of files that were prepared, in the order in which segments began in them.
    async fn prepared_files(&self) -> io::Result<Vec<u64>> {
        let entries = self.rt.read_dir(&self.dir).await?;
        let names = entries.iter().map(|entry| entry.name.as_str());
        let mut numbers: Vec<u64> = names.filter_map(parse_prepared).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Lets go of the open file.
    pub fn close(&mut self) {
        self.file = None;
    }
}

async fn wait_for_room<R: Runtime>(rt: &R) {
    const RETRY: Duration = Duration::from_secs(1);
    tracing::warn!("recovery waits for disk space");
    rt.sleep(RETRY).await;
}

/// Writes bytes, zeros up to the next block behind them, waiting for room on a full disk.
async fn write_padded<R: Runtime>(
    rt: &R,
    file: &R::File,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let mut buf = alloc(rt, bytes.len()).await?;
    buf.extend_from_slice(bytes);
    buf.extend_zeroed(bytes.len().next_multiple_of(BLOCK_BYTES) - bytes.len());
    let buf = buf.freeze();
    loop {
        match file
            .write_at(vec![buf.clone()], offset, WriteMode::Plain)
            .await
        {
            Err(error) if is_disk_full(&error) => wait_for_room(rt).await,
            result => return result,
        }
    }
}
