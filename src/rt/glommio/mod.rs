//! The runtime of production: glommio as executor of one core, a ring of our own for all I/O.
//!
//! glommio is named in this folder alone. It gives threads, task queues with shares and timers;
//! files and sockets go through [`Ring`], and what takes too long for a core goes [`Aside`].
#![expect(unsafe_code, reason = "glommio takes over a raw descriptor")]

mod aside;
mod launch;
mod pulse;
mod steps;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use glommio::{Latency, Shares, TaskQueueHandle};

use self::steps::Steps;
use super::ring::{self, Ring, RingFile, RingListener, RingSocket};
use super::{
    Arena, DirEntry, DiskSpace, DurableWrites, Event, LaneReceiver, LaneSender, OpenMode, Runtime,
    TaskClass, lane,
};
use crate::metrics::StepFigures;

pub use aside::Aside;
pub(super) use launch::raise_limits;
pub use launch::{LaunchError, ShardHandle, Shards, allowed_cpus, run_one, run_shards};

/// How long a busy core goes without looking at glommio's timers and wake-ups. (Completions of the
/// ring are seen in each round.)
///
/// Short ones are dangerous: when this timer fires between glommio's arming it and its first look
/// at the task queues, which takes no more than being descheduled for so long, glommio 0.9 goes to
/// sleep with tasks ready to run. With 1 ms that happened in every eighth run of a test on a busy
/// machine, with 5 ms in two of fourteen runs of the demo at a load of 4 to 12. [`watch`] bounds
/// such a sleep where it is not itself among the tasks that are ready, and [`pulse`] in any case.
const PREEMPT_AFTER: Duration = Duration::from_millis(100);
/// How long such a sleep lasts at most on a core that has something to do, or has not.
const WATCH_BUSY: Duration = Duration::from_millis(2);
const WATCH_IDLE: Duration = Duration::from_millis(50);
/// Parts of a busy core.
const SHARES_FOREGROUND: usize = 1000;
const SHARES_BACKGROUND: usize = 150;

/// The runtime of one shard.
#[derive(Clone)]
pub struct GlommioRuntime {
    shared: Rc<Shared>,
}

struct Shared {
    ring: Ring,
    aside: Aside,
    arena: Arena,
    foreground: TaskQueueHandle,
    background: TaskQueueHandle,
    start: Instant,
    steps: Rc<Steps>,
    panicked: Cell<bool>,
    panic: Event,
}

impl GlommioRuntime {
    /// The runtime of the executor that calls.
    fn new(ring: Ring, aside: Aside, memory_bytes: usize) -> Self {
        let executor = glommio::executor();
        let arena = Arena::new(memory_bytes);
        arena.set_registrar(Rc::new(ring.clone()));
        let queue = |shares, name| {
            let latency = Latency::Matters(PREEMPT_AFTER);
            executor.create_task_queue(Shares::Static(shares), latency, name)
        };
        #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
        let start = Instant::now();
        // At once: what a tick is, is told from what both have counted since.
        let steps = Steps::new(start);
        Self {
            shared: Rc::new(Shared {
                ring,
                aside,
                arena,
                foreground: queue(SHARES_FOREGROUND, "foreground"),
                background: queue(SHARES_BACKGROUND, "background"),
                start,
                steps,
                panicked: Cell::new(false),
                panic: Event::new(),
            }),
        }
    }

    /// Turns the ring whenever there is something to hand over, or something has completed; ends
    /// with the ring.
    async fn drive(&self) -> io::Result<()> {
        let eventfd = self.shared.ring.eventfd().try_clone_to_owned()?;
        // SAFETY: the descriptor is open, and the file becomes its only owner.
        let eventfd = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        let ring = self.shared.ring.clone();
        let handing_over = self.task(TaskClass::Foreground, async move {
            while !ring.is_closed() {
                ring.wanted().await;
                ring.turn();
            }
        });
        let watching = self.task(TaskClass::Foreground, watch(self.shared.ring.clone()));
        let ring = self.shared.ring.clone();
        while !ring.is_closed() {
            if let Err(error) = eventfd.read_at(0, 8).await {
                panic!("an eventfd can be read: {error}");
            }
            ring.turn();
        }
        handing_over.await;
        drop(watching);
        Ok(eventfd.close().await?)
    }

    fn task<T: 'static>(
        &self,
        class: TaskClass,
        task: impl Future<Output = T> + 'static,
    ) -> glommio::Task<T> {
        let task = self.shared.steps.measured(task);
        match glommio::spawn_local_into(task, self.queue(class)) {
            Ok(task) => task,
            Err(error) => panic!("both queues live as long as the executor: {error}"),
        }
    }

    /// Completes when a task has panicked.
    async fn panicked(&self) {
        let look = || self.shared.panicked.get().then_some(());
        self.shared.panic.wait_until(look).await;
    }

    fn queue(&self, class: TaskClass) -> TaskQueueHandle {
        match class {
            TaskClass::Foreground => self.shared.foreground,
            TaskClass::Background => self.shared.background,
        }
    }
}

impl Runtime for GlommioRuntime {
    type File = RingFile;
    type Listener = RingListener;
    type Socket = RingSocket;

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn wall_clock_ms(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(8) => u64::from_ne_bytes(bytes),
            other => panic!("getrandom gives 8 bytes at once: {other:?}"),
        }
    }

    fn spawn(&self, class: TaskClass, task: impl Future<Output = ()> + 'static) {
        let runtime = self.clone();
        let task = async move {
            let task = giving_way(class, task);
            if caught(task).await.is_err() {
                runtime.shared.panicked.set(true);
                runtime.shared.panic.notify();
            }
        };
        drop(self.task(class, task).detach());
    }

    fn take_steps(&self) -> Option<StepFigures> {
        Some(self.shared.steps.take())
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would borrow the runtime"
    )]
    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        async { glommio::executor().yield_task_queue_now().await }
    }

    fn lane<T: Send + 'static>(&self, capacity: usize) -> (LaneSender<T>, LaneReceiver<T>) {
        lane(capacity)
    }

    fn aside(&self) -> &Aside {
        &self.shared.aside
    }

    fn arena(&self) -> &Arena {
        &self.shared.arena
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        self.shared.ring.open(path, mode).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.ring.rename(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.shared.ring.remove_file(path).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ring.create_dir(path).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ring.remove_dir(path).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        ring::read_dir(path)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ring.sync_dir(path).await
    }

    fn durable_writes(&self) -> DurableWrites {
        self.shared.ring.durable_writes()
    }

    async fn sync_file_system(&self, path: &Path) -> io::Result<bool> {
        let path = path.to_owned();
        // It may take seconds, and a ring has no operation for it.
        let sync = move || ring::sync_file_system(&path);
        glommio::executor().spawn_blocking(sync).await
    }

    fn disk_space(&self, path: &Path) -> io::Result<DiskSpace> {
        ring::disk_space(path)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<RingListener> {
        self.shared.ring.listen(address)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<RingSocket> {
        self.shared.ring.connect(address).await
    }
}

/// Wakes the executor now and then; see [`PREEMPT_AFTER`].
async fn watch(ring: Ring) {
    let mut turns = ring.turns();
    loop {
        let is_busy = std::mem::replace(&mut turns, ring.turns()) != turns;
        glommio::timer::sleep(if is_busy { WATCH_BUSY } else { WATCH_IDLE }).await;
    }
}

/// Runs a task; one of the background gives foreground tasks a chance after each step, where
/// glommio would run it and its like to the end of [`PREEMPT_AFTER`].
async fn giving_way(class: TaskClass, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|context| {
        let poll = task.as_mut().poll(context);
        if class == TaskClass::Background && poll.is_pending() {
            // Its first poll marks the queue and nothing else.
            let executor = glommio::executor();
            let mark = pin!(executor.yield_task_queue_now());
            let _ = mark.poll(&mut Context::from_waker(Waker::noop()));
        }
        poll
    })
    .await;
}

/// Runs a task; a panic is an error. It has been printed, and must not unwind through the
/// executor, which aborts the process half-way.
async fn caught<T>(task: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut task = pin!(task);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| task.as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// A task has panicked.
#[derive(Debug)]
struct Panicked;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::path::{Path, PathBuf};
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::future::{Either, select};

    use super::GlommioRuntime;
    use crate::rt::{Buf, DurableWrites, File, OpenMode, Runtime, WriteMode};

    fn run<F: Future<Output = ()> + 'static>(check: impl FnOnce(GlommioRuntime, PathBuf) -> F) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        super::run_one(64 << 20, |runtime| {
            bounded(runtime.clone(), check(runtime, path))
        })
        .unwrap();
    }

    async fn bounded(runtime: impl Runtime, check: impl Future<Output = ()>) {
        let limit = runtime.sleep(Duration::from_secs(30));
        match select(pin!(check), pin!(limit)).await {
            Either::Left(_) => {}
            Either::Right(_) => panic!("the check waits for ever"),
        }
    }

    crate::rt::contract::contract_tests!(run);

    /// Nothing can be flushed there, and RWF_DSYNC means nothing.
    #[test]
    fn a_flush_follows_a_durable_write_where_the_disk_wants_it() {
        let written = |durable_writes| {
            let shards = super::Shards {
                count: 1,
                cpus: Vec::new(),
                memory_bytes: 1 << 20,
                durable_writes,
            };
            let main = |rt: GlommioRuntime, _| async move {
                let path = Path::new("/dev/null");
                let file = rt.open(path, OpenMode::BUFFERED).await.unwrap();
                let bufs = vec![Buf::from_vec(vec![1])];
                let written = file.write_at(bufs, 0, WriteMode::Durable).await;
                written.map_err(|error| error.to_string())
            };
            let mut handles = super::run_shards(&shards, main).unwrap();
            handles.remove(0).join().unwrap()
        };
        assert_eq!(written(DurableWrites::Dsync), Ok(()));
        let error = written(DurableWrites::Flush).unwrap_err();
        assert!(error.starts_with("flush failed"), "{error}");
    }
}
