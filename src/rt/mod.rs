//! The seam to the outside world: time, disk, sockets, memory, randomness.
//!
//! Everything that is not a pure decision is generic over one [`Runtime`]. It is `!Send`: a runtime
//! is one shard's, and its futures never leave the shard's thread. Operations own their buffers
//! until they complete, so that a completion ring can serve them; dropping a future does not give
//! its buffers back early.
//!
//! Behaviour that every implementation must show stands as tests in `contract`.
//!
//! | file | what |
//! |---|---|
//! | `buf`, `region/` | memory of a shard: buffers; the huge pages below, and which blocks are free |
//! | `local` | waiting within a shard: events, lines, mutexes, budgets |
//! | `lane` | messages from core to core, and from threads to a core |
//! | `mark_queue`, `deadlines`, `watch` | waiting for a mark, for a time, for news of many things |
//! | `future_pool` | futures in memory that is used again |
//! | `probe`, `disk` | what the machine gives; what its disk does with writes |
//! | `glommio/` | the runtime of production: executors and threads |
//! | `ring/` | its io_uring: files, names, sockets |

mod buf;
#[cfg(test)]
pub(crate) mod contract;
mod deadlines;
mod disk;
mod future_pool;
mod glommio;
mod lane;
mod local;
mod mark_queue;
mod probe;
mod region;
mod ring;
mod watch;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use buf::{Arena, ArenaFull, Buf, BufMut};
pub use deadlines::{Deadline, Deadlines};
pub use disk::{Device, Disk};
pub use future_pool::{FuturePool, Pooled};
pub(in crate::rt) use glommio::raise_limits;
pub use glommio::{
    Aside, GlommioRuntime, LaunchError, ShardHandle, Shards, allowed_cpus, run_one, run_shards,
};
#[cfg(any(test, feature = "sim"))]
pub(crate) use lane::{Carrier, Parcel, carried_lane};
pub use lane::{LaneClosed, LaneReceiver, LaneSender, TrySendError, UNBOUNDED, lane};
pub use local::{Budget, Event, Line, Mutex, MutexGuard, Permit};
pub use mark_queue::{Latch, Latches, MarkQueue};
pub use probe::{Fatal, FileShares, Probe, RingFacts, is_open_refused, open_error};
pub use region::BLOCK_BYTES;
pub use watch::{ReadySet, Watch, Watchers};

use crate::metrics::StepFigures;

/// What one shard may ask of the world.
pub trait Runtime: Clone + 'static {
    /// An open file.
    type File: File;
    /// A listening TCP socket.
    type Listener: Listener<Socket = Self::Socket>;
    /// A connected TCP socket.
    type Socket: Socket;

    /// Monotonic time since some fixed moment before the runtime started.
    fn now(&self) -> Duration;
    /// Wall clock in Unix milliseconds. It may jump; nothing but retention and timestamps uses it.
    fn wall_clock_ms(&self) -> i64;
    /// Random bits (topic ids, run ids); never for decisions of the log.
    fn random_u64(&self) -> u64;

    /// Runs `task` on this shard until it ends. Nobody waits for it.
    fn spawn(&self, class: TaskClass, task: impl Future<Output = ()> + 'static);
    /// How long the steps of this shard's tasks took since the last call; none where that means
    /// nothing, as in the simulator.
    fn take_steps(&self) -> Option<StepFigures> {
        None
    }
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Lets the shard's other ready tasks run.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;

    /// Makes a lane between cores of this process: at most `capacity` messages, of one kind, are on
    /// their way or wait for the receiver; with [`UNBOUNDED`] its senders never wait. Both sides
    /// may go to any core. What one sender sends arrives in its order, after a while.
    fn lane<T: Send + 'static>(&self, capacity: usize) -> (LaneSender<T>, LaneReceiver<T>);

    /// Where work is done that would hold the shard's core too long.
    fn aside(&self) -> &Aside;

    /// The shard's block-aligned memory.
    fn arena(&self) -> &Arena;

    /// Opens a file. Creating one is durable only after [`Runtime::sync_dir`] of its directory.
    fn open(&self, path: &Path, mode: OpenMode) -> impl Future<Output = io::Result<Self::File>>;
    /// Renames a file or directory, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Creates a directory; it is not an error when it exists.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// The entries of a directory, in no order that means anything, sorted by name.
    fn read_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>>;
    /// Makes creations, renames and removals within a directory durable. As of [`File::sync`], any error
    /// of the sync is final.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// How a write of [`WriteMode::Durable`] is made durable here.
    fn durable_writes(&self) -> DurableWrites;
    /// Makes everything durable that has completed in the file system that holds the file `path`:
    /// contents, lengths and names, whoever has written them. False, and nothing is promised, where
    /// that file system is not known to do so, or where others are mounted below the file's directory. Any
    /// error of the sync is final.
    /// What lies behind symbolic links may be on another.
    fn sync_file_system(&self, path: &Path) -> impl Future<Output = io::Result<bool>>;
    /// Total and available bytes of the file system that holds `path`.
    fn disk_space(&self, path: &Path) -> io::Result<DiskSpace>;

    /// Binds a listening socket; port 0 takes a free one.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;
    /// Connects to a listener.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Socket>>;
}

/// Whose work a task is: data-path tasks come first, background work takes what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskClass {
    /// Produce, tail reads, coordination.
    Foreground,
    /// Cold reads, moves to segments, retention, preparation of files.
    Background,
}

/// How a file is opened. Every file is readable and writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// O_DIRECT: all operations in whole, aligned blocks; the page cache is not involved.
    pub direct: bool,
    /// What to do about existence.
    pub create: Create,
}

/// What an open does when the file is, or is not, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It must exist.
    Never,
    /// It is created when missing.
    IfMissing,
    /// It must not exist.
    New,
}

impl OpenMode {
    /// An existing file, opened direct.
    pub const DIRECT: Self = Self {
        direct: true,
        create: Create::Never,
    };
    /// A file opened direct, created when missing.
    pub const DIRECT_CREATE: Self = Self {
        direct: true,
        create: Create::IfMissing,
    };
    /// An existing file through the page cache, for small files of odd lengths.
    pub const BUFFERED: Self = Self {
        direct: false,
        create: Create::Never,
    };
    /// A file through the page cache, created when missing.
    pub const BUFFERED_CREATE: Self = Self {
        direct: false,
        create: Create::IfMissing,
    };
}

/// What a completed write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// The device has the bytes, perhaps in a volatile cache.
    Plain,
    /// The bytes, and the metadata needed to read them, survive power loss, in the way of
    /// [`Runtime::durable_writes`]. Bytes of *other* writes may or may not become durable with it.
    Durable,
}

/// How one write is made durable; [`Disk`] tells what serves it best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurableWrites {
    /// With RWF_DSYNC: the write completes when it is durable.
    #[default]
    Dsync,
    /// With a flush (fdatasync) of the file behind it. Several writes can share one.
    Flush,
}

impl DurableWrites {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Dsync, Self::Flush];
}

/// A flush that failed. Inside an [`io::Error`] that is no full disk whatever the system said: what
/// it should have made durable may be lost, and a later flush that succeeds says nothing about it.
#[derive(Debug, thiserror::Error)]
#[error("flush failed: {0}")]
struct FlushFailed(io::Error);

/// The error of a flush: final, where a full disk is not.
pub(crate) fn flush_error(error: io::Error) -> io::Error {
    io::Error::other(FlushFailed(error))
}

/// Whether a flush has failed, so that nothing on the device can be relied upon.
pub(crate) fn is_flush_failed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<FlushFailed>())
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Name within the directory. Entries whose names are not UTF-8 are left out.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What this process may still take.
    pub available_bytes: u64,
}

/// An open file. Clones share it; it is closed with the last one.
///
/// For direct files, offsets and lengths and buffer addresses are multiples of [`BLOCK_BYTES`].
pub trait File: Clone + 'static {
    /// Writes `bufs` one behind the other at `offset`, all of them or an error.
    ///
    /// A write in flight may reach the disk in any part and any order when power is lost.
    fn write_at(
        &self,
        bufs: Vec<Buf>,
        offset: u64,
        mode: WriteMode,
    ) -> impl Future<Output = io::Result<()>> + 'static;
    /// Reads into `buf` behind what it holds, at most `len` bytes and at most its room; less than
    /// asked only at the end of the file.
    fn read_at(
        &self,
        buf: BufMut,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static;
    /// fdatasync: makes the file's length, and of its writes those that have completed, durable. Any
    /// error is final, also of a full disk: see rule 12 of [`crate::manual::durability`].
    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static;
    /// Reserves space for a range, extending the file (fallocate, mode 0). Reads give zeros.
    fn allocate(&self, offset: u64, len: u64) -> impl Future<Output = io::Result<()>> + 'static;
    /// Cuts or extends the file to `len` bytes.
    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>> + 'static;
    /// Whether a part of a range may have been left out of the file, as copies do that keep holes:
    /// writing there takes room. Beyond the end is such a part; what was reserved need not be one.
    fn has_hole(&self, offset: u64, len: u64) -> io::Result<bool>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Takes the exclusive advisory lock (flock) of the file; false when another process, or
    /// another open of the file, holds it. Held until the last clone is dropped and its last
    /// operation has completed.
    fn try_lock(&self) -> io::Result<bool>;
}

/// A listening socket.
pub trait Listener: 'static {
    /// What it accepts.
    type Socket: Socket;
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>>;
    /// Where it listens (with the real port).
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connected stream socket with TCP_NODELAY. Clones share it; one may read while another writes.
pub trait Socket: Clone + 'static {
    /// Reads into `buf` behind what it holds, at most its room; 0 at the end of the stream.
    fn read(&self, buf: BufMut) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static;
    /// Writes all of `bufs` in order.
    fn write(&self, bufs: Vec<Buf>) -> impl Future<Output = io::Result<()>> + 'static;
    /// Ends both directions: pending and later reads see the end, writes an error.
    fn shutdown(&self);
    /// Ends reading alone: once what has arrived is read, pending and later reads see the end.
    fn stop_reading(&self);
    /// This side's address.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// The other side's address.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}
