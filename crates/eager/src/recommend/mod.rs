//! `eager recommend`: a trained run or a bundle and histories in; ranked lists out, for one history or a table of users.

mod columns;
mod folder;
mod lists;
mod users;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ArgGroup, Args, ValueEnum};
use eager_bundle::{Bundle, Filter, ListKind, Query};
use eager_data::{LineFault, UserHistory, counted, read_ids};
use rayon::prelude::*;

use crate::bundle;
use crate::cli::{DeviceKind, Output, Usage, print};
use crate::logs::Progress;
use lists::{Explained, ListWriter, Shape, UserList};
use users::{Ids, Users};

pub use folder::{Input, Manifest, Named, Part, Settings};
pub use lists::Format;
pub use users::Unknown;

/// Items of a list explained at a time.
const EXPLAINED: usize = 128;

/// Which recommender, which histories, what of the lists, where to.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, group = ArgGroup::new("input").required(true))]
pub struct Recommend {
    /// A run's folder, trained up to stage `model` (runs/DATASET/NAME), or a bundle's
    pub run: PathBuf,

    /// Item ids as in the dataset, oldest first, separated by commas
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',', group = "input")]
    pub history: Vec<String>,

    /// A table of users: .jsonl, .csv, .tsv (each also .gz) or .parquet; `-` for JSON lines on standard input
    ///
    /// Columns `user` and `history` (a list, or ids separated by blanks), or `user` and `item`, an interaction a row: a
    /// user's rows together, oldest first. For a run of a table of your own, users and items may be called as there.
    #[arg(long, value_name = "FILE", group = "input")]
    pub users: Option<PathBuf>,

    /// Every user of the run's dataset, with all items they have
    #[arg(long, group = "input")]
    pub all_users: bool,

    /// What stands between the ids of a `history` that is one text; otherwise blanks
    #[arg(long, value_name = "TEXT")]
    pub separator: Option<String>,

    /// What to do with an id that the catalogue does not have, and with an empty history
    #[arg(long, value_name = "WHAT", default_value = "error")]
    pub unknown: Unknown,

    /// Length of a list
    #[arg(short, long, value_name = "N", default_value = "10", value_parser = one_or_more)]
    pub k: NonZeroUsize,

    /// Which list: both streams' predictions merged, or one stream's own
    #[arg(long, value_name = "KIND", default_value = "merged",
        value_parser = PossibleValuesParser::new(["merged", "behaviour", "semantic"]).map(list_kind))]
    pub list: ListKind,

    /// Leave out what is in the history
    #[arg(long)]
    pub exclude_seen: bool,

    /// Nothing but the items of this file, an id a line
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,

    /// None of the items of this file, an id a line
    #[arg(long, value_name = "FILE")]
    pub deny: Option<PathBuf>,

    /// Nothing but items of this category; may be given again for another one
    #[arg(long, value_name = "NAME")]
    pub category: Vec<String>,

    /// Say of every item which stream it comes from, with its codes and the log-probability of each token
    #[arg(long)]
    pub explain: bool,

    /// Where to: a file (.jsonl, .csv, .parquet), or a folder of part files that an interrupted command goes on with
    ///
    /// Otherwise standard output.
    #[arg(long, value_name = "FILE|FOLDER")]
    pub out: Option<PathBuf>,

    /// What lists are written in; otherwise as the file's name says, parquet in a folder, jsonl on standard output
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Users of a part file
    #[arg(long, value_name = "N", default_value = "8192", value_parser = one_or_more)]
    pub part_users: NonZeroUsize,

    /// Replace what is at `--out`
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Where tensors live
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceKind,

    /// Print JSON for `--history` too
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

const EXAMPLES: &str = "\
In JSON lines a list is an object, one a line, in the order of the users:
  {\"user\": \"u1\", \"items\": [{\"id\": \"…\", \"title\": \"…\", \"score\": -3.1, \"behaviour\": -3.1}, …]}
CSV and Parquet have a row an item: user, rank (from 1), item, score, behaviour, semantic, and direct where the model has a
direct head. `score` is what the list is ranked by; `behaviour` and `semantic` are log-probabilities of the item's code in the
streams that predicted it, `direct` is that of the item by the direct head.

Examples:
  eager recommend runs/demo/paper --history item-0012,item-0007,item-0301 --explain
  eager recommend runs/amazon-beauty/paper --all-users --exclude-seen --out lists/
  eager recommend shop.bundle --users users.csv -k 20 --out lists.csv
  eager recommend shop.bundle --users - --deny sold-out.txt < users.jsonl > lists.jsonl

A folder interrupted? Give the same command again.";

fn list_kind(name: String) -> ListKind {
    match name.as_str() {
        "behaviour" => ListKind::Behaviour,
        "semantic" => ListKind::Semantic,
        _ => ListKind::Merged,
    }
}

/// A number of an option.
pub(crate) fn one_or_more(text: &str) -> std::result::Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected 1 or more".to_owned())
}

fn usage(words: String) -> anyhow::Error {
    Usage::new(&anyhow!(words)).into()
}

/// Where lists go.
enum Target<'a> {
    Standard(Format),
    File(&'a Path, Format),
    Folder(&'a Path, Format),
}

impl Recommend {
    fn target(&self) -> Result<Target<'_>> {
        let Some(out) = &self.out else {
            let format = self.format.unwrap_or(Format::Jsonl);
            if format == Format::Parquet {
                return Err(usage("Parquet needs a file or a folder: give --out".into()));
            }
            return Ok(Target::Standard(format));
        };
        let extension = out.extension().and_then(|e| e.to_str());
        let named = extension.and_then(|e| Format::from_str(e, true).ok());
        // The name of a file, and of no folder.
        if let Some(other @ ("gz" | "json" | "tsv" | "txt" | "xlsx" | "zip")) = extension {
            return Err(usage(format!(
                "--out {}: lists are written as .jsonl, .csv or .parquet, not as .{other}",
                out.display()
            )));
        }
        let real = |path: &PathBuf| path.canonicalize().ok();
        if let Some(users) = self.users.as_ref().filter(|users| real(users).is_some())
            && real(users) == real(out)
        {
            return Err(usage(format!(
                "--out {}: is the file of the users; give another name",
                out.display()
            )));
        }
        match (named, self.format) {
            (Some(named), Some(format)) if named != format => Err(usage(format!(
                "--out {} and --format {} do not agree; leave one of them out",
                out.display(),
                format.name()
            ))),
            (Some(format), _) => Ok(Target::File(out, format)),
            (None, format) => Ok(Target::Folder(out, format.unwrap_or(Format::Parquet))),
        }
    }

    /// Makes sure that a file of lists can be at `path`: said before the work, not after it.
    fn can_be_made(&self, path: &Path) -> Result<()> {
        let wrong = |words: &str| usage(format!("{}: {words}", path.display()));
        if path.is_dir() {
            return Err(wrong(
                "is a folder; give a file's name, or a folder's that does not end in .jsonl, .csv or .parquet",
            ));
        }
        if path.exists() && !self.force {
            return Err(wrong("is there already; give another name, or --force"));
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            bail!(
                "{}: there is no folder {}; make it, or give another name",
                path.display(),
                folder.display()
            )
        }
        Ok(())
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// [`Usage`] when options do not agree, there is no such device, or something is at `--out` that is not to be replaced;
    /// when the run is not trained, a history names an unknown item, a line is none, or the lists cannot be written.
    pub fn run(&self) -> Result<()> {
        let target = self.target()?;
        if self.all_users && self.run.join("bundle.json").exists() {
            return Err(usage(format!(
                "--all-users: the bundle {} has no users; give the run's folder, or --users",
                self.run.display()
            )));
        }
        if let Target::File(path, _) = target
            && self.history.is_empty()
        {
            self.can_be_made(path)?;
        }
        let mut bundle = bundle::open(&self.run, &self.device.open()?)?;
        if let Target::Folder(..) = target {
            bundle::with_digest(&mut bundle)?;
        }
        let ids = Ids::new(&bundle, self.unknown);
        let scorer = Scorer {
            filter: self.filter(&bundle, &ids)?,
            bundle: &bundle,
            args: self,
        };
        if !self.history.is_empty() {
            return self.one(&scorer, &ids, target);
        }
        let users = Users::open(self, &bundle, ids)?;
        match target {
            Target::Standard(format) => {
                let mut writer = ListWriter::new(format, Output, scorer.shape())?;
                let total = users.check()?;
                scorer.write(&users, total, &mut writer)?;
                writer.finish()?;
            }
            Target::File(path, format) => {
                let total = users.check()?;
                folder::write_whole(path, |file| {
                    let mut writer = ListWriter::new(format, file, scorer.shape())?;
                    scorer.write(&users, total, &mut writer)?;
                    writer.finish()
                })?;
                print(path.display())?;
            }
            Target::Folder(path, format) => {
                folder::write(path, format, self, &scorer, &users)?;
                print(path.display())?;
            }
        }
        users.warn();
        Ok(())
    }

    /// One history's list: to read, or in a format.
    fn one(&self, scorer: &Scorer<'_>, ids: &Ids<'_>, target: Target<'_>) -> Result<()> {
        let fault = |words: String| anyhow!("--history: {words}");
        // As in a table, nothing between two commas is no id.
        let history = self.history.iter().filter(|id| !id.trim().is_empty());
        let (mut items, mut none) = (vec![], true);
        for id in history {
            none = false;
            items.extend(ids.number(id).map_err(fault)?);
        }
        if none {
            ids.none("the history is empty").map_err(fault)?;
        }
        let skipped = ids.take_skipped();
        if skipped > 0 {
            let skipped = counted(skipped, "id");
            tracing::warn!("--history: not in the catalogue, and left out: {skipped}");
        }
        if items.is_empty() {
            tracing::warn!("--history: without a known item the list is empty");
        }
        let user = UserHistory {
            user: String::new(),
            items,
        };
        let lists = scorer.lists(vec![user])?;
        let to_read = self.format.is_none() && !self.json;
        match target {
            Target::Standard(_) if to_read => {
                let text: String = lists
                    .iter()
                    .map(|list| list.table(scorer.bundle, scorer.shape()))
                    .collect();
                Output.write_all(text.as_bytes()).context("standard output")
            }
            Target::Standard(format) => {
                let mut writer = ListWriter::new(format, Output, scorer.shape())?;
                writer.write(scorer.bundle, &lists)?;
                writer.finish().map(drop)
            }
            Target::File(..) | Target::Folder(..) => Err(usage(
                "--out is for users; with --history the list goes to standard output".into(),
            )),
        }
    }

    /// The filter of every query; files are read and categories looked for before anything else is done.
    fn filter(&self, bundle: &Bundle, ids: &Ids<'_>) -> Result<Filter> {
        let numbers = |file: &PathBuf| -> Result<Vec<u32>> {
            let numbers = read_ids(file, &mut |id| ids.number(id).map_err(LineFault::Row))?;
            let skipped = ids.take_skipped();
            if skipped > 0 {
                let (file, skipped) = (file.display(), counted(skipped, "id"));
                tracing::warn!("{file}: not in the catalogue, and left out: {skipped}");
            }
            Ok(numbers)
        };
        if let Some(category) = self
            .category
            .iter()
            .find(|category| !bundle.categories().contains_key(*category))
        {
            bail!(
                "--category {category:?}: no item has it; the catalogue has {} categories",
                bundle.categories().len()
            )
        }
        let allow = self.allow.as_ref().map(|file| -> Result<Vec<u32>> {
            let allow = numbers(file)?;
            ensure!(
                !allow.is_empty(),
                "--allow {}: has no item of the catalogue, so that no list could have one",
                file.display()
            );
            Ok(allow)
        });
        Ok(Filter {
            exclude_seen: self.exclude_seen,
            allow: allow.transpose()?,
            deny: self.deny.as_ref().map_or(Ok(vec![]), &numbers)?,
            categories: self.category.clone(),
        })
    }
}

/// Makes lists of users.
struct Scorer<'a> {
    bundle: &'a Bundle,
    filter: Filter,
    args: &'a Recommend,
}

impl Scorer<'_> {
    fn shape(&self) -> Shape {
        Shape {
            direct: self.bundle.recommender().model().config().direct_head,
            explain: self.args.explain,
        }
    }

    /// Lists of all users into one writer, with a bar where their number is known.
    fn write<W: Write + Send>(
        &self,
        users: &Users<'_>,
        total: Option<u64>,
        writer: &mut ListWriter<W>,
    ) -> Result<()> {
        let mut pace = Pace::new(total, 0);
        users.each_batch(0, self.filter.queries_at_a_time(), &mut |batch| {
            let lists = self.lists(batch)?;
            writer.write(self.bundle, &lists)?;
            pace.advance(lists.len());
            Ok(())
        })
    }

    /// A list for each user, in their order; an empty one where no item of the history is known.
    fn lists(&self, users: Vec<UserHistory>) -> Result<Vec<UserList>> {
        let query = |user: &UserHistory| Query {
            history: user.items.clone(),
            k: self.args.k.get(),
            list: self.args.list,
            filter: self.filter.clone(),
        };
        let known = users.iter().filter(|user| !user.items.is_empty());
        let queries: Vec<Query> = known.map(query).collect();
        let mut ranked = self.bundle.recommend(&queries)?.into_iter();
        let mut lists: Vec<UserList> = users
            .into_iter()
            .map(|user| {
                let ranked = match user.items.is_empty() {
                    true => None,
                    false => ranked.next(),
                };
                UserList {
                    user,
                    ranked: ranked.unwrap_or_default(),
                    explained: vec![],
                }
            })
            .collect();
        if self.args.explain {
            lists
                .par_iter_mut()
                .try_for_each(|list| self.explain(list))?;
        }
        Ok(lists)
    }

    fn explain(&self, list: &mut UserList) -> Result<()> {
        for ranked in list.ranked.chunks(EXPLAINED) {
            let items: Vec<u32> = ranked.iter().map(|ranked| ranked.item).collect();
            let found = self.bundle.explain_each(&list.user.items, &items, 0)?;
            let found = ranked.iter().zip(&found);
            list.explained
                .extend(found.map(|(ranked, found)| Explained::new(ranked, found)));
        }
        Ok(())
    }
}

/// How far a long command is, on standard error.
struct Pace {
    bar: Option<Progress>,
    since: Instant,
    before: u64,
    done: u64,
}

impl Pace {
    /// Of `total` users, where that is known, `before` of which were done by an earlier command.
    fn new(total: Option<u64>, before: u64) -> Self {
        Self {
            bar: total.map(|total| Progress::new("users", total, before)),
            since: Instant::now(),
            before,
            done: before,
        }
    }

    fn rate(&self) -> f64 {
        (self.done - self.before) as f64 / self.since.elapsed().as_secs_f64().max(1e-9)
    }

    fn advance(&mut self, users: usize) {
        self.done += users as u64;
        let rate = self.rate();
        match &mut self.bar {
            Some(bar) => {
                bar.message(format!("{rate:.0} users/s"));
                bar.set(self.done);
            }
            None => tracing::info!("{} users, {rate:.0} users/s", self.done),
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if self.done > self.before && self.bar.take().is_some() {
            let (users, rate) = (self.done - self.before, self.rate());
            tracing::info!("{users} users, {rate:.0} users/s");
        }
    }
}
