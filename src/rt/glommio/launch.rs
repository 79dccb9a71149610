//! Threads and executors: one per shard, or one for a command.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::thread::JoinHandle;

use futures_util::future::{Either, select};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::process::{Resource, Rlimit};

use super::pulse::Pulse;
use super::{GlommioRuntime, Panicked, caught};
use crate::rt::ring::Ring;
use crate::rt::{Aside, DurableWrites, TaskClass};

/// glommio's own registered memory; nothing of ours uses it. 64 KiB is its least.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Depth of glommio's rings: timers, wake-ups and the ring's eventfd.
const RING_DEPTH: usize = 64;

/// The shards of a node.
#[derive(Clone, Debug)]
pub struct Shards {
    /// How many.
    pub count: usize,
    /// CPUs to pin them to, in their order; unpinned when there are fewer than shards.
    pub cpus: Vec<usize>,
    /// Bound of each shard's I/O memory.
    pub memory_bytes: usize,
    /// How their files are written durably.
    pub durable_writes: DurableWrites,
}

/// A shard, or a command's executor, could not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The executor could not be made: memlock below 512 KiB, io_uring forbidden, no such CPU.
    #[error("cannot start the executor: {0}")]
    Executor(String),
    /// The ring for files and sockets could not be made.
    #[error("cannot set up io_uring: {0}")]
    Ring(#[source] io::Error),
    /// The thread could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A task panicked, which ends its shard: what it was changing may be half changed. The panic
    /// has been printed.
    #[error("a task panicked")]
    Panicked,
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle<T> {
    shard: usize,
    thread: JoinHandle<Result<T, LaunchError>>,
}

impl<T> ShardHandle<T> {
    /// Its number.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Waits for the shard's end and gives its result.
    pub fn join(self) -> Result<T, LaunchError> {
        self.thread.join().unwrap_or(Err(LaunchError::Panicked))
    }

    /// Whether [`ShardHandle::join`] would return at once.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts one thread per shard, pinned where there are CPUs enough, each running `main` with its
/// runtime and its number. Errors of a shard's start come out of [`ShardHandle::join`].
pub fn run_shards<T, Main, Run>(
    shards: &Shards,
    main: Main,
) -> Result<Vec<ShardHandle<T>>, LaunchError>
where
    T: Send + 'static,
    Main: FnOnce(GlommioRuntime, usize) -> Run + Clone + Send + 'static,
    Run: Future<Output = T> + 'static,
{
    raise_limits();
    let aside = Aside::start().map_err(LaunchError::Thread)?;
    let pinned = shards.cpus.len() >= shards.count;
    let start = |shard: usize| {
        let (main, aside) = (main.clone(), aside.clone());
        let (memory_bytes, durable_writes) = (shards.memory_bytes, shards.durable_writes);
        let placement = match shards.cpus.get(shard) {
            Some(cpu) if pinned => Placement::Fixed(*cpu),
            _ => Placement::Unbound,
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                let make = |ring| GlommioRuntime::new(ring, aside, memory_bytes);
                run(placement, durable_writes, make, |runtime| {
                    main(runtime, shard)
                })
            })
            .map_err(LaunchError::Thread)?;
        Ok(ShardHandle { shard, thread })
    };
    (0..shards.count).map(start).collect()
}

/// Runs `main` to its end on the calling thread, unpinned: for commands and tests.
pub fn run_one<T, Main, Run>(memory_bytes: usize, main: Main) -> Result<T, LaunchError>
where
    T: 'static,
    Main: FnOnce(GlommioRuntime) -> Run,
    Run: Future<Output = T> + 'static,
{
    raise_limits();
    let aside = Aside::start().map_err(LaunchError::Thread)?;
    let make = |ring| GlommioRuntime::new(ring, aside, memory_bytes);
    run(Placement::Unbound, DurableWrites::default(), make, main)
}

/// CPUs that this process may use, in order.
pub fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect(),
        Err(_) => vec![0],
    }
}

fn run<T, Make, Main, Run>(
    placement: Placement,
    durable_writes: DurableWrites,
    make: Make,
    main: Main,
) -> Result<T, LaunchError>
where
    T: 'static,
    Make: FnOnce(Ring) -> GlommioRuntime,
    Main: FnOnce(GlommioRuntime) -> Run,
    Run: Future<Output = T> + 'static,
{
    let executor = executor(placement).map_err(LaunchError::Executor)?;
    let ring = Ring::new(durable_writes).map_err(LaunchError::Ring)?;
    let _guard = CloseRing(ring.clone());
    let pulse = Pulse::start().map_err(LaunchError::Thread)?;
    executor.run(async move {
        let runtime = make(ring.clone());
        let beating = runtime.task(TaskClass::Foreground, pulse.task());
        let driver = runtime.clone();
        let driving = runtime.task(TaskClass::Foreground, async move { driver.drive().await });
        let main = caught(main(runtime.clone()));
        let main = runtime.task(TaskClass::Foreground, main);
        let result = match select(main, pin!(runtime.panicked())).await {
            Either::Left((result, _)) => result.map_err(|Panicked| LaunchError::Panicked),
            Either::Right(_) => Err(LaunchError::Panicked),
        };
        ring.close(true);
        driving.await.map_err(LaunchError::Ring)?;
        drop((beating, pulse));
        result
    })
}

/// Waits for the kernel to let go of the ring's memory also when the executor has panicked.
struct CloseRing(Ring);

impl Drop for CloseRing {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

fn executor(placement: Placement) -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(placement)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| error.to_string())
}

/// Raises the soft limits of open files and locked memory to the hard ones.
pub(in crate::rt) fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = rustix::process::getrlimit(resource);
        if limit.current != limit.maximum {
            let current = limit.maximum;
            // Where it fails, the probe's report says how much there is.
            let _ = rustix::process::setrlimit(resource, Rlimit { current, ..limit });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::rt::{Listener, Runtime, Socket, lane};

    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    fn two(cpus: Vec<usize>) -> Shards {
        Shards {
            count: 2,
            cpus,
            memory_bytes: 1 << 20,
            durable_writes: DurableWrites::default(),
        }
    }

    #[test]
    fn every_shard_runs_and_gives_its_result() {
        for cpus in [vec![], allowed_cpus()] {
            let pinned = cpus.len() >= 2;
            let main = |_, shard| async move { (shard, allowed_cpus()) };
            let handles = run_shards(&two(cpus.clone()), main).unwrap();
            for (i, handle) in handles.into_iter().enumerate() {
                let (shard, seen) = handle.join().unwrap();
                assert_eq!(shard, i);
                if pinned {
                    assert_eq!(seen, [cpus[i]]);
                }
            }
        }
    }

    #[test]
    fn a_panic_ends_its_shard_alone() {
        let main = |runtime: GlommioRuntime, shard| async move {
            let hour = runtime.sleep(Duration::from_secs(3600));
            if shard == 0 {
                runtime.spawn(TaskClass::Background, async { panic!("on purpose") });
                hour.await;
            }
            runtime.sleep(Duration::from_millis(20)).await;
        };
        let handles = run_shards(&two(vec![]), main).unwrap();
        let [first, second] = <[_; 2]>::try_from(handles).ok().unwrap();
        assert!(matches!(first.join(), Err(LaunchError::Panicked)));
        second.join().unwrap();
    }

    /// Each shard has a lane, gets its neighbour's messages and passes them on; a thread without a
    /// runtime sends the first and tells them to stop.
    #[test]
    fn lanes_join_shards_and_threads() {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| lane::<u32>(4)).unzip();
        let inboxes = Arc::new(Mutex::new(
            receivers.into_iter().map(Some).collect::<Vec<_>>(),
        ));
        let to = senders.clone();
        let main = move |_, shard: usize| async move {
            let mut inbox = inboxes.lock().unwrap()[shard].take().unwrap();
            let next = to[1 - shard].clone();
            drop((inboxes, to));
            let mut received = 0;
            while let Some(number) = inbox.recv().await {
                received += 1;
                if number == 2000 || next.send(number + 1).await.is_err() {
                    break;
                }
            }
            received
        };
        let handles = run_shards(&two(vec![]), main).unwrap();
        senders[0].send_blocking(1).unwrap();
        drop(senders);
        let received: Vec<i32> = handles.into_iter().map(|h| h.join().unwrap()).collect();
        assert_eq!(received, [1000, 1000]);
    }

    /// Tasks that wait on sockets when a runtime ends see an error and let go of what they own.
    #[test]
    fn an_ended_runtime_leaves_nothing_open() {
        let round = || {
            run_one(1 << 20, |runtime| async move {
                let address = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = runtime.listen(address).unwrap();
                let address = listener.local_addr().unwrap();
                let client = runtime.connect(address).await.unwrap();
                let server = listener.accept().await.unwrap();
                for socket in [client, server] {
                    let room = runtime.arena().alloc(1).unwrap();
                    let waiting = async move { drop(socket.read(room).await) };
                    runtime.spawn(TaskClass::Foreground, waiting);
                }
                runtime.sleep(Duration::from_millis(1)).await;
            })
            .unwrap();
        };
        round();
        let before = open_files();
        for _ in 0..20 {
            round();
        }
        // Other tests open files meanwhile; twenty leaked rings would be a hundred.
        assert!(open_files() < before + 60, "{} files before", before);
    }
}
