//! [`Runtime`] for one shard of a simulated process.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::disk::op::{Outcome, Target, Work};
use super::file::SimFile;
use super::net::{self, SimListener, SimSocket};
use super::process::Process;
use super::world::EventKey;
use crate::rt::{
    Arena, Aside, DirEntry, DiskSpace, DurableWrites, LaneReceiver, LaneSender, OpenMode, Runtime,
    TaskClass, carried_lane, flush_error, open_error,
};

/// What the code of one shard runs on; made by [`crate::sim::Sim::runtime`].
#[derive(Clone)]
pub struct SimRuntime {
    process: Rc<Process>,
    aside: Aside,
    arena: Arena,
}

impl SimRuntime {
    pub(super) fn new(process: Rc<Process>, arena: Arena) -> Self {
        let aside = Aside::at_once();
        Self {
            process,
            aside,
            arena,
        }
    }

    /// Sets the wall clock, from where it goes on.
    pub fn set_wall_clock_ms(&self, unix_ms: i64) {
        self.process.set_wall_clock_ms(unix_ms);
    }

    /// Cuts the life here and now, as [`crate::sim::Sim::cut_at_io`] does at a step.
    pub fn cut(&self) {
        self.process.cut();
    }

    async fn on_path(&self, path: &Path, work: Work) -> Outcome {
        let target = Target::Path(path.to_owned());
        self.process.submit(target, work).wait().await
    }

    async fn change_names(&self, path: &Path, work: Work) -> io::Result<()> {
        match self.on_path(path, work).await {
            Outcome::Done(result) => result,
            other => other.unexpected(),
        }
    }
}

impl Runtime for SimRuntime {
    type File = SimFile;
    type Listener = SimListener;
    type Socket = SimSocket;

    fn now(&self) -> Duration {
        self.process.now()
    }

    fn wall_clock_ms(&self) -> i64 {
        self.process.wall_clock_ms()
    }

    fn random_u64(&self) -> u64 {
        self.process.world().random_u64()
    }

    fn spawn(&self, _class: TaskClass, task: impl Future<Output = ()> + 'static) {
        self.process.executor().spawn(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        Sleep {
            deadline: self.now().saturating_add(duration),
            process: self.process.clone(),
            timer: None,
        }
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        let mut has_yielded = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn lane<T: Send + 'static>(&self, capacity: usize) -> (LaneSender<T>, LaneReceiver<T>) {
        carried_lane(capacity, Some(self.process.post()))
    }

    fn aside(&self) -> &Aside {
        &self.aside
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        match self.on_path(path, Work::Open { mode }).await {
            Outcome::Opened(handle) => {
                let handle = handle.map_err(open_error)?;
                Ok(SimFile::new(self.process.clone(), handle))
            }
            other => other.unexpected(),
        }
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.change_names(from, Work::Rename { to }).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change_names(path, Work::RemoveFile).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change_names(path, Work::CreateDir).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change_names(path, Work::RemoveDir).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self.on_path(path, Work::ReadDir).await {
            Outcome::Entries(entries) => entries,
            other => other.unexpected(),
        }
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = self.change_names(path, Work::SyncDir).await;
        synced.map_err(of_sync)
    }

    fn durable_writes(&self) -> DurableWrites {
        self.process.durable_writes()
    }

    async fn sync_file_system(&self, path: &Path) -> io::Result<bool> {
        let synced = self.change_names(path, Work::SyncFileSystem).await;
        synced.map(|()| true).map_err(of_sync)
    }

    fn disk_space(&self, _path: &Path) -> io::Result<DiskSpace> {
        Ok(self.process.disk().space())
    }

    fn listen(&self, address: SocketAddr) -> io::Result<SimListener> {
        net::listen(&self.process, address)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimSocket> {
        net::connect(self, &self.process, address).await
    }
}

/// What is not there could not be opened to be synced.
fn of_sync(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => error,
        _ => flush_error(open_error(error)),
    }
}

struct Sleep {
    process: Rc<Process>,
    deadline: Duration,
    timer: Option<EventKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.take();
        timer
            .into_iter()
            .for_each(|timer| self.process.world().cancel(timer));
        if self.process.is_cut() {
            return Poll::Pending;
        }
        if self.process.now() >= self.deadline {
            return Poll::Ready(());
        }
        self.timer = Some(self.process.set_timer(self.deadline, context.waker()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.process.world().cancel(timer);
        }
    }
}
