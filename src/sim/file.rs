//! [`File`] on a simulated disk.

use std::future::Future;
use std::io;
use std::rc::Rc;

use super::disk::op::{HandleId, Outcome, Target, Work};
use super::process::Process;
use crate::rt::{Buf, BufMut, DurableWrites, File, WriteMode, flush_error};

/// An open file. An operation is submitted when it is asked for, not when its future is first
/// polled, and goes on when the future is dropped.
#[derive(Clone)]
pub struct SimFile {
    open: Rc<Open>,
}

struct Open {
    process: Rc<Process>,
    handle: HandleId,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.process.close(self.handle);
    }
}

impl SimFile {
    pub(super) fn new(process: Rc<Process>, handle: HandleId) -> Self {
        Self {
            open: Rc::new(Open { process, handle }),
        }
    }

    fn submit(&self, work: Work) -> impl Future<Output = Outcome> + 'static {
        let target = Target::Handle(self.open.handle);
        self.open.process.submit(target, work).wait()
    }

    fn submit_unit(&self, work: Work) -> impl Future<Output = io::Result<()>> + 'static {
        let outcome = self.submit(work);
        async move {
            match outcome.await {
                Outcome::Done(result) => result,
                other => other.unexpected(),
            }
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.open.process.is_cut() {
            return Err(io::Error::other("the process has ended"));
        }
        Ok(())
    }
}

impl File for SimFile {
    fn write_at(
        &self,
        bufs: Vec<Buf>,
        offset: u64,
        mode: WriteMode,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let flushes = mode == WriteMode::Durable
            && self.open.process.durable_writes() == DurableWrites::Flush;
        let mode = if flushes { WriteMode::Plain } else { mode };
        let written = self.submit_unit(Work::Write { bufs, offset, mode });
        let file = self.clone();
        async move {
            written.await?;
            match flushes {
                true => file.sync().await,
                false => Ok(()),
            }
        }
    }

    fn read_at(
        &self,
        buf: BufMut,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = (io::Result<usize>, BufMut)> + 'static {
        let outcome = self.submit(Work::Read { buf, offset, len });
        async move {
            match outcome.await {
                Outcome::Read(result, buf) => (result, buf),
                other => other.unexpected(),
            }
        }
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let synced = self.submit_unit(Work::Sync);
        async move { synced.await.map_err(flush_error) }
    }

    fn allocate(&self, offset: u64, len: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.submit_unit(Work::Allocate { offset, len })
    }

    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.submit_unit(Work::SetLen(len))
    }

    fn has_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.check_alive()?;
        let mut disk = self.open.process.disk();
        disk.has_hole(self.open.handle, offset, len)
    }

    fn size(&self) -> io::Result<u64> {
        self.check_alive()?;
        self.open.process.disk().size(self.open.handle)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.check_alive()?;
        self.open.process.disk().try_lock(self.open.handle)
    }
}
