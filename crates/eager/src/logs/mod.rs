//! What a training loop says while it runs: `metrics.jsonl` for programs, TensorBoard's event files for its viewer, a
//! progress bar for whoever waits. A loop that is resumed goes on in all three where its checkpoint was.

mod metrics;
mod progress;
mod tensorboard;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

pub use metrics::MetricsLog;
pub use progress::{Progress, init, init_json, say};
pub use tensorboard::TensorBoard;

/// The three of them, for one loop of a stage.
#[derive(Debug)]
pub struct TrainingLog {
    metrics: MetricsLog,
    board: TensorBoard,
    progress: Progress,
    /// The last value of every figure, beside the bar.
    shown: Vec<(String, f64)>,
    /// Examples since `since`, for the rate.
    examples: u64,
    since: Instant,
}

impl TrainingLog {
    /// Writes `metrics.jsonl` and `tensorboard/` in the stage's folder, and shows a bar of `steps` steps called `phase`.
    /// `resumed` is the last step of the checkpoint that the loop goes on from; what was logged after it is dropped.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn open(folder: &Path, phase: &str, steps: u64, resumed: Option<u64>) -> Result<Self> {
        Ok(Self {
            metrics: MetricsLog::open(&folder.join("metrics.jsonl"), resumed)?,
            board: TensorBoard::open(&folder.join("tensorboard"), resumed)?,
            progress: Progress::new(phase, steps, resumed.unwrap_or(0)),
            shown: Vec::new(),
            examples: 0,
            since: Instant::now(),
        })
    }

    /// After every step: moves the bar. `examples` is what the step learnt from.
    pub fn advance(&mut self, step: u64, examples: usize) {
        self.examples += examples as u64;
        self.progress.set(step);
    }

    /// Every so many steps: writes figures down, and shows them beside the bar with the examples a second since the last
    /// call that had any. The rate goes to TensorBoard too, but not to `metrics.jsonl`, which says the same of the same
    /// run every time.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn log(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.metrics.log(step, values)?;
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = (self.examples > 0).then(|| self.examples as f64 / seconds.max(1e-9));
        if let Some(rate) = rate {
            self.board
                .log(step, &[values, &[("examples_per_second", rate)]].concat())?;
            self.show("examples_per_second", rate);
            (self.examples, self.since) = (0, Instant::now());
        } else {
            self.board.log(step, values)?;
        }
        for &(name, value) in values {
            self.show(name, value);
        }
        let shown = self.shown.iter();
        let shown: Vec<String> = shown
            .map(|(name, value)| format!("{name} {}", short(*value)))
            .collect();
        self.progress.message(shown.join("  "));
        Ok(())
    }

    fn show(&mut self, name: &str, value: f64) {
        match self.shown.iter_mut().find(|(shown, _)| shown == name) {
            Some((_, shown)) => *shown = value,
            None => self.shown.push((name.to_owned(), value)),
        }
    }
}

/// About four digits.
fn short(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        0.01.. | 0.0 => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown = [1234.5, 0.5, 0.0, 0.0005, -2.0, f64::NAN].map(short);
        assert_eq!(
            shown,
            ["1234", "0.5000", "0.0000", "5.00e-4", "-2.0000", "NaN"]
        );
    }

    #[test]
    fn one_call_feeds_all_three() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = TrainingLog::open(folder.path(), "test", 10, None).unwrap();
        log.advance(1, 256);
        log.log(1, &[("loss", 0.5)]).unwrap();
        log.log(1, &[("valid/recall@10", 0.25)]).unwrap();
        drop(log);
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"loss\":0.5}\n{\"step\":1,\"valid/recall@10\":0.25}\n"
        );
        assert_eq!(
            folder
                .path()
                .join("tensorboard")
                .read_dir()
                .unwrap()
                .count(),
            1
        );

        let log = TrainingLog::open(folder.path(), "test", 10, Some(0)).unwrap();
        drop(log);
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(text, "");
        assert_eq!(
            folder
                .path()
                .join("tensorboard")
                .read_dir()
                .unwrap()
                .count(),
            2
        );
    }
}
