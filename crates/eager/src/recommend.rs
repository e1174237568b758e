//! `eager recommend`: a finished run and histories in, item ids out, for one history or a file of them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use eager_bundle::{Bundle, Filter, Query, Ranked};
use serde::{Deserialize, Serialize};

use crate::bundle;
use crate::cli::DeviceKind;

/// Users whose lists are made and written at a time: what is held in memory.
const USERS: usize = 1024;

/// Which run, which histories, what of the lists.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Recommend {
    /// A run's folder, trained up to stage `model` (runs/DATASET/NAME), or a bundle's
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

/// Item numbers of ids; `place` says where they were read.
fn numbers(bundle: &Bundle, ids: &[String], place: impl Fn() -> String) -> Result<Vec<u32>> {
    if ids.is_empty() {
        bail!("{}: the history is empty; give at least one item", place())
    }
    let ids: Vec<&str> = ids.iter().map(|id| id.trim()).collect();
    bundle.numbers(&ids).with_context(place)
}

fn recommend(
    bundle: &Bundle,
    histories: Vec<Vec<u32>>,
    args: &Recommend,
) -> Result<Vec<Vec<Ranked>>> {
    let query = |history| Query {
        history,
        k: args.k,
        filter: Filter {
            exclude_seen: args.exclude_seen,
            ..Filter::default()
        },
        ..Query::default()
    };
    let queries: Vec<Query> = histories.into_iter().map(query).collect();
    Ok(bundle.recommend(&queries)?)
}

fn listed<'a>(bundle: &'a Bundle, ranked: &[Ranked]) -> Vec<Listed<'a>> {
    let of = |r: &Ranked| {
        let item = &bundle.items()[r.item as usize];
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

/// Does what was asked for, onto standard output.
///
/// # Errors
/// When the run is not trained, a history names an unknown item, or a line is none.
pub fn run(args: &Recommend) -> Result<()> {
    let bundle = bundle::open(&args.run, &args.device.open()?)?;
    let mut out = std::io::stdout().lock();
    let Some(users) = &args.users else {
        let history = numbers(&bundle, &args.history, || "--history".to_owned())?;
        let lists = recommend(&bundle, vec![history], args)?;
        for list in &lists {
            let items = listed(&bundle, list);
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
            histories.push(numbers(&bundle, &user.history, place)?);
            names.push(user.user);
        }
        if histories.is_empty() {
            break;
        }
        let lists = recommend(&bundle, histories, args)?;
        for (user, list) in names.iter().zip(&lists) {
            let list = List {
                user: user.as_deref(),
                items: listed(&bundle, list),
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
