//! What a person sees while a snapshot is taken.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onionskin::{Event, Observer};

use crate::stop::Stop;
use crate::units::{bytes, millis};

/// A bar on standard error, where that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    frozen: bool,
    /// Asked now and then, until it was told that the user wants to stop.
    stop: Option<Stop>,
}

impl Progress {
    /// Makes one, hidden where nobody is to see it.
    pub(crate) fn new(visible: bool, stop: Option<Stop>) -> Self {
        let target = if visible {
            ProgressDrawTarget::stderr_with_hz(15)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg:34} {wide_bar} {percent:>3} %  {elapsed}")
                .expect("the template is well formed")
                .progress_chars("█▉▊▋▌▍▎▏·"),
        );
        bar.set_message("looking");
        Self {
            bar,
            frozen: false,
            stop,
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&self, message: String) {
        self.bar.set_message(message);
        self.bar.set_position(0);
    }

    fn resumed(&mut self, frozen: Duration) {
        self.frozen = false;
        self.bar.println(format!(
            "froze it for {}",
            millis(frozen.as_secs_f64() * 1000.0)
        ));
        self.step("storing".to_owned());
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        // Drawing takes its time: not while the process stands still.
        if self.frozen && !matches!(event, Event::Resumed { .. }) {
            return;
        }
        if self.stop.as_ref().is_some_and(Stop::asked) {
            self.stop = None;
            self.bar
                .println("finishing this snapshot; Ctrl-C again ends it at once");
        }
        match event {
            Event::RoundStarted { number } => self.step(format!("round {number}, while it runs")),
            Event::Progress { done, total } => {
                self.bar.set_length(total.0);
                self.bar.set_position(done.0);
            }
            Event::Freezing => self.frozen = true,
            Event::Resumed { frozen } => self.resumed(*frozen),
            Event::Retrying { reason } => self.bar.println(format!("trying again: {reason}")),
            Event::Verifying => self.step("comparing".to_owned()),
            Event::Reaping => self.step("ending the duplicate".to_owned()),
            _ => {}
        }
    }
}

/// A bar for bytes that are written into a file.
#[derive(Debug)]
pub(crate) struct ByteBar(ProgressBar);

impl ByteBar {
    /// Makes one, hidden where nobody is to see it.
    pub(crate) fn new(message: &'static str, visible: bool) -> Self {
        let target = if visible {
            ProgressDrawTarget::stderr_with_hz(15)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix} {wide_bar} {percent:>3} %  {msg}")
                .expect("the template is well formed")
                .progress_chars("█▉▊▋▌▍▎▏·"),
        );
        bar.set_prefix(message);
        Self(bar)
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0
            .set_message(format!("{} of {}", bytes(done), bytes(total)));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
