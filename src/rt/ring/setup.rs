//! Building a ring from what the kernel has, and its few bare system calls.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, opcode};
use rustix::event::EventfdFlags;

use super::Ring;
use crate::rt::{Arena, BLOCK_BYTES, DurableWrites};

/// Submission entries; a fuller queue is handed over early.
const ENTRIES: u32 = 256;
/// Completion entries. Every idle connection has an operation pending; what does not fit is kept
/// by the kernel (IORING_FEAT_NODROP).
const COMPLETIONS: u32 = 4096;

/// Threads of the kernel that serve a ring's syncs, and what else on files cannot be begun without
/// waiting. By default there are four for each core, so that a start that syncs the files of 10,000
/// partitions, 64 at a time, has 8 of them under way. Further ones are made only when all are busy.
const FILE_WORKERS_MAX: u32 = 64;

/// What differs between kernels that have io_uring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    /// IORING_OP_FTRUNCATE (Linux 6.9).
    pub(super) ftruncate: bool,
}

/// A ring with the best set of flags that the kernel knows: completions are processed only when
/// this thread asks (Linux 6.1), or without interrupting it (5.19), or as they come.
pub(super) fn build(durable_writes: DurableWrites) -> io::Result<(IoUring, Features)> {
    let (uring, _) = build_best()?;
    if durable_writes == DurableWrites::Flush {
        bind_workers(&uring);
    }
    // Linux 5.15; a kernel without it keeps its default. Zero leaves the other kind's bound alone.
    let _ = uring
        .submitter()
        .register_iowq_max_workers(&mut [FILE_WORKERS_MAX, 0]);
    let features = features(&uring);
    Ok((uring, features))
}

/// Keeps the kernel's threads of this ring on the cores of the calling thread, so that a flush does not
/// wait for what keeps another core busy. Linux 5.14; a kernel without it lets them run anywhere.
fn bind_workers(uring: &IoUring) {
    // SAFETY: a set of CPUs is plain bits, all zeros being the empty one.
    let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most as many bytes as the set has.
    let got = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut cpus) };
    if got == 0 {
        let _ = uring.submitter().register_iowq_aff(&cpus);
    }
}

/// What rings can do on this machine.
pub struct RingSupport {
    probe: Probe,
    /// Completions are processed only when the shard asks.
    pub defers: bool,
    /// Memory can be registered.
    pub registers: bool,
}

impl RingSupport {
    /// Sets a ring up to see.
    ///
    /// # Errors
    /// What io_uring_setup answered.
    pub fn find() -> io::Result<Self> {
        let (uring, defers) = build_best()?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        drop(uring);
        let arena = Arena::new(BLOCK_BYTES);
        arena.set_registrar(Rc::new(Ring::new(DurableWrites::Dsync)?));
        let registers = arena
            .alloc(BLOCK_BYTES)
            .is_ok_and(|buf| buf.registration().is_some());
        Ok(Self {
            probe,
            defers,
            registers,
        })
    }

    /// Whether an operation is there.
    pub fn has(&self, code: u8) -> bool {
        self.probe.is_supported(code)
    }
}

/// The ring, and whether it defers.
fn build_best() -> io::Result<(IoUring, bool)> {
    let mut deferred = IoUring::builder();
    deferred
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all();
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    let plain = IoUring::builder();
    for (mut builder, defers) in [(deferred, true), (cooperative, false), (plain, false)] {
        match builder.setup_cqsize(COMPLETIONS).dontfork().build(ENTRIES) {
            Ok(uring) => return Ok((uring, defers)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn features(uring: &IoUring) -> Features {
    let mut probe = Probe::new();
    let known = uring.submitter().register_probe(&mut probe).is_ok();
    Features {
        ftruncate: known && probe.is_supported(opcode::Ftruncate::CODE),
    }
}

/// The descriptor on which the kernel tells of completions.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?)
}

pub(super) fn register_eventfd(uring: &IoUring, eventfd: &OwnedFd) -> io::Result<()> {
    uring.submitter().register_eventfd(eventfd.as_raw_fd())
}

/// Hands queued entries over and lets the kernel finish deferred work, without waiting.
pub(super) fn submit_and_reap(uring: &IoUring) -> io::Result<()> {
    let submitter = uring.submitter();
    // SAFETY: reads only the queue's own counters.
    let queued = unsafe { uring.submission_shared() }.len() as u32;
    // SAFETY: plain arguments, no pointer.
    let entered =
        unsafe { submitter.enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None) };
    accept_busy(entered)
}

/// Hands queued entries over, so that there is room for more.
pub(super) fn submit(uring: &IoUring) -> io::Result<()> {
    accept_busy(uring.submitter().submit())
}

/// Waits for one completion, at most for `limit`.
pub(super) fn wait(uring: &IoUring, limit: Duration) -> io::Result<()> {
    let limit = Timespec::from(limit);
    let entered = uring
        .submitter()
        .submit_with_args(1, &SubmitArgs::new().timespec(&limit));
    match entered {
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
        other => accept_busy(other),
    }
}

/// Cancels all operations; those of disks run to their end.
pub(super) fn cancel_all(uring: &IoUring, limit: Duration) -> io::Result<()> {
    let everything = CancelBuilder::any().all();
    let cancelled = uring
        .submitter()
        .register_sync_cancel(Some(Timespec::from(limit)), everything);
    match cancelled {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Nothing is lost when the kernel is busy (completions first) or a signal came.
fn accept_busy(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)
            ) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}
