//! Work that would hold a shard's core for more than a millisecond and cannot be cut: on one further
//! thread of the node.
//!
//! The thread does one piece of work after the other, at a lower priority than the shards have, on
//! whichever core is free. What it works on and what comes of it belong to whoever asks, who bounds
//! both and waits for the end: dropping the future does not end the work.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::rt::lane;

/// Ten steps of nice: a tenth of a core that a shard uses fully.
const NICE: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// The way to the thread. Clones lead to the same one, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Aside {
    thread: Option<Sender<Work>>,
}

impl Aside {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, works) = channel();
        let thread = std::thread::Builder::new().name("aside".into());
        thread.spawn(move || run(&works))?;
        Ok(Self {
            thread: Some(sender),
        })
    }

    /// No thread: work is done where it is asked for. For the simulator and for tests.
    pub fn at_once() -> Self {
        Self { thread: None }
    }

    /// Completes with what `work` gives, or with none where it has panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let Some(thread) = &self.thread else {
            return Some(work());
        };
        let (done, mut outcome) = lane(1);
        let work = move || drop(done.try_send(work()));
        thread.send(Box::new(work)).ok()?;
        outcome.recv().await
    }
}

fn run(works: &Receiver<Work>) {
    // Without it, the work competes with the shards.
    let _ = rustix::process::nice(NICE);
    for work in works {
        // It has been printed, and whoever waits learns it from the lane's end.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;

    use crate::rt::{Runtime, run_one};

    #[test]
    fn work_is_done_on_a_thread_of_its_own_and_a_panic_there_is_an_answer() {
        let this = std::thread::current().id();
        run_one(1 << 20, async move |rt| {
            let aside = rt.aside();
            let failing = aside.run(|| panic!("on purpose"));
            let thread = aside.run(|| std::thread::current().id());
            let (failed, thread) = join(failing, thread).await;
            assert_eq!(failed, None::<()>);
            assert_ne!(thread.expect("it goes on"), this);
        })
        .unwrap();
    }
}
