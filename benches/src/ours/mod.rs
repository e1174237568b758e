//! Our side of every job, a process of its own; see [`crate::sides`] for the protocol.

mod kmeans;
mod search;
mod text;
mod train;

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::sides::{Peak, Round};

/// What is done.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Job {
    Train,
    Search,
    Kmeans,
    Text,
}

impl Job {
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Search => "search",
            Self::Kmeans => "kmeans",
            Self::Text => "text",
        }
    }
}

/// Does a workload.
pub fn run(job: Job, workload: &Path) -> Result<()> {
    match job {
        Job::Train => train::run(workload),
        Job::Search => search::run(workload),
        Job::Kmeans => kmeans::run(workload),
        Job::Text => text::run(workload),
    }
}

/// Says `ready`, then does a round for every line of the input. `round` gives the units that it did.
fn serve(mut ready: Value, mut round: impl FnMut() -> Result<usize>) -> Result<()> {
    ready["ready"] = json!(true);
    say(&ready)?;
    reset_peak();
    for line in std::io::stdin().lock().lines() {
        line?;
        let begin = std::time::Instant::now();
        let units = round()? as f64;
        let seconds = begin.elapsed().as_secs_f64();
        say(&serde_json::to_value(Round { seconds, units })?)?;
    }
    say(&serde_json::to_value(Peak {
        peak_bytes: peak_bytes(),
    })?)
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Sets the peak to what is resident now; see proc(5).
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// `VmHWM`; 0 where there is no `/proc`.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map_or(0, |k| k * 1024)
}
