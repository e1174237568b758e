//! A table's section: means and deviations over seeds, differences to the best baseline with paired intervals over users,
//! the paper's figures; as JSON and as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use eager_data::{Manifest, Paper};
use eager_infer::metrics::{BootstrapConfig, CUTOFFS, Difference, Metrics, Rank};
use serde::Serialize;

use super::{Plan, Record, Row};

/// What is chosen to be the best baseline.
const CHOSEN_BY: &str = "recall@10";

/// Seed of the bootstrap: of the table, not of a run.
const SEED: u64 = 2024;

/// One dataset of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Name of the dataset.
    pub dataset: String,
    /// Users evaluated; 0 where no run is there.
    pub users: usize,
    /// Encoders of the semantic vectors, mostly one.
    pub text_encoders: Vec<String>,
    /// Title of the row that the differences are to; `None` where no baseline is there.
    pub best_baseline: Option<String>,
    /// The rows.
    pub rows: Vec<Cells>,
    /// The published figures.
    pub paper: Option<Paper>,
}

/// One row on one dataset.
#[derive(Clone, Debug, Serialize)]
pub struct Cells {
    /// First column.
    pub title: String,
    /// Whether the paper's figures are about it.
    pub paper: bool,
    /// Which of the run's lists.
    pub list: &'static str,
    /// Each metric over the seeds; empty where no run is there.
    pub figures: BTreeMap<String, Cell>,
    /// The row less the best baseline, over the same users; `None` for that baseline and where one is missing.
    pub difference: Option<BTreeMap<String, Difference>>,
    /// Where the figures are from.
    pub runs: Vec<Source>,
}

/// A figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of a seed (n − 1); `None` of one seed.
    pub deviation: Option<f64>,
    /// The figure of each seed.
    pub seeds: BTreeMap<u64, f64>,
}

/// A run that a row is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// Its command, but for places.
    pub command: String,
    /// See [`Record::digest`].
    pub digest: String,
    /// Time of all stages, seconds.
    pub seconds: f64,
}

impl Table {
    /// From the records of each row.
    ///
    /// # Errors
    /// When ranks cannot be read, or are of other users.
    pub fn new(
        plan: &Plan,
        manifest: &Manifest,
        records: Vec<Vec<Record>>,
        results: &Path,
    ) -> Result<Self> {
        let figures: Vec<BTreeMap<String, Cell>> = plan
            .rows
            .iter()
            .zip(&records)
            .map(|(row, records)| cells(row, records))
            .collect::<Result<_>>()?;
        let mean = |row: usize| figures[row].get(CHOSEN_BY).map(|cell| cell.mean);
        let best = (0..plan.rows.len())
            .filter(|&row| plan.rows[row].baseline)
            .filter_map(|row| Some((row, mean(row)?)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(row, _)| row);
        let ranks = |row: usize| -> Result<Vec<Vec<Rank>>> {
            let list = plan.rows[row].list.name();
            let records = records[row].iter();
            records.map(|record| record.ranks(results, list)).collect()
        };
        let others = best.map(ranks).transpose()?;
        let mut rows = Vec::new();
        for (number, row) in plan.rows.iter().enumerate() {
            let difference = match &others {
                Some(others) if best != Some(number) && !records[number].is_empty() => {
                    Some(difference(&ranks(number)?, others).with_context(|| row.title.clone())?)
                }
                _ => None,
            };
            let source = |record: &Record| Source {
                command: record.command.clone(),
                digest: record.digest.clone(),
                seconds: record.seconds.values().sum(),
            };
            rows.push(Cells {
                title: row.title.clone(),
                paper: row.paper,
                list: row.list.name(),
                figures: figures[number].clone(),
                difference,
                runs: records[number].iter().map(source).collect(),
            });
        }
        let all = || records.iter().flatten();
        let mut text_encoders: Vec<String> = all().map(|r| r.text_encoder.clone()).collect();
        text_encoders.sort();
        text_encoders.dedup();
        Ok(Self {
            dataset: manifest.name.clone(),
            users: all().next().map_or(0, |record| record.users),
            text_encoders,
            best_baseline: best.map(|row| plan.rows[row].title.clone()),
            rows,
            paper: manifest.paper.clone(),
        })
    }
}

/// The figures of a row's list, over its seeds.
fn cells(row: &Row, records: &[Record]) -> Result<BTreeMap<String, Cell>> {
    let mut seeds: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for record in records {
        let list = row.list.name();
        let metrics = record.lists.get(list).with_context(|| {
            format!(
                "row {:?}: run {}-{} has no list {list:?}",
                row.title, record.run, record.seed
            )
        })?;
        for (name, &figure) in metrics.named() {
            seeds.entry(name).or_default().insert(record.seed, figure);
        }
    }
    let cell = |seeds: BTreeMap<u64, f64>| {
        let n = seeds.len() as f64;
        let mean = seeds.values().sum::<f64>() / n;
        let squares: f64 = seeds.values().map(|x| (x - mean) * (x - mean)).sum();
        Cell {
            mean,
            deviation: (seeds.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            seeds,
        }
    };
    let cells = seeds.into_iter().map(|(name, seeds)| (name, cell(seeds)));
    Ok(cells.collect())
}

/// A row's runs less the baseline's, user by user.
fn difference(row: &[Vec<Rank>], baseline: &[Vec<Rank>]) -> Result<BTreeMap<String, Difference>> {
    let row: Vec<&[Rank]> = row.iter().map(Vec::as_slice).collect();
    let baseline: Vec<&[Rank]> = baseline.iter().map(Vec::as_slice).collect();
    let config = BootstrapConfig::default();
    let found = Metrics::paired_bootstrap(&row, &baseline, &CUTOFFS, &config, SEED)?;
    Ok(found.named().map(|(name, &d)| (name, d)).collect())
}

/// The whole table for a reader.
#[must_use]
pub fn markdown(plan: &Plan, sections: &[Table], name: &str) -> String {
    let mut out = format!("# {}\n\n", plan.title);
    if !plan.about.is_empty() {
        let _ = writeln!(out, "{}\n", plan.about.trim());
    }
    let _ = writeln!(
        out,
        "A cell is the mean over seeds ± the standard deviation of one seed. A difference is to the best baseline of the \
         dataset by {CHOSEN_BY}, with its 95 % paired bootstrap interval over users; **bold** where the interval leaves out \
         0. Made by `cargo xtask tables {name}`; figures of every seed and all digits are in `{name}.json`.\n"
    );
    for section in sections {
        section.write(&mut out, plan);
    }
    out
}

impl Table {
    fn write(&self, out: &mut String, plan: &Plan) {
        let _ = writeln!(out, "## {}\n", self.dataset);
        if self.users == 0 {
            out.push_str("No run is there yet.\n\n");
            return;
        }
        let _ = writeln!(
            out,
            "{} users; text encoder: {}.\n",
            indicatif::HumanCount(self.users as u64),
            self.text_encoders.join(", ")
        );
        let head = |out: &mut String, first: &str, last: Option<&str>| {
            let mut names: Vec<&str> = plan.metrics.iter().map(String::as_str).collect();
            names.extend(last);
            let _ = writeln!(out, "| {first} | {} |", names.join(" | "));
            let _ = writeln!(out, "| --- |{}", " --- |".repeat(names.len()));
        };
        head(out, "", Some("seeds"));
        for row in &self.rows {
            let figure = |name: &String| {
                row.figures.get(name).map_or("–".to_owned(), |cell| {
                    let deviation = cell.deviation.map(|d| format!(" ± {d:.4}"));
                    format!("{:.4}{}", cell.mean, deviation.unwrap_or_default())
                })
            };
            let cells: Vec<String> = plan.metrics.iter().map(figure).collect();
            let seeds = row
                .figures
                .values()
                .next()
                .map_or(0, |cell| cell.seeds.len());
            let _ = writeln!(out, "| {} | {} | {seeds} |", row.title, cells.join(" | "));
        }
        if let Some(paper) = &self.paper
            && self.rows.iter().any(|row| row.paper)
        {
            let figure = |name: &String| {
                let figure = paper.figures.get(name);
                figure.map_or("–".to_owned(), |figure| format!("{figure:.4}"))
            };
            let cells: Vec<String> = plan.metrics.iter().map(figure).collect();
            let _ = writeln!(out, "| *the paper* | {} | |", cells.join(" | "));
            for row in self.rows.iter().filter(|row| row.paper) {
                let difference = |name: &String| {
                    let pair = row.figures.get(name).zip(paper.figures.get(name));
                    pair.map_or("–".to_owned(), |(ours, theirs)| {
                        format!("{:+.4}", ours.mean - theirs)
                    })
                };
                let cells: Vec<String> = plan.metrics.iter().map(difference).collect();
                let _ = writeln!(
                    out,
                    "| *{} less the paper* | {} | |",
                    row.title,
                    cells.join(" | ")
                );
            }
        }
        out.push('\n');
        if let Some(best) = &self.best_baseline
            && self.rows.iter().any(|row| row.difference.is_some())
        {
            head(out, &format!("less {best}"), None);
            for row in &self.rows {
                let Some(differences) = &row.difference else {
                    continue;
                };
                let cell = |name: &String| {
                    let Some(d) = differences.get(name) else {
                        return "–".to_owned();
                    };
                    let text = format!("{:+.4} ({:+.4} – {:+.4})", d.difference, d.low, d.high);
                    if d.low > 0.0 || d.high < 0.0 {
                        format!("**{text}**")
                    } else {
                        text
                    }
                };
                let cells: Vec<String> = plan.metrics.iter().map(cell).collect();
                let _ = writeln!(out, "| {} | {} |", row.title, cells.join(" | "));
            }
            out.push('\n');
        }
        if let Some(paper) = &self.paper {
            let _ = writeln!(out, "The paper: {}.\n", paper.source);
        }
        out.push_str("| run | digest | hours |\n| --- | --- | --- |\n");
        let mut seen = Vec::new();
        for source in self.rows.iter().flat_map(|row| &row.runs) {
            if !seen.contains(&&source.digest) {
                seen.push(&source.digest);
                let _ = writeln!(
                    out,
                    "| `{}` | `{}` | {:.2} |",
                    source.command,
                    &source.digest[..12.min(source.digest.len())],
                    source.seconds / 3600.0
                );
            }
        }
        out.push('\n');
    }
}
