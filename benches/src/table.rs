//! The table of results.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use eager::run::write_atomic;

use crate::machine::Machine;
use crate::sides::Spread;

/// Where results are kept: beside this program's sources.
pub const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

/// The greatest share of the processors that other programs may use for a run to count.
const QUIET: f64 = 0.05;

/// What a ratio must be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison.
    None,
}

/// One comparison.
struct Row {
    what: String,
    peer: String,
    figures: Option<Figures>,
}

struct Figures {
    ours: String,
    theirs: String,
    ratio: Spread,
    goal: Goal,
}

/// Comparisons and what is to be said of them.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
    /// The greatest share of the processors that other programs used while a side was measured.
    elsewhere: f64,
}

impl Table {
    /// Takes down what other programs used while a side was measured.
    pub fn busy(&mut self, elsewhere: f64) {
        self.elsewhere = self.elsewhere.max(elsewhere);
    }

    /// Adds a comparison.
    pub fn row(
        &mut self,
        what: &str,
        peer: &str,
        [ours, theirs]: [String; 2],
        ratio: Spread,
        goal: Goal,
    ) {
        self.rows.push(Row {
            what: what.to_owned(),
            peer: peer.to_owned(),
            figures: Some(Figures {
                ours,
                theirs,
                ratio,
                goal,
            }),
        });
    }

    /// Says that something was not measured.
    pub fn not_measured(&mut self, what: &str) {
        self.rows.push(Row {
            what: what.to_owned(),
            peer: String::new(),
            figures: None,
        });
    }

    /// Adds a note, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The table and the notes.
    pub fn markdown(&self) -> String {
        let noisy = self.elsewhere > QUIET;
        let mut text = String::new();
        if noisy {
            let _ = writeln!(
                text,
                "**Do not quote these ratios.** Other programs used up to {:.0} % of the processors while a side was measured \
                 (at most {:.0} % counts as quiet); that slows peers whose threads spin far more than ours.\n",
                100.0 * self.elsewhere,
                100.0 * QUIET
            );
        }
        text += "| | ours | peer | | ratio, median (least – greatest) | must reach | reached |\n\
            | --- | --- | --- | --- | --- | --- | --- |\n";
        for Row {
            what,
            peer,
            figures,
        } in &self.rows
        {
            let Some(Figures {
                ours,
                theirs,
                ratio,
                goal,
            }) = figures
            else {
                let _ = writeln!(text, "| {what} | not measured | | | | | |");
                continue;
            };
            let (must, reached) = match *goal {
                Goal::AtLeast(goal) => (format!("≥ {goal}"), Some(ratio.median >= goal)),
                Goal::AtMost(goal) => (format!("≤ {goal}"), Some(ratio.median <= goal)),
                Goal::None => (String::new(), None),
            };
            let reached = match reached {
                Some(_) if noisy => "machine busy",
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let Spread { median, min, max } = *ratio;
            let _ = writeln!(
                text,
                "| {what} | {ours} | {peer} | {theirs} | {} ({} – {}) | {must} | {reached} |",
                short(median),
                short(min),
                short(max)
            );
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}.");
        }
        text
    }

    /// Writes the machine's file of results into `folder`, whole or not at all.
    pub fn write(&self, folder: &Path, machine: &Machine) -> Result<PathBuf> {
        let path = folder.join(format!("{}.md", machine.file_name()));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
        let versions = machine.versions.iter();
        let versions: Vec<String> = versions.map(|(name, v)| format!("{name} {v}")).collect();
        let text = format!(
            "# {}\n\n{}, by `eager-bench all`. {}.\n\n{}",
            machine.title(),
            machine.date,
            versions.join(", "),
            self.markdown()
        );
        write_atomic(&path, text.as_bytes())?;
        Ok(path)
    }
}

/// Three digits that count.
pub fn short(x: f64) -> String {
    match x {
        x if x >= 99.5 => format!("{x:.0}"),
        x if x >= 9.95 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}
