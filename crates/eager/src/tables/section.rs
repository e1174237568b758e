//! A table's section on one dataset: means and deviations over seeds, differences to the best baseline with paired intervals
//! over users, hits in common with the best row, the paper's figures. It is what the JSON holds, and all that Markdown and
//! page are made of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use eager_data::{Manifest, Paper};
use eager_infer::metrics::{BootstrapConfig, CUTOFFS, Difference, Metrics, Rank};
use serde::Serialize;

use super::overlap::Overlap;
use super::{List, Record, Row};

/// What is chosen to be the best row and the best baseline.
pub const CHOSEN_BY: &str = "recall@10";

/// What is to be said before [`Table::not_compared`].
pub const NOT_COMPARED: &str =
    "Not compared user by user, as no baseline is of the same users and targets";

/// What is to be said before the commands.
pub const PLACES: &str = "Commands without their places: `--out`, `--data-dir`, and `--text-encoder`, which has to be the text \
    encoder named above.";

/// Seed of the bootstrap: of the table, not of a run.
const SEED: u64 = 2024;

/// One dataset of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Name of the dataset.
    pub dataset: String,
    /// See [`Row::group`].
    pub group: Option<String>,
    /// Users evaluated, of the first row that is there; 0 where no run is there.
    pub users: usize,
    /// Encoders of the semantic vectors, mostly one.
    pub text_encoders: Vec<String>,
    /// Title of the row with the highest recall@10.
    pub best: Option<String>,
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
    /// Whether the others are compared with it, or with a better one of these.
    pub baseline: bool,
    /// Which of the run's lists.
    pub list: List,
    /// Users evaluated; 0 where no run is there.
    pub users: usize,
    /// Each metric over the seeds; empty where no run is there.
    pub figures: BTreeMap<String, Cell>,
    /// Title of the best baseline of the same users with the same targets, if it is another row.
    pub against: Option<String>,
    /// The row less that baseline, user by user.
    pub difference: Option<BTreeMap<String, Difference>>,
    /// Whether every baseline is of other users or targets, so that no user can be compared with itself.
    pub other_targets: bool,
    /// Hits that it has in common with the best row: of runs with the same seed; of the best row itself, of runs with
    /// different seeds. `None` where there are none of the same users and targets.
    pub overlap: Option<Overlap>,
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

/// A row's runs with the figures and ranks of its list.
struct Ranked<'a> {
    row: &'a Row,
    records: &'a [Record],
    figures: BTreeMap<String, Cell>,
    ranks: Vec<Vec<Rank>>,
}

impl Table {
    /// From the rows of a group, with the records of each.
    ///
    /// # Errors
    /// When a run has no such list, or ranks cannot be read.
    pub fn new(
        group: Option<&str>,
        rows: &[(&Row, &[Record])],
        manifest: &Manifest,
        results: &Path,
    ) -> Result<Self> {
        let records = || rows.iter().flat_map(|(_, records)| records.iter());
        let mut text_encoders: Vec<String> = records().map(|r| r.text_encoder.clone()).collect();
        let users = records().next().map_or(0, |record| record.users);
        let rows: Vec<Ranked> = rows
            .iter()
            .map(|(row, records)| Ranked::read(row, records, results))
            .collect::<Result<_>>()?;
        let best = Ranked::best(&rows, |_| true);
        let cells = |ranked: &Ranked| -> Result<Cells> {
            let baseline = Ranked::best(&rows, |other| {
                other.row.baseline && other.comparable(ranked)
            });
            let against = baseline.filter(|other| !std::ptr::eq(*other, ranked));
            let any_baseline = Ranked::best(&rows, |other| other.row.baseline).is_some();
            let difference = against.map(|other| ranked.less(other)).transpose();
            Ok(Cells {
                title: ranked.row.title.clone(),
                paper: ranked.row.paper,
                baseline: ranked.row.baseline,
                list: ranked.row.list,
                users: ranked.records.first().map_or(0, |record| record.users),
                figures: ranked.figures.clone(),
                against: against.map(|other| other.row.title.clone()),
                difference: difference.with_context(|| ranked.row.title.clone())?,
                other_targets: !ranked.records.is_empty() && any_baseline && baseline.is_none(),
                overlap: best.and_then(|best| ranked.overlap(best)),
                runs: ranked.records.iter().map(Source::of).collect(),
            })
        };
        let cells = rows.iter().map(cells).collect::<Result<_>>()?;
        text_encoders.sort();
        text_encoders.dedup();
        // A baseline has none, which need not be said where others have one.
        if text_encoders.len() > 1 {
            text_encoders.retain(|name| name != "none");
        }
        Ok(Self {
            dataset: manifest.name.clone(),
            group: group.map(str::to_owned),
            users,
            text_encoders,
            best: best.map(|best| best.row.title.clone()),
            rows: cells,
            paper: manifest.paper.clone(),
        })
    }

    /// The dataset, and the group where rows have one.
    #[must_use]
    pub fn heading(&self) -> String {
        match &self.group {
            Some(group) => format!("{}, {group}", self.dataset),
            None => self.dataset.clone(),
        }
    }

    /// Columns after the figures: users where a row has others than [`users`](Self::users) says.
    pub fn last_columns(&self) -> &'static [&'static str] {
        let others = |row: &Cells| !row.runs.is_empty() && row.users != self.users;
        match self.rows.iter().any(others) {
            true => &["seeds", "users"],
            false => &["seeds"],
        }
    }

    /// Titles of the baselines that rows are compared with, in the order of those rows.
    pub fn baselines(&self) -> Vec<&str> {
        let mut found: Vec<&str> = vec![];
        for against in self.rows.iter().filter_map(|row| row.against.as_deref()) {
            if !found.contains(&against) {
                found.push(against);
            }
        }
        found
    }

    /// Rows without a baseline to be compared with, with their users.
    pub fn not_compared(&self) -> impl Iterator<Item = String> {
        let others = self.rows.iter().filter(|row| row.other_targets);
        others.map(|row| {
            let users = indicatif::HumanCount(row.users as u64);
            format!("{} ({users} users)", row.title)
        })
    }
}

impl Cells {
    /// The differences, if they are to that baseline.
    pub fn less(&self, baseline: &str) -> Option<&BTreeMap<String, Difference>> {
        let differences = self.difference.as_ref();
        differences.filter(|_| self.against.as_deref() == Some(baseline))
    }
}

impl<'a> Ranked<'a> {
    fn read(row: &'a Row, records: &'a [Record], results: &Path) -> Result<Self> {
        let ranks = |record: &Record| record.ranks(results, row.list.name());
        Ok(Self {
            row,
            records,
            figures: figures(row, records)?,
            ranks: records.iter().map(ranks).collect::<Result<_>>()?,
        })
    }

    /// The row with the highest mean of those that are there.
    fn best<'r>(rows: &'r [Self], of: impl Fn(&Self) -> bool) -> Option<&'r Self> {
        let mean = |row: &'r Self| Some((row, row.figures.get(CHOSEN_BY)?.mean));
        let rows = rows.iter().filter(|row| of(row)).filter_map(mean);
        rows.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(row, _)| row)
    }

    /// Whether runs are there, and every run of both is of the same users with the same targets.
    fn comparable(&self, other: &Self) -> bool {
        let (Some(first), false) = (self.records.first(), other.records.is_empty()) else {
            return false;
        };
        let mut all = self.records.iter().chain(other.records);
        all.all(|record| record.targets == first.targets)
    }

    /// Its runs less the other's, user by user.
    fn less(&self, other: &Self) -> Result<BTreeMap<String, Difference>> {
        let first: Vec<&[Rank]> = self.ranks.iter().map(Vec::as_slice).collect();
        let second: Vec<&[Rank]> = other.ranks.iter().map(Vec::as_slice).collect();
        let config = BootstrapConfig::default();
        let found = Metrics::paired_bootstrap(&first, &second, &CUTOFFS, &config, SEED)?;
        Ok(found.named().map(|(name, &d)| (name, d)).collect())
    }

    /// Hits in common with the best row.
    fn overlap(&self, best: &Self) -> Option<Overlap> {
        if !self.comparable(best) {
            return None;
        }
        let itself = std::ptr::eq(self, best);
        let mut pairs: Vec<(&[Rank], &[Rank])> = vec![];
        for (record, ranks) in self.records.iter().zip(&self.ranks) {
            for (other, of_best) in best.records.iter().zip(&best.ranks) {
                if (record.seed == other.seed) != itself {
                    pairs.push((ranks, of_best));
                }
            }
        }
        Overlap::of(&pairs)
    }
}

impl Source {
    fn of(record: &Record) -> Self {
        Self {
            command: record.command.clone(),
            digest: record.digest.clone(),
            seconds: record.seconds.values().sum(),
        }
    }
}

/// The figures of a row's list, over its seeds.
fn figures(row: &Row, records: &[Record]) -> Result<BTreeMap<String, Cell>> {
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
