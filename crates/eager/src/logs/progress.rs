//! Progress on standard error: a bar a phase on a terminal, a log line now and then where there is none.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Most often that a line is logged where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// All bars of the process, so that log lines can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One phase's way from 0 to its end.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    phase: String,
    last_line: Instant,
}

impl Progress {
    /// A phase of `total` steps, `done` of which were done before.
    #[must_use]
    pub fn new(phase: &str, total: u64, done: u64) -> Self {
        let template =
            "{prefix:>10} [{bar:30}] {human_pos}/{human_len} {elapsed}, {eta} left  {wide_msg}";
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let bar = BARS.add(bar.with_style(style).with_prefix(phase.to_owned()));
        bar.set_position(done);
        bar.reset_eta(); // what was done before says nothing of the speed
        Self {
            bar,
            phase: phase.to_owned(),
            last_line: Instant::now(),
        }
    }

    /// `done` steps are done.
    pub fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        if BARS.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let total = self.bar.length().unwrap_or(done);
            let left = self.bar.eta().as_secs();
            let message = self.bar.message();
            tracing::info!("{}: {done}/{total}, {left} s left  {message}", self.phase);
        }
    }

    /// What stands beside the bar.
    pub fn message(&mut self, message: String) {
        self.bar.set_message(message);
    }

    /// Another number of steps in all, where it is known only on the way.
    pub fn set_total(&mut self, total: u64) {
        self.bar.set_length(total);
    }

    /// Takes the bar away.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A stage's own words (a table, a report) on standard error, above the bars; not with `-q`.
pub fn say(text: &str) {
    if tracing::enabled!(tracing::Level::INFO) {
        let _ = LogWriter.write_all(format!("\n{text}\n\n").as_bytes());
    }
}

/// Sends log lines to standard error: `info` and above; with `verbosity` 1 `debug`, with -1 `warn` and no bars. The first
/// call of a process counts.
pub fn init(verbosity: i8) {
    if verbosity < 0 {
        BARS.set_draw_target(ProgressDrawTarget::hidden());
    }
    let _ = tracing_subscriber::fmt()
        .with_max_level(level(verbosity))
        .with_target(false)
        .with_timer(SinceStart(Instant::now()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(|| LogWriter)
        .try_init();
}

/// As [`init`], an object a line, with the time of day.
pub fn init_json(verbosity: i8) {
    let _ = tracing_subscriber::fmt()
        .with_max_level(level(verbosity))
        .with_target(false)
        .with_writer(|| LogWriter)
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .try_init();
}

fn level(verbosity: i8) -> tracing::Level {
    match verbosity {
        ..0 => tracing::Level::WARN,
        0 => tracing::Level::INFO,
        1.. => tracing::Level::DEBUG,
    }
}

/// Seconds since the program's start, before a log line.
struct SinceStart(Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{:>8.1} s", self.0.elapsed().as_secs_f64())
    }
}

/// Standard error for `tracing-subscriber`, so that log lines do not run into the bars.
#[derive(Debug)]
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        BARS.suspend(|| std::io::stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
