//! `eager recommend`: a finished run and histories in, item ids out, for one history or a file of them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use eager_data::{Dataset, Item};
use eager_infer::{InferConfig, Ranked, Recommender};
use serde::{Deserialize, Serialize};

use crate::cli::DeviceKind;
use crate::config::Config;
use crate::run::Stage;

/// Users whose lists are made and written at a time: what is held in memory.
const USERS: usize = 1024;

/// Which run, which histories, what of the lists.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Recommend {
    /// A run's folder, trained up to stage `model`: runs/DATASET/NAME
    pub run: PathBuf,

    /// Item ids as in the dataset, oldest first, separated by commas
    #[arg(
        long,
        value_name = "ID,ID,…",
        value_delimiter = ',',
        required_unless_present = "users",
        conflicts_with = "users"
    )]
    pub history: Vec<String>,

    /// A JSON Lines file, `-` for standard input: {"user": "any name", "history": ["id", …]} a line
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,

    /// Items of a list
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub k: usize,

    /// Leave out what is in the history
    #[arg(long)]
    pub exclude_seen: bool,

    /// Where tensors live
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,

    /// Print JSON for `--history` too
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "A list is JSON, one a line, in the order of the histories:
  {\"user\": \"u1\", \"items\": [{\"id\": \"…\", \"title\": \"…\", \"score\": -3.1, \"behaviour\": -3.1}, …]}
`score` is what the list is ranked by; `behaviour` and `semantic` are log-probabilities of the item's code in the streams
that predicted it.

Examples:
  eager recommend runs/demo/paper --history i12,i7,i301
  eager recommend runs/amazon-beauty/paper --users users.jsonl -k 20 --exclude-seen > lists.jsonl";

/// A line of the file of users.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    user: Option<String>,
    history: Vec<String>,
}

/// A line of the output.
#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    items: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    behaviour: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    semantic: Option<f32>,
}

/// A loaded run.
struct Bundle {
    recommender: Recommender,
    config: InferConfig,
    items: Vec<Item>,
    numbers: HashMap<String, u32>,
}

impl Bundle {
    fn load(args: &Recommend) -> Result<Self> {
        let folder = |stage: Stage| args.run.join(stage.name());
        let config = args.run.join("config.toml");
        let text = std::fs::read_to_string(&config).with_context(|| {
            let run = args.run.display();
            format!("{run} is no folder of a run: it has no config.toml; train one with `eager pipeline`")
        })?;
        let config: Config =
            toml::from_str(&text).with_context(|| format!("{}", config.display()))?;
        let items = Dataset::load(&folder(Stage::Data))?.items;
        let recommender = Recommender::load(&folder(Stage::Model), &args.device.open()?)
            .with_context(|| format!("the run {} has no trained model", args.run.display()))?;
        if items.len() != recommender.n_items() {
            bail!(
                "{}: the data have {} items, the model {}; run the pipeline again",
                args.run.display(),
                items.len(),
                recommender.n_items()
            )
        }
        let numbers = (0..).zip(&items).map(|(i, item)| (item.id.clone(), i));
        Ok(Self {
            recommender,
            config: InferConfig {
                beams: config.eval.infer.beams.max(args.k),
                mask_history: config.eval.infer.mask_history || args.exclude_seen,
                ..config.eval.infer
            },
            numbers: numbers.collect(),
            items,
        })
    }

    /// Item numbers of ids; `place` says where they were read.
    fn numbers(&self, ids: &[String], place: impl Fn() -> String) -> Result<Vec<u32>> {
        if ids.is_empty() {
            bail!("{}: the history is empty; give at least one item", place())
        }
        let number = |id: &String| {
            let number = self.numbers.get(id.trim()).copied();
            number.with_context(|| {
                format!(
                    "{}: item {id:?} is not in the run's data/items.jsonl; leave it out, or train on data that have it",
                    place()
                )
            })
        };
        ids.iter().map(number).collect()
    }

    fn recommend(&self, histories: &[Vec<u32>], k: usize) -> Result<Vec<Vec<Ranked>>> {
        let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
        Ok(self.recommender.recommend(&histories, k, &self.config)?)
    }

    fn listed(&self, ranked: &[Ranked]) -> Vec<Listed<'_>> {
        let of = |r: &Ranked| {
            let item = &self.items[r.item as usize];
            Listed {
                id: &item.id,
                title: item.title.as_deref(),
                score: r.score,
                behaviour: r.behaviour,
                semantic: r.semantic,
            }
        };
        ranked.iter().map(of).collect()
    }
}

/// Does what was asked for, onto standard output.
///
/// # Errors
/// When the run is not trained, a history names an unknown item, or a line is none.
pub fn run(args: &Recommend) -> Result<()> {
    let bundle = Bundle::load(args)?;
    let mut out = std::io::stdout().lock();
    let Some(users) = &args.users else {
        let history = bundle.numbers(&args.history, || "--history".to_owned())?;
        let lists = bundle.recommend(&[history], args.k)?;
        for list in &lists {
            let items = bundle.listed(list);
            if args.json {
                write_line(&mut out, &List { user: None, items })?;
            } else {
                write!(out, "{}", table(&items)).context("standard output")?;
            }
        }
        return Ok(());
    };
    let input: Box<dyn BufRead> = if users == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(users);
        Box::new(BufReader::new(file.with_context(|| {
            format!("{}: cannot be opened", users.display())
        })?))
    };
    let mut lines = (1usize..).zip(input.lines());
    let mut done = 0;
    loop {
        let (mut names, mut histories) = (vec![], vec![]);
        for (number, line) in lines.by_ref().take(USERS) {
            let place = || format!("{}:{number}", users.display());
            let line = line.with_context(place)?;
            let user: User = serde_json::from_str(&line).with_context(|| {
                format!(
                    "{}: expected {{\"user\": \"…\", \"history\": [\"id\", …]}}",
                    place()
                )
            })?;
            histories.push(bundle.numbers(&user.history, place)?);
            names.push(user.user);
        }
        if histories.is_empty() {
            break;
        }
        let lists = bundle.recommend(&histories, args.k)?;
        for (user, list) in names.iter().zip(&lists) {
            let list = List {
                user: user.as_deref(),
                items: bundle.listed(list),
            };
            write_line(&mut out, &list)?;
        }
        done += lists.len();
        tracing::info!("{done} users");
    }
    out.flush().context("standard output")
}

fn write_line(out: &mut impl Write, list: &List<'_>) -> Result<()> {
    serde_json::to_writer(&mut *out, list).context("standard output")?;
    out.write_all(b"\n").context("standard output")
}

/// A list to read.
fn table(items: &[Listed<'_>]) -> String {
    let width = items.iter().map(|item| item.id.len()).max().unwrap_or(0);
    let log_prob = |value: Option<f32>| value.map_or("–".to_owned(), |v| format!("{v:.2}"));
    let mut text = format!(
        "{:>4}  {:width$}  {:>9}  {:>8}  title\n",
        "rank", "item", "behaviour", "semantic"
    );
    for (rank, item) in (1..).zip(items) {
        text += &format!(
            "{rank:>4}  {:width$}  {:>9}  {:>8}  {}\n",
            item.id,
            log_prob(item.behaviour),
            log_prob(item.semantic),
            item.title.unwrap_or("")
        );
    }
    text
}
