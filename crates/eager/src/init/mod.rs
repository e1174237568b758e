//! `eager init`: files that nobody has described are looked at, read whole, and described by a manifest that the pipeline
//! runs on. What each column is and what is wrong is decided in `eager_data::{guess, survey}`, by the readers of the data
//! stage; here it is said, and written down.

mod manifest;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use eager_data::guess::{Asked, Guess, guess};
use eager_data::survey::{Left, Survey, survey};
use eager_data::{DataError, Manifest, TextTemplate};
use serde_json::json;

use crate::cli::{Usage, print};
use crate::run::write_atomic;
use crate::stages::FileBars;

/// Files to look at.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Init {
    /// A table of interactions, and one of items if there is one: .csv, .tsv, .jsonl (each also .gz), .parquet
    ///
    /// Which is which is told by their columns. Text separated otherwise (semicolons, tabs, bars) is read whatever its name;
    /// RecBole's .inter and .item too.
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The manifest to write; otherwise NAME.toml here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The dataset's name, and that of its folder under runs/; otherwise that of the manifest or of the first file
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which of the files has the interactions
    #[arg(long, value_name = "FILE")]
    pub interactions: Option<PathBuf>,
    /// Column of the interactions with the user
    #[arg(long, value_name = "COLUMN")]
    pub user: Option<String>,
    /// Column of the interactions with the item
    #[arg(long, value_name = "COLUMN")]
    pub item: Option<String>,
    /// Column of the interactions with the time: numbers in any unit, or ISO 8601 dates
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// There are no times: each user's rows are in order
    #[arg(long, conflicts_with = "time")]
    pub no_time: bool,
    /// Column of the items with the id
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// Columns of the items that make their text, in order; otherwise those that look like it
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub text: Vec<String>,
    /// Write the manifest over one that is there, and even where files have faults (the pipeline stops at the first)
    #[arg(long)]
    pub force: bool,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "Examples:
  eager init orders.csv articles.csv --out my-shop.toml
  eager init clicks.parquet --user visitor --item page
  eager init log.jsonl.gz items.csv --text name,colour,category

The files are read whole; nothing is copied or changed. Faults are named by file and line (in Parquet: row), all kinds
at once, and nothing is written while there is one, because the pipeline would stop at it. The manifest is a short text
file with comments: change it as you like (docs/datasets.md).

Exit code: 0 the manifest is written, 1 there are faults or it cannot be told what a column is, 2 wrong usage.";

/// What the pipeline is to do with the data.
struct Choice {
    name: String,
    left: Left,
    template: TextTemplate,
}

impl Init {
    /// Looks, reads, says, writes.
    ///
    /// # Errors
    /// When it cannot be told what a column is, when there are faults, or when the manifest cannot be written.
    pub fn run(&self) -> Result<()> {
        let (name, out) = self.place().map_err(|error| Usage::new(&error))?;
        let guess = guess(&self.files, &self.asked()).map_err(blamed)?;
        let mut template = TextTemplate {
            parts: guess.text.clone(),
            ..TextTemplate::default()
        };
        let mut bars = FileBars::new("reading");
        let found = survey(&guess, &template, &mut |p| {
            bars.show(p.what, p.done, p.total)
        })?;
        drop(bars);
        if found.without_text.is_some() {
            template.fallback = Some("item {id}".to_owned());
        }
        let faults = faults(&guess, &found);
        let choice = found.filters.iter().find(|left| enough(left, &found));
        let choice = choice.or(found.filters.last()).map(|&left| Choice {
            name,
            left,
            template,
        });
        let writes = choice.filter(|_| faults.is_empty() || self.force);
        if let Some(choice) = &writes {
            let folder = out.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(folder).with_context(|| {
                format!(
                    "{}: cannot make the manifest's folder; give another place with --out",
                    folder.display()
                )
            })?;
            let text = manifest::text(&guess, &found, choice, &out)?;
            manifest::check(&text, &out)?;
            write_atomic(&out, text.as_bytes())?;
        }
        // Not before it is written, as it says so.
        self.print(&guess, &found, writes.as_ref(), &out)?;
        match (faults.as_slice(), &writes) {
            ([], Some(_)) => Ok(()),
            (faults, Some(_)) => {
                let faults = faults.join("; ");
                tracing::warn!(
                    "{faults}; {} is written all the same, and the pipeline will stop there",
                    out.display()
                );
                Ok(())
            }
            (faults, None) => bail!(
                "{}; {} was not written: mend the files and give the command again",
                faults.join("; "),
                out.display()
            ),
        }
    }

    /// The dataset's name and the manifest's path; said before the files are read.
    fn place(&self) -> Result<(String, PathBuf)> {
        let stem = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stem = name
                .split('.')
                .find(|part| !part.is_empty())
                .unwrap_or("data");
            let plain = stem.chars().map(|c| {
                if c.is_ascii_alphanumeric() || "-_".contains(c) {
                    c
                } else {
                    '-'
                }
            });
            let plain = plain.collect::<String>().to_lowercase();
            // What begins with `-` is an option to the command, and of a name in other letters nothing else is left.
            match plain.trim_matches('-') {
                "" => "data".to_owned(),
                name => name.to_owned(),
            }
        };
        let from = self
            .out
            .as_ref()
            .or(self.interactions.as_ref())
            .unwrap_or(&self.files[0]);
        let name = self.name.clone().unwrap_or_else(|| stem(from));
        ensure!(
            Manifest::is_name(&name),
            "--name {name}: it becomes a folder: use letters, digits, - and _"
        );
        ensure!(
            !Manifest::presets().any(|preset| preset == name),
            "`{name}` is the name of a preset, and the two would share a folder of runs; give another with --name"
        );
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
        ensure!(
            self.force || !out.exists(),
            "{}: is there already; give --force to write over it, or another name with --out",
            out.display()
        );
        Ok((name, out))
    }

    fn asked(&self) -> Asked {
        Asked {
            interactions: self.interactions.clone(),
            user: self.user.clone(),
            item: self.item.clone(),
            time: self.time.clone(),
            no_time: self.no_time,
            id: self.id.clone(),
            text: self.text.clone(),
        }
    }

    fn print(
        &self,
        guess: &Guess,
        found: &Survey,
        choice: Option<&Choice>,
        out: &Path,
    ) -> Result<()> {
        let text = if self.json {
            let roles = guess.roles.iter().map(|role| {
                json!({ "role": role.role, "file": role.file, "column": role.column, "why": role.why })
            });
            let value = json!({
                "columns": roles.collect::<Vec<_>>(),
                "found": found,
                "filter": choice.map(|choice| choice.left),
                "manifest": choice.map(|_| out),
            });
            serde_json::to_string_pretty(&value)
                .context("what was found cannot be written as JSON")?
        } else {
            words::tell(guess, found, choice, out)
        };
        print(text.trim_end())
    }
}

/// What an option names and the files do not have is wrong usage, all else is a fault of the files.
fn blamed(error: DataError) -> anyhow::Error {
    match error {
        DataError::Asked { .. } => Usage::new(&error.into()).into(),
        error => error.into(),
    }
}

/// Whether a filter leaves enough to learn from: half of the interactions, and some users.
fn enough(left: &Left, found: &Survey) -> bool {
    left.interactions * 2 >= found.interactions && left.users >= 100
}

/// Why the pipeline could not run to its end, a reason a line.
fn faults(guess: &Guess, found: &Survey) -> Vec<String> {
    let mut reasons = Vec::new();
    if !found.is_sound() {
        let count: usize = found.faults.iter().map(|faults| faults.count).sum();
        let (kinds, one) = (found.faults.len(), count == 1);
        reasons.push(match one {
            true => "1 fault".to_owned(),
            false => format!(
                "{count} faults of {kinds} kind{}",
                if kinds == 1 { "" } else { "s" }
            ),
        });
    }
    let missing = found
        .undescribed
        .as_ref()
        .filter(|missing| missing.count == found.items);
    if let (Some(_), Some(items)) = (missing, &guess.items) {
        reasons.push(format!(
            "no item of {} is in {}, so that column `{}` of the one and `{}` of the other cannot be the same ids (--item, --id)",
            guess.interactions.path.display(),
            items.path.display(),
            guess.columns.item,
            guess.columns.id.as_ref().unwrap_or(&guess.columns.item)
        ));
    }
    if found.interactions > 0 && found.filters.iter().all(|left| left.users == 0) {
        let least = "no user has three interactions, which is what the split needs (one to train on, one to validate, one to test)";
        reasons.push(least.to_owned());
    }
    reasons
}
