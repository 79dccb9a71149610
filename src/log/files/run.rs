//! The committed run: which start of the node the journals and checkpoints on disk belong to.
//!
//! The file `run` has two slots of one block. A start is committed by writing it into the slot that does
//! not hold the newest one, and then, before anything is accepted, into the other as well: a torn write
//! leaves the predecessor in force, and of a run that has accepted something no single block that rots
//! leaves the run before, whose journals and shards are others.
//!
//! | slots | what happened | in force |
//! |---|---|---|
//! | 4, 4 | run 4 accepts | 4 |
//! | torn, 4 | the start of run 5 was cut in its first write | 4 |
//! | 5, 4 | it was cut before the second one; nothing was accepted | 5 |
//! | rotten, 5 or 5, rotten | run 5 accepts | 5 |

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::files::codec::{Fields, open_header, seal_header};
use crate::log::files::lock::open_settled;
use crate::rt::{BLOCK_BYTES, File, OpenMode, Runtime, WriteMode};

/// The file, in the data directory.
pub const RUN_FILE: &str = "run";
const MAGIC: u32 = u32::from_le_bytes(*b"CLRN");
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 48;
const SLOTS: u64 = 2;

/// One start of a node: numbers order the runs, the random id tells apart two data directories or
/// two attempts at the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// 1 for the first start, then one more each time.
    pub number: u64,
    /// Random.
    pub id: u128,
}

impl RunId {
    /// The run after `self`, under a fresh random id.
    pub fn next<R: Runtime>(self, rt: &R) -> Self {
        let id = u128::from(rt.random_u64()) << 64 | u128::from(rt.random_u64());
        Self {
            number: self.number + 1,
            id,
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.number, self.id)
    }
}

/// A committed start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// How many shards, hence journals, it has.
    pub shards: u16,
}

/// Why the committed run cannot be told or changed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Neither slot is whole, and they are not blank either.
    #[error("{}: neither slot is readable", .0.display())]
    Corrupt(PathBuf),
    /// Written by a version of corelane that this one does not know.
    #[error("{}: written in format version {found}, this build reads {VERSION}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// The open, locked file `run`.
pub struct RunFile<R: Runtime> {
    rt: R,
    file: R::File,
    path: PathBuf,
    committed: Option<Run>,
    next_slot: u64,
}

impl<R: Runtime> RunFile<R> {
    /// Opens `data_dir/run`, created when missing, waiting for its lock.
    pub async fn open(rt: &R, data_dir: &Path) -> Result<Self, RunError> {
        let path = data_dir.join(RUN_FILE);
        let failed = |source| RunError::Io {
            path: path.clone(),
            source,
        };
        let file = open_blank(rt, data_dir, &path).await.map_err(failed)?;
        let block = rt.arena().alloc(2 * BLOCK_BYTES);
        let block = block.map_err(|full| failed(io::Error::other(full)))?;
        let (read, content) = file.read_at(block, 0, 2 * BLOCK_BYTES).await;
        read.map_err(failed)?;
        let (committed, next_slot) = choose(&content, &path)?;
        Ok(Self {
            rt: rt.clone(),
            file,
            path,
            committed,
            next_slot,
        })
    }

    /// The run that was committed last; none before the first.
    pub fn committed(&self) -> Option<Run> {
        self.committed
    }

    /// Commits `run`; durable, in both slots, when this returns.
    pub async fn commit(&mut self, run: Run) -> Result<(), RunError> {
        for _ in 0..SLOTS {
            let written = self.write_slot(run).await;
            written.map_err(|source| RunError::Io {
                path: self.path.clone(),
                source,
            })?;
            self.committed = Some(run);
            self.next_slot = (self.next_slot + 1) % SLOTS;
        }
        Ok(())
    }

    async fn write_slot(&self, run: Run) -> io::Result<()> {
        let block = self.rt.arena().alloc(BLOCK_BYTES);
        let mut block = block.map_err(io::Error::other)?;
        block.extend_from_slice(&encode(run));
        block.extend_zeroed(BLOCK_BYTES - SLOT_BYTES);
        let offset = self.next_slot * BLOCK_BYTES as u64;
        let bufs = vec![block.freeze()];
        self.file.write_at(bufs, offset, WriteMode::Durable).await
    }
}

async fn open_blank<R: Runtime>(rt: &R, data_dir: &Path, path: &Path) -> io::Result<R::File> {
    let file = open_settled(rt, path, OpenMode::DIRECT_CREATE).await?;
    let bytes = SLOTS * BLOCK_BYTES as u64;
    if file.size()? < bytes {
        file.allocate(0, bytes).await?;
        file.sync().await?;
    }
    // Its name, too, may be one that a killed process has left.
    rt.sync_dir(data_dir).await?;
    Ok(file)
}

/// The newest whole slot, and the one to write next.
fn choose(content: &[u8], path: &Path) -> Result<(Option<Run>, u64), RunError> {
    let mut newest: Option<(Run, u64)> = None;
    for (index, block) in (0..).zip(content.chunks(BLOCK_BYTES)) {
        let found = decode(block).map_err(|found| RunError::UnknownVersion {
            path: path.to_owned(),
            found,
        })?;
        if let Some(run) = found
            && newest.is_none_or(|(other, _)| other.id.number < run.id.number)
        {
            newest = Some((run, index));
        }
    }
    match newest {
        Some((run, slot)) => Ok((Some(run), (slot + 1) % SLOTS)),
        // A first commit that was torn looks like this, too; nothing was accepted before it.
        None if is_blank_or_torn_first(content) => Ok((None, 0)),
        None => Err(RunError::Corrupt(path.to_owned())),
    }
}

fn is_blank_or_torn_first(content: &[u8]) -> bool {
    let second = content.get(BLOCK_BYTES..).unwrap_or_default();
    second.iter().all(|&byte| byte == 0)
}

fn encode(run: Run) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    slot[4..8].copy_from_slice(&VERSION.to_le_bytes());
    slot[8..16].copy_from_slice(&run.id.number.to_le_bytes());
    slot[16..32].copy_from_slice(&run.id.id.to_le_bytes());
    slot[32..34].copy_from_slice(&run.shards.to_le_bytes());
    seal_header(&mut slot);
    slot
}

/// The slot's run, none when it is not whole; the version when it is an unknown one.
fn decode(block: &[u8]) -> Result<Option<Run>, u32> {
    Ok(open_header(block, SLOT_BYTES, MAGIC, VERSION)?.and_then(read_run))
}

fn read_run(mut fields: Fields<'_>) -> Option<Run> {
    Some(Run {
        id: RunId {
            number: fields.u64()?,
            id: fields.u128()?,
        },
        shards: fields.u16()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::DurableWrites;
    use crate::sim::{DiskModel, Rng, Sim, SimDisk, SimRuntime};

    fn run(number: u64) -> Run {
        let id = RunId { number, id: 9 };
        Run { id, shards: 2 }
    }

    async fn commit_some(rt: SimRuntime, known: &std::cell::Cell<u64>) -> Result<(), RunError> {
        let mut file = RunFile::open(&rt, Path::new("/")).await?;
        let committed = file.committed().map_or(0, |run| run.id.number);
        assert!(committed >= known.get(), "{committed} is an older one");
        for number in committed + 1..committed + 4 {
            file.commit(run(number)).await?;
            assert_eq!(file.committed(), Some(run(number)));
            known.set(number);
        }
        Ok(())
    }

    #[test]
    fn a_commit_that_was_cut_leaves_the_one_before_or_itself() {
        for seed in 0..300 {
            let disk = SimDisk::new(DiskModel::any(seed));
            let known = std::cell::Cell::new(0);
            let mut rng = Rng::new(seed);
            for life in 0..20 {
                let mut sim = Sim::new(seed * 100 + life, &disk);
                sim.cut_at_io(1 + rng.below(20));
                sim.set_durable_writes(DurableWrites::ALL[life as usize % 2]);
                let rt = sim.runtime(0);
                if let Ok(ended) = sim.run(commit_some(rt, &known)) {
                    ended.unwrap();
                }
                match rng.coin() {
                    true => sim.power_cut(),
                    false => sim.process_kill(),
                }
            }
            assert!(known.get() > 3);
        }
    }

    #[test]
    fn one_damaged_slot_costs_nothing() {
        for slot in 0..SLOTS {
            let disk = SimDisk::new(DiskModel::default());
            let known = std::cell::Cell::new(0);
            let mut sim = Sim::new(1, &disk);
            let rt = sim.runtime(0);
            sim.run(commit_some(rt, &known)).unwrap().unwrap();
            drop(sim);
            let at = slot * BLOCK_BYTES as u64;
            disk.corrupt("/run", at..at + 8).unwrap();
            let mut sim = Sim::new(2, &disk);
            let rt = sim.runtime(0);
            let opened = sim.run(RunFile::open(&rt, Path::new("/"))).unwrap();
            let mut file = opened.unwrap();
            assert_eq!(file.committed(), Some(run(3)), "slot {slot}");
            sim.run(file.commit(run(4))).unwrap().unwrap();
        }
    }

    #[test]
    fn two_damaged_slots_are_not_a_first_start() {
        let disk = SimDisk::new(DiskModel::default());
        let known = std::cell::Cell::new(0);
        let mut sim = Sim::new(1, &disk);
        let rt = sim.runtime(0);
        sim.run(commit_some(rt, &known)).unwrap().unwrap();
        drop(sim);
        disk.corrupt("/run", 0..8192).unwrap();
        let mut sim = Sim::new(2, &disk);
        let rt = sim.runtime(0);
        let opened = sim.run(RunFile::open(&rt, Path::new("/"))).unwrap();
        assert!(matches!(opened, Err(RunError::Corrupt(_))));
    }
}
