//! Two programs that do the same work by turns: neither computes while the other does, and a ratio is of two rounds that
//! follow each other, so that what the machine does beside falls on both.
//!
//! A side is a process. It is started with a workload, loads it, warms up and writes a line of JSON, `{"ready": true, …}`
//! with what proves that it does the same work. For each line that it reads it does one round and writes
//! `{"seconds": …, "units": …}`; when its input ends, `{"peak_bytes": …}`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Wall time.
    pub seconds: f64,
    /// What was done in it: updates, users, texts, clusterings.
    pub units: f64,
}

impl Round {
    fn rate(self) -> f64 {
        self.units / self.seconds
    }
}

/// The last line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Peak {
    /// Largest resident memory of the process from its first round on.
    pub peak_bytes: u64,
}

/// A program that is ready.
pub struct Side {
    pub name: String,
    /// What it said when it was ready.
    pub ready: Value,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Side {
    /// Starts a program and waits until it is ready.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        eprintln!("starting {name}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name}: cannot start {:?}", command.get_program()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        let mut side = Self {
            name: name.to_owned(),
            ready: Value::Null,
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        side.ready = side.read()?;
        Ok(side)
    }

    /// One round.
    pub fn round(&mut self) -> Result<Round> {
        let input = self.input.as_mut().context("the side has ended")?;
        // Where it has ended, the line that does not come says so.
        let _ = input.write_all(b"\n").and_then(|()| input.flush());
        self.read()
    }

    /// Ends the program: its peak memory.
    pub fn finish(mut self) -> Result<u64> {
        drop(self.input.take());
        let Peak { peak_bytes } = self.read()?;
        self.child.wait()?;
        Ok(peak_bytes)
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let Some(line) = self.output.next() else {
            let status = self.child.wait()?;
            bail!("{} ended ({status}); its own message is above", self.name)
        };
        let line = line?;
        serde_json::from_str(&line)
            .with_context(|| format!("{}: not a line of the protocol: {line}", self.name))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Already gone after `finish`.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Median, least and greatest of some numbers.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of a number that was taken once.
    pub fn one(value: f64) -> Self {
        Self {
            median: value,
            min: value,
            max: value,
        }
    }

    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        Self {
            median: (values[(n - 1) / 2] + values[n / 2]) / 2.0,
            min: values[0],
            max: values[n - 1],
        }
    }
}

/// A side over all rounds.
pub struct Measured {
    pub name: String,
    /// Seconds a unit.
    pub seconds: Spread,
    /// How many times as fast the first side is, of rounds that follow each other.
    pub slower: Spread,
    pub peak_bytes: u64,
    pub ready: Value,
}

/// Rounds of all sides by turns, the first side being the one that the others are compared with.
pub fn race(mut sides: Vec<Side>, rounds: usize) -> Result<Vec<Measured>> {
    let mut rates = vec![vec![]; sides.len()];
    for round in 1..=rounds {
        let mut line = format!("round {round} of {rounds}:");
        for (side, rates) in sides.iter_mut().zip(&mut rates) {
            let done = side.round()?;
            rates.push(done.rate());
            line += &format!("  {} {:.2} s", side.name, done.seconds);
        }
        eprintln!("{line}");
    }
    let first = rates[0].clone();
    sides
        .into_iter()
        .zip(rates)
        .map(|(side, rates)| {
            let slower = first.iter().zip(&rates).map(|(first, own)| first / own);
            Ok(Measured {
                name: side.name.clone(),
                seconds: Spread::of(rates.iter().map(|rate| 1.0 / rate).collect()),
                slower: Spread::of(slower.collect()),
                ready: side.ready.clone(),
                peak_bytes: side.finish()?,
            })
        })
        .collect()
}
