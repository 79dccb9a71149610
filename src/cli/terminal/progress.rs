//! How far long work is: a bar on a terminal, a line every five seconds elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Context, bytes};

/// What takes less shows nothing.
const QUIET: Duration = Duration::from_millis(500);
const BETWEEN_BARS: Duration = Duration::from_millis(100);
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// The progress of one piece of work, counted in bytes. Shown on standard error.
pub(in crate::cli) struct Progress {
    context: Context,
    what: String,
    total_bytes: Option<u64>,
    is_terminal: bool,
    started: Duration,
    shown: Option<Duration>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(in crate::cli) fn new(
        context: &Context,
        what: impl Into<String>,
        total_bytes: Option<u64>,
        now: Duration,
    ) -> Self {
        Self {
            context: context.clone(),
            what: what.into(),
            total_bytes,
            is_terminal: std::io::stderr().is_terminal(),
            started: now,
            shown: None,
            bar: None,
        }
    }

    /// Shows that `done_bytes` are done, when it is time to.
    pub(in crate::cli) fn show(&mut self, done_bytes: u64, now: Duration) {
        let between = if self.is_terminal {
            BETWEEN_BARS
        } else {
            BETWEEN_LINES
        };
        let due = match self.shown {
            Some(shown) => shown + between,
            None if self.is_terminal => self.started + QUIET,
            None => self.started + BETWEEN_LINES,
        };
        if !self.context.progress() || now < due {
            return;
        }
        self.shown = Some(now);
        if self.is_terminal {
            let bar = self
                .bar
                .get_or_insert_with(|| bar(&self.what, self.total_bytes));
            bar.set_position(done_bytes);
        } else {
            self.show_line(done_bytes, now);
        }
    }

    /// Takes the bar away.
    pub(in crate::cli) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show_line(&self, done_bytes: u64, now: Duration) {
        let seconds = (now - self.started).as_secs_f64();
        let of = self
            .total_bytes
            .map(|total| format!(" of {}", bytes(total)));
        self.context.say(format_args!(
            "{}: {}{} in {seconds:.0} s",
            self.what,
            bytes(done_bytes),
            of.unwrap_or_default()
        ));
    }
}

fn bar(what: &str, total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
        ),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what.to_owned())
}
