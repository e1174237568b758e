//! Two programs that do the same work by turns: neither computes while the other does, and a ratio is of two rounds that
//! follow each other, so that what the machine does beside falls on both.
//!
//! A side is a process. It is started with a workload, loads it, warms up and writes a line of JSON, `{"ready": true, …}`
//! with what proves that it does the same work. For each line that it reads it does one round and writes
//! `{"seconds": …, "units": …}`; when its input ends, `{"peak_bytes": …}`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

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
    /// Largest resident memory of the process from its first round on; of a peer on a GPU, of its tensors there.
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

    /// One round, and the share of the machine's processors that other programs used in it; `None` where that is not known.
    ///
    /// The share matters: threads that wait for each other in a spin, as OpenMP's do, become tens of times slower when they
    /// do not get their processors, and a ratio to such a peer says nothing.
    pub fn round(&mut self) -> Result<(Round, Option<f64>)> {
        let spent = |side: &Self| Some((ticks::machine()?, ticks::process(side.child.id())?));
        let (before, begin) = (spent(self), Instant::now());
        let round = self.one_round()?;
        let seconds = begin.elapsed().as_secs_f64();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let elsewhere = before.zip(spent(self)).map(|(before, after)| {
            let others = (after.0 - before.0) - (after.1 - before.1);
            (others / ticks::HZ / seconds / cores).clamp(0.0, 1.0)
        });
        Ok((round, elsewhere))
    }

    fn one_round(&mut self) -> Result<Round> {
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

/// Processor time in ticks of 10 ms (`USER_HZ`), from Linux's `/proc`.
mod ticks {
    /// Ticks in a second.
    pub const HZ: f64 = 100.0;

    fn numbers(text: &str) -> Vec<f64> {
        let words = text.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// What all processors spent on anything but idling, since the machine started.
    pub fn machine() -> Option<f64> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let spent = numbers(stat.lines().next()?);
        // user, nice, system, idle, iowait, irq, softirq, steal
        Some(spent.get(..3)?.iter().chain(spent.get(5..8)?).sum())
    }

    /// What a process and its threads spent.
    pub fn process(id: u32) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields = stat.rsplit_once(')')?.1; // from field 3 on; user and system time are 14 and 15
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Some(numbers(&fields.get(11..13)?.join(" ")).iter().sum())
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
    /// Mean share of the machine's processors that other programs used in its rounds.
    pub elsewhere: f64,
}

/// Rounds of all sides by turns after one that does not count, the first side being the one that the others are compared with.
pub fn race(mut sides: Vec<Side>, rounds: usize) -> Result<Vec<Measured>> {
    let mut rates = vec![vec![]; sides.len()];
    let mut elsewhere = vec![0.0; sides.len()];
    // Not counted: while the other sides were starting, a side's memory may have been given back.
    for side in &mut sides {
        side.one_round()?;
    }
    for round in 1..=rounds {
        let mut line = format!("round {round} of {rounds}:");
        for ((side, rates), elsewhere) in sides.iter_mut().zip(&mut rates).zip(&mut elsewhere) {
            let (done, others) = side.round()?;
            *elsewhere += others.unwrap_or(0.0) / rounds as f64;
            rates.push(done.rate());
            line += &format!("  {} {:.2} s", side.name, done.seconds);
        }
        eprintln!("{line}");
    }
    let first = rates[0].clone();
    sides
        .into_iter()
        .zip(rates)
        .zip(elsewhere)
        .map(|((side, rates), elsewhere)| {
            let slower = first.iter().zip(&rates).map(|(first, own)| first / own);
            Ok(Measured {
                name: side.name.clone(),
                seconds: Spread::of(rates.iter().map(|rate| 1.0 / rate).collect()),
                slower: Spread::of(slower.collect()),
                ready: side.ready.clone(),
                elsewhere,
                peak_bytes: side.finish()?,
            })
        })
        .collect()
}
