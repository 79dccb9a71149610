//! SIGINT and SIGTERM: once to stop in good order, twice to stop at once.

use std::future::pending;
use std::thread::{Builder, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::cli::{CliError, Exit};
use crate::rt::LaneReceiver;

/// Watches for the signals as long as it lives.
pub(in crate::cli) struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Calls `first` with the code to end with when the first signal comes; a second one ends the
/// process: whoever asks twice does not want to wait.
pub(in crate::cli) fn watch(first: impl Fn(Exit) + Send + 'static) -> Result<Watch, CliError> {
    let failed = |error| CliError::new(Exit::Failure, format!("signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let handle = signals.handle();
    let run = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                signal_hook::low_level::exit(128 + signal);
            }
            first(match signal {
                SIGTERM => Exit::Terminated,
                _ => Exit::Interrupted,
            });
        }
    };
    let thread = Builder::new().name("signals".into()).spawn(run);
    Ok(Watch {
        handle,
        thread: Some(thread.map_err(failed)?),
    })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the watcher has been told by its thread.
            let _ = thread.join();
        }
    }
}

/// The code to end with, once a signal has come.
pub(in crate::cli) async fn stopped(asked: &mut LaneReceiver<Exit>) -> Exit {
    match asked.recv().await {
        Some(exit) => exit,
        // Nobody watches any more.
        None => pending().await,
    }
}
