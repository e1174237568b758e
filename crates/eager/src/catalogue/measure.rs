//! `eager catalog measure`: items of a trained run are removed from its bundle and added again as if they were new; how
//! often the test users whose target is one of them get it, before and after, and what stays of the other users' lists.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use candle_core::Device;
use clap::Args;
use eager_bundle::{AddConfig, Bundle, NewItems};
use eager_codes::{ItemVectors, nearest_by_cosine};
use eager_data::{Dataset, Example, Split};
use eager_infer::metrics::{BootstrapConfig, Metrics, Rank};
use eager_infer::{evaluate, popularity_ranks};
use eager_model::Stream;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::bundle;
use crate::cli::{Usage, print};
use crate::logs::Progress;
use crate::seed;

/// Lengths of lists.
const CUTOFFS: [usize; 2] = [10, 20];
/// Users with another target, drawn from the seed.
const OTHERS: usize = 2_000;

/// Which run, and which of its items.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct Measure {
    /// A run's folder, trained up to stage `model`: runs/DATASET/NAME
    pub run: PathBuf,
    /// Share of the items that is held out, drawn from the seed
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub hold_out: f64,
    /// Hold out instead every item with at most so many training interactions; 0: what training never saw
    #[arg(long, value_name = "N", conflicts_with = "hold_out")]
    pub seen_at_most: Option<u32>,
    /// Seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// From how many nearest neighbours a new row starts
    #[arg(long, value_name = "N", default_value_t = AddConfig::default().neighbours)]
    pub neighbours: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const HELP: &str = "The held-out items are removed from the run's bundle and added again with their semantic vectors alone. With \
--hold-out the model has seen them in training, and the rest of its weights is of that training; with --seen-at-most 0 it has \
not (their vectors had a part in the trees). Rows of the table:
  trained   the run as it is
  added     the items removed and added again
  popular   the most popular items of the training without the held-out ones
  nearest   the items nearest to the mean semantic vector of the history, the history left out";

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    held_out: usize,
    neighbours: usize,
    seed: u64,
    /// Users whose target is held out.
    target_held_out: Part,
    /// Some of the others.
    other_users: Part,
}

#[derive(Debug, Serialize)]
struct Part {
    users: usize,
    /// Row, column, figure.
    rows: BTreeMap<&'static str, BTreeMap<String, Recall>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Recall {
    value: f64,
    low: f64,
    high: f64,
}

/// Histories and targets by the ids' numbers in the run.
struct Users {
    histories: Vec<Vec<u32>>,
    targets: Vec<u32>,
}

impl Measure {
    /// Measures and prints.
    ///
    /// # Errors
    /// [`Usage`] when the share is none; when the run is not trained, or no user's target is held out.
    pub fn run(&self) -> Result<()> {
        let found = self.measure()?;
        if self.json {
            print(serde_json::to_string_pretty(&found)?)
        } else {
            print(table(&found).trim_end())
        }
    }

    fn measure(&self) -> Result<Found> {
        if !(self.hold_out > 0.0 && self.hold_out < 1.0) {
            let share = self.hold_out;
            let words = anyhow!("--hold-out {share}: expected a share above 0, below 1");
            return Err(Usage::new(&words).into());
        }
        if self.run.join("bundle.json").exists() {
            bail!(
                "{}: is a bundle, which has no users; give a run's folder",
                self.run.display()
            )
        }
        let trained = bundle::open(&self.run, &Device::Cpu)?;
        let dataset = Dataset::load(&self.run.join("data"))?;
        let split = Split::new(&dataset)?;
        let mut counts = split.train_counts();
        let held = self.held(&counts);
        let is_held = |item: u32| held.binary_search(&item).is_ok();

        let tested: Vec<Example> = (0..split.n_users())
            .filter_map(|user| split.test(user))
            .collect();
        let (with, without): (Vec<Example>, Vec<Example>) =
            tested.iter().partition(|example| is_held(example.target.0));
        if with.is_empty() {
            bail!(
                "none of {} users has one of the {} held-out items as the target; hold out more",
                tested.len(),
                held.len()
            )
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed::derive(self.seed, "other users"));
        let mut others =
            index::sample(&mut rng, without.len(), OTHERS.min(without.len())).into_vec();
        others.sort_unstable();
        let others: Vec<Example> = others.into_iter().map(|at| without[at]).collect();

        let semantic = trained.vectors(Stream::Semantic);
        let new = NewItems {
            items: held
                .iter()
                .map(|&item| trained.items()[item as usize].clone())
                .collect(),
            semantic: ItemVectors {
                dim: semantic.dim,
                data: held
                    .iter()
                    .flat_map(|&item| semantic.row(item))
                    .copied()
                    .collect(),
            },
            behaviour: None,
        };
        let config = AddConfig {
            neighbours: self.neighbours,
            ..AddConfig::default()
        };
        let added = trained.without_items(&held)?.with_items(&new, &config)?;
        held.iter().for_each(|&item| counts[item as usize] = 0);

        let all = 2 * (with.len() + others.len()) as u64;
        let mut progress = Progress::new("ranking", all, 0);
        let mut before = 0;
        let mut part = |examples: &[Example]| -> Result<Part> {
            let users = Users {
                histories: examples
                    .iter()
                    .map(|example| example.history.iter().map(|item| item.0).collect())
                    .collect(),
                targets: examples.iter().map(|example| example.target.0).collect(),
            };
            let mut rows = BTreeMap::new();
            for (name, bundle) in [("trained", &trained), ("added", &added)] {
                let row = self.recommended(&trained, bundle, &users, &mut |done| {
                    progress.set(before + done as u64);
                })?;
                before += users.targets.len() as u64;
                rows.insert(name, row);
            }
            let histories = users.histories();
            let masked = trained.manifest().infer.mask_history;
            let popular = popularity_ranks(&counts, &histories, &users.targets, masked)?;
            rows.insert("popular", self.figures("", &popular)?);
            rows.insert("nearest", self.figures("", &nearest(&trained, &users)?)?);
            Ok(Part {
                users: users.targets.len(),
                rows,
            })
        };
        let found = Found {
            held_out: held.len(),
            neighbours: self.neighbours,
            seed: self.seed,
            target_held_out: part(&with)?,
            other_users: part(&others)?,
        };
        progress.finish();
        Ok(found)
    }

    /// The held-out items, ascending.
    fn held(&self, counts: &[u32]) -> Vec<u32> {
        let n = counts.len();
        if let Some(most) = self.seen_at_most {
            let few = |&item: &u32| counts[item as usize] <= most;
            return (0..n as u32).filter(few).collect();
        }
        let amount = ((self.hold_out * n as f64).round() as usize).clamp(1, n - 1);
        let mut rng = ChaCha8Rng::seed_from_u64(seed::derive(self.seed, "held out"));
        let drawn = index::sample(&mut rng, n, amount).into_iter();
        let mut held: Vec<u32> = drawn.map(|item| item as u32).collect();
        held.sort_unstable();
        held
    }

    /// Recalls of the merged list and of each stream's, by a bundle whose numbers of items may be others.
    fn recommended(
        &self,
        trained: &Bundle,
        bundle: &Bundle,
        users: &Users,
        progress: &mut dyn FnMut(usize),
    ) -> Result<BTreeMap<String, Recall>> {
        let ids: Vec<&str> = trained
            .items()
            .iter()
            .map(|item| item.id.as_str())
            .collect();
        let numbers = bundle.numbers(&ids)?;
        let number = |&item: &u32| numbers[item as usize];
        let histories: Vec<Vec<u32>> = users
            .histories
            .iter()
            .map(|history| history.iter().map(number).collect())
            .collect();
        let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
        let targets: Vec<u32> = users.targets.iter().map(number).collect();
        let infer = &trained.manifest().infer;
        let ranks = evaluate(bundle.recommender(), &histories, &targets, infer, progress)?;
        let mut row = self.figures("", &ranks.merged)?;
        row.extend(self.figures("behaviour ", &ranks.behaviour)?);
        row.extend(self.figures("semantic ", &ranks.semantic)?);
        Ok(row)
    }

    fn figures(&self, list: &str, ranks: &[Rank]) -> Result<BTreeMap<String, Recall>> {
        let metrics = Metrics::new(ranks, &CUTOFFS)?;
        let seed = seed::derive(self.seed, "intervals");
        let intervals = Metrics::bootstrap(ranks, &CUTOFFS, &BootstrapConfig::default(), seed)?;
        let at = |k: usize| -> Result<(String, Recall)> {
            let value = metrics.at(k).context("no figures")?.recall;
            let interval = &intervals.at(k).context("no intervals")?.recall;
            let recall = Recall {
                value,
                low: interval.low,
                high: interval.high,
            };
            Ok((format!("{list}recall@{k}"), recall))
        };
        CUTOFFS.into_iter().map(at).collect()
    }
}

impl Users {
    fn histories(&self) -> Vec<&[u32]> {
        self.histories.iter().map(Vec::as_slice).collect()
    }
}

/// Ranks of the targets among the items by the cosine to the mean semantic vector of the newest items of the history, as
/// many as the model reads; what is in the history is left out.
fn nearest(bundle: &Bundle, users: &Users) -> Result<Vec<Rank>> {
    let vectors = bundle.vectors(Stream::Semantic);
    let most = bundle.recommender().model().config().window - 1;
    let newest = |history: &[u32]| history[history.len().saturating_sub(most)..].to_vec();
    let histories: Vec<Vec<u32>> = users.histories.iter().map(|h| newest(h)).collect();
    let mut profiles = Vec::with_capacity(histories.len() * vectors.dim);
    for history in &histories {
        profiles.extend((0..vectors.dim).map(|at| {
            let sum: f32 = history.iter().map(|&item| vectors.row(item)[at]).sum();
            sum / history.len() as f32
        }));
    }
    let profiles = ItemVectors {
        dim: vectors.dim,
        data: profiles,
    };
    let near = nearest_by_cosine(vectors.checked()?, profiles.checked()?, CUTOFFS[1] + most)?;
    let ranks = near.into_iter().zip(&histories).zip(&users.targets);
    let ranks = ranks.map(|((near, history), &target)| {
        let list = near.into_iter().filter(|near| !history.contains(&near.row));
        let mut list = list.take(CUTOFFS[1]);
        let place = list.position(|near| near.row == target);
        place.map(|place| place as u32 + 1)
    });
    Ok(ranks.collect())
}

fn table(found: &Found) -> String {
    let mut text = format!(
        "{} items held out, seed {}, rows from {} neighbour{}\n",
        found.held_out,
        found.seed,
        found.neighbours,
        if found.neighbours == 1 { "" } else { "s" }
    );
    let parts = [
        ("users whose target is held out", &found.target_held_out),
        ("users with another target", &found.other_users),
    ];
    for (what, part) in parts {
        text += &format!(
            "\n{} {what}\n{:9}{:>24}{:>24}{:>17}{:>17}\n",
            part.users, "", "recall@10", "recall@20", "behaviour 10, 20", "semantic 10, 20"
        );
        for name in ["trained", "added", "popular", "nearest"] {
            let row = &part.rows[name];
            text += &format!("{name:9}");
            for column in ["recall@10", "recall@20"] {
                let Recall { value, low, high } = row[column];
                let cell = format!("{value:.4} ({low:.4}–{high:.4})");
                text += &format!("{cell:>24}");
            }
            for stream in Stream::ALL.map(Stream::name) {
                let figure = |k: usize| row.get(&format!("{stream} recall@{k}"));
                if let (Some(ten), Some(twenty)) = (figure(10), figure(20)) {
                    let cell = format!("{:.4} {:.4}", ten.value, twenty.value);
                    text += &format!("{cell:>17}");
                }
            }
            text.push('\n');
        }
    }
    text
}
